//! Stated against true certainty.

use std::path::Path;

use plotters::prelude::*;

use super::{
    Area, FUSED, IMAGE, PLACE, PlotError,
    legend::{Legend, fitted},
    save,
};
use crate::evaluation::{Calibrations, Reliability};

/// Answers below which a bin says little: with ten, a share is right to about 15 points. Such bins are rings, and
/// no line leads to them.
const FEW: usize = 10;

/// Draws the reliability diagram of the image, the place and both: a dot for each bin of answers at
/// its mean confidence and accuracy, as large as its share of the answers; a ring for a bin of few. On the
/// diagonal they agree.
///
/// # Errors
/// [`PlotError`].
pub fn reliability_diagram(path: &Path, title: &str, calibration: &Calibrations) -> Result<(), PlotError> {
    let series: Vec<(&str, &Reliability, RGBColor)> = [
        calibration.image.as_ref().map(|image| ("image alone", image, IMAGE)),
        calibration.location.as_ref().map(|place| ("place alone", place, PLACE)),
        Some(("image and place", &calibration.fused, FUSED)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let entries: Vec<(String, RGBColor)> = (series.iter())
        .map(|(name, reliability, colour)| (format!("{name}, ECE {:.3}", reliability.ece), *colour))
        .collect();
    let (width, height) = (520, 520);
    let legend = Legend::new(&entries, width - 100);
    let (title, size) = fitted(title, 17, width - 28);
    save(path, (width, height + legend.height() + 22), |area| {
        let (upper, _) = area.split_vertically(height);
        let mut chart = ChartBuilder::on(&upper)
            .caption(title, ("sans-serif", size))
            .margin(14)
            .margin_right(36)
            .x_label_area_size(44)
            .y_label_area_size(66)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        let percent = |share: &f64| format!("{:.0} %", 100.0 * share);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.1))
            .x_labels(6)
            .y_labels(6)
            .x_desc("stated: probability of the class named")
            .y_desc("true: share named right")
            .x_label_formatter(&percent)
            .y_label_formatter(&percent)
            .draw()?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], BLACK.mix(0.35)))?;
        for (_, reliability, colour) in series {
            let n: usize = reliability.bins.iter().map(|bin| bin.n).sum();
            for known in reliability.bins.split(|bin| bin.n < FEW).filter(|known| known.len() > 1) {
                let points = known.iter().map(|bin| (bin.confidence, bin.accuracy));
                chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            }
            let dots = reliability.bins.iter().map(|bin| {
                let share = bin.n as f64 / n.max(1) as f64;
                let radius = (2.0 + 12.0 * share.sqrt()).round() as i32;
                let style = if bin.n < FEW { colour.stroke_width(1) } else { colour.mix(0.6).filled() };
                Circle::new((bin.confidence, bin.accuracy), radius, style)
            });
            chart.draw_series(dots)?;
        }
        let (left, top) = (80, height as i32 - 8);
        legend.draw(area, (left, top))?;
        note(area, (left, top + legend.height() as i32 + 6))
    })
}

fn note(area: &Area<'_>, at: (i32, i32)) -> Result<(), Box<dyn std::error::Error>> {
    let said = format!("size: share of the rows; ring: fewer than {FEW} rows, which say little");
    area.draw_text(&said, &("sans-serif", 11).into_font().color(&BLACK.mix(0.8)), at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Bin;

    #[test]
    fn no_line_leads_to_a_bin_of_few() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.svg");
        let bin = |confidence, n| Bin { confidence, accuracy: confidence, n };
        let drawn = |bins: &[Bin]| {
            let fused = Reliability { ece: 0.1, bins: bins.to_vec() };
            let calibration = Calibrations { image: None, location: None, fused };
            reliability_diagram(&path, "m on d", &calibration).unwrap();
            let svg = std::fs::read_to_string(&path).unwrap();
            (svg.matches("stroke-width=\"2\"").count(), svg.matches("<circle").count())
        };
        assert_eq!(drawn(&[bin(0.3, 40), bin(0.5, 40), bin(0.9, 40)]), (1, 3));
        assert_eq!(drawn(&[bin(0.3, 40), bin(0.4, 40), bin(0.5, 1), bin(0.6, 40), bin(0.9, 40)]), (2, 5));
        assert_eq!(drawn(&[bin(0.3, 1), bin(0.4, 2), bin(0.5, 1)]), (0, 3));
    }
}
