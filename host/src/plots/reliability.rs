//! Stated against true certainty.

use std::path::Path;

use plotters::prelude::*;

use super::{FUSED, IMAGE, PLACE, PlotError, save};
use crate::evaluation::{Calibrations, Reliability};

/// Draws the reliability diagram of the image, the place and both: a dot for each bin of answers at
/// its mean confidence and accuracy, as large as its share of the answers. On the diagonal they agree.
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
    save(path, (520, 520), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 17))
            .margin(14)
            .margin_right(36)
            .x_label_area_size(44)
            .y_label_area_size(54)
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
        for (name, reliability, colour) in series {
            let points = || reliability.bins.iter().map(|bin| (bin.confidence, bin.accuracy));
            let n: usize = reliability.bins.iter().map(|bin| bin.n).sum();
            chart
                .draw_series(LineSeries::new(points(), colour.stroke_width(2)))?
                // the room at the end: plotters guesses the width of a legend from the number of letters
                .label(format!("{name}, ECE {:.3}    ", reliability.ece))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3)));
            let dots = reliability.bins.iter().map(|bin| {
                let share = bin.n as f64 / n.max(1) as f64;
                let radius = (2.0 + 12.0 * share.sqrt()).round() as i32;
                Circle::new((bin.confidence, bin.accuracy), radius, colour.mix(0.6).filled())
            });
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()?;
        Ok(())
    })
}
