//! How a run learned: the loss of each stage over its steps.

use std::path::Path;

use plotters::prelude::*;

use super::{
    FUSED, PLACE, PlotError,
    legend::{Legend, fitted},
    save,
};

/// One stage of a run.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name.
    pub stage: String,
    /// (step, training loss).
    pub loss: Vec<(u64, f64)>,
    /// (step, loss on the rows held out), where it was read.
    pub holdout: Vec<(u64, f64)>,
}

/// Columns of panels.
const COLUMNS: usize = 3;

/// Draws a panel for each stage that has a reading, a single one as a point; no reading, no picture.
///
/// # Errors
/// [`PlotError`].
pub fn training_curves(path: &Path, title: &str, curves: &[Curve]) -> Result<(), PlotError> {
    let shown: Vec<&Curve> = curves.iter().filter(|curve| !curve.loss.is_empty()).collect();
    if shown.is_empty() {
        return Err(PlotError::Draw {
            path: path.into(),
            reason: "metrics.jsonl has no reading of a loss yet".into(),
        });
    }
    let columns = shown.len().min(COLUMNS);
    let rows = shown.len().div_ceil(columns);
    let held = shown.iter().any(|curve| !curve.holdout.is_empty());
    // one line alone needs no name
    let entries = if held { vec![("training".into(), FUSED), ("held out".into(), PLACE)] } else { vec![] };
    let (width, height) = (360 * columns as u32, 250 * rows as u32 + 40);
    let legend = Legend::new(&entries, width - 92);
    let (title, size) = fitted(title, 18, width - 20);
    save(path, (width, height + legend.height()), |area| {
        let (upper, _) = area.split_vertically(height);
        legend.draw(area, (72, height as i32 - 4))?;
        let panels = upper.titled(&title, ("sans-serif", size))?;
        for (panel, curve) in panels.split_evenly((rows, columns)).iter().zip(shown) {
            let all = || curve.loss.iter().chain(&curve.holdout);
            let steps = all().map(|(step, _)| *step).max().unwrap_or(1);
            let low = all().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
            let high = all().map(|(_, loss)| *loss).fold(f64::NEG_INFINITY, f64::max);
            // a single reading lies in the middle of a scale that can be read
            let pad = if high > low { (high - low) * 0.05 } else { (high.abs() * 0.05).max(0.01) };
            let digits = (1.0 - (high - low + 2.0 * pad).log10().floor()).clamp(0.0, 6.0) as usize;
            let mut chart = ChartBuilder::on(panel)
                .caption(&curve.stage, ("sans-serif", 15))
                .margin(10)
                .margin_right(20)
                .x_label_area_size(38)
                .y_label_area_size(62)
                .build_cartesian_2d(0..steps, low - pad..high + pad)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(BLACK.mix(0.1))
                .x_labels(5)
                .y_labels(5)
                .x_desc("step")
                .y_desc("loss")
                .y_label_formatter(&|loss| format!("{loss:.digits$}"))
                .draw()?;
            for (points, colour) in [(&curve.loss, FUSED), (&curve.holdout, PLACE)] {
                if points.is_empty() {
                    continue;
                }
                let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
                chart.draw_series(
                    points
                        .iter()
                        .take(1)
                        .filter(|_| points.len() == 1)
                        .map(|&point| Circle::new(point, 3, colour.filled())),
                )?;
                chart.draw_series(line)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_reading_is_a_point() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.svg");
        let curve =
            |loss: &[(u64, f64)]| Curve { stage: "s".into(), loss: loss.to_vec(), holdout: Vec::new() };
        let refusal = training_curves(&path, "t", &[curve(&[])]).unwrap_err().to_string();
        assert!(refusal.contains("no reading") && !path.exists(), "{refusal}");
        let points = |curves: &[Curve]| {
            training_curves(&path, "t", curves).unwrap();
            std::fs::read_to_string(&path).unwrap().matches("<circle").count()
        };
        let two = curve(&[(1, 2.0), (9, 1.0)]);
        assert_eq!(points(&[curve(&[(3, 1.5)])]), 1);
        assert_eq!(points(&[two.clone(), curve(&[(3, 1.5)]), curve(&[])]), 1);
        assert_eq!(points(&[Curve { holdout: vec![(9, 1.7)], ..two }]), 1);
    }
}
