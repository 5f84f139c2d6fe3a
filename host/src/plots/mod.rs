//! Pictures for people: SVG or PNG by the file's extension, no font or system library needed.

mod accuracy;
mod bounds;
mod canvas;
mod colours;
mod curves;
mod legend;
mod letters;
mod map;
mod quantization;
mod range_map;
mod raster;
mod reliability;
mod timeline;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use canvas::{Canvas, Form};
use csp_models::bundle::write_atomically;
use raster::Raster;

pub use accuracy::{Series, accuracy_bars, label_ratio_lines};
pub use bounds::{Bounds, MapError};
pub use curves::{Curve, training_curves};
pub use quantization::quantization;
pub use range_map::{Coloured, EmbeddingMap, RangeMap, embedding_map, range_map};
pub use reliability::reliability_diagram;
pub use timeline::{Timeline, trap_timeline};

use crate::progress::note;

/// Colours of the image alone, the place alone, and both.
const IMAGE: plotters::style::RGBColor = plotters::style::RGBColor(0x99, 0xa0, 0xa8);
const PLACE: plotters::style::RGBColor = plotters::style::RGBColor(0xe0, 0x9f, 0x3e);
const FUSED: plotters::style::RGBColor = plotters::style::RGBColor(0x2a, 0x7f, 0x62);

/// Why a picture was not drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Neither of the two.
    #[error("{path}: a picture is written as .png or .svg; end its name so", path = .path.display())]
    Form {
        /// The picture.
        path: PathBuf,
    },
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

/// What a picture is drawn on; its coordinates are pixels from the upper left.
type Area<'a> = plotters::prelude::DrawingArea<Canvas<'a>, plotters::coord::Shift>;

/// Whether a picture can be written under a name: to be asked before long work.
///
/// # Errors
/// [`PlotError::Form`] for an extension other than .png and .svg.
pub fn check_name(path: &Path) -> Result<(), PlotError> {
    form(path).map(|_| ())
}

fn form(path: &Path) -> Result<Form, PlotError> {
    Form::of(path).ok_or_else(|| PlotError::Form { path: path.into() })
}

/// Draws into memory and writes the file in one go, as what its name ends in. Says which letters a PNG lacks.
fn save(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), PlotError> {
    use plotters::prelude::*;
    let refuse = |reason: String| PlotError::Draw { path: path.into(), reason };
    let drawn = |canvas: Canvas<'_>| {
        let area = canvas.into_drawing_area();
        let drawn = area
            .fill(&WHITE)
            .map_err(Into::into)
            .and_then(|()| draw(&area))
            .and_then(|()| area.present().map_err(Into::into));
        drawn.map_err(|error| refuse(error.to_string()))
    };
    let bytes = match form(path)? {
        Form::Png => {
            let mut raster = Raster::new(size);
            drawn(Canvas::Png(&mut raster))?;
            if !raster.missing().is_empty() {
                let missing: String = raster.missing().iter().collect();
                let name = path.display();
                note(format_args!(
                    "{name}: a PNG has no letters {missing}: ? stands for them; an .svg shows them"
                ));
            }
            canvas::png(&raster.into_picture()).map_err(|error| refuse(error.to_string()))?
        }
        Form::Svg => {
            let mut svg = String::new();
            drawn(Canvas::Svg(SVGBackend::with_string(&mut svg, size)))?;
            svg.into_bytes()
        }
    };
    write_atomically(path, |out| out.write_all(&bytes))
        .map_err(|source| PlotError::Io { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_png_or_an_svg() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x.gif", "x.png.txt", "x", "png"] {
            let path = dir.path().join(name);
            let refusal = save(&path, (20, 20), |_| Ok(())).unwrap_err().to_string();
            assert!(refusal.contains(".png or .svg") && !path.exists(), "{refusal}");
            assert_eq!(check_name(&path).unwrap_err().to_string(), refusal);
        }
        for (name, start) in [("a.PNG", &b"\x89PNG"[..]), ("a.Svg", b"<svg")] {
            let path = dir.path().join(name);
            save(&path, (20, 20), |_| Ok(())).unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(start), "{name}");
        }
    }
}
