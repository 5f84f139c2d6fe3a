//! Pictures for people: SVG, readable by any browser, no font or system library needed.

mod accuracy;
mod range_map;

use std::path::{Path, PathBuf};

use csp_models::bundle::write_atomically;
use std::io::Write;

pub use accuracy::{Series, accuracy_bars, label_ratio_lines};
pub use range_map::{RangeMap, range_map};

/// Why a picture was not drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The drawing library refused.
    #[error("{path}: cannot draw: {reason}", path = .path.display())]
    Draw {
        /// The picture.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The file cannot be written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The picture.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Draws into memory and writes the file in one go.
fn save(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(
        &plotters::prelude::DrawingArea<plotters::prelude::SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), PlotError> {
    use plotters::prelude::*;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = area
            .fill(&WHITE)
            .map_err(Into::into)
            .and_then(|()| draw(&area))
            .and_then(|()| area.present().map_err(Into::into));
        drawn.map_err(|error| PlotError::Draw { path: path.into(), reason: error.to_string() })?;
    }
    write_atomically(path, |out| out.write_all(svg.as_bytes()))
        .map_err(|source| PlotError::Io { path: path.into(), source })
}
