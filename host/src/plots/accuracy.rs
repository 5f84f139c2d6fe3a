//! Accuracy with and without place: bars for one model, lines over label ratios for a sweep.

use std::path::Path;

use plotters::prelude::*;

use super::{
    FUSED, IMAGE, PLACE, PlotError,
    legend::{Legend, fitted},
    save,
};
use crate::evaluation::Evaluation;

/// In the order of a sweep's methods: image only, supervised location, CSP, then the others.
const METHODS: [RGBColor; 6] =
    [IMAGE, PLACE, FUSED, RGBColor(0x6a, 0x5a, 0xa8), RGBColor(0xb5, 0x4c, 0x4c), RGBColor(0x4c, 0x8f, 0xb5)];

/// Bars of top-1 accuracy: the image alone, the place alone, both; then image and both for each class.
///
/// # Errors
/// [`PlotError`].
pub fn accuracy_bars(path: &Path, title: &str, evaluation: &Evaluation) -> Result<(), PlotError> {
    let mut groups: Vec<(String, Vec<(f64, RGBColor)>)> = vec![("all".to_string(), Vec::new())];
    groups[0].1.extend(evaluation.image.map(|accuracy| (accuracy.top1, IMAGE)));
    if let Some(location) = &evaluation.location {
        groups[0].1.push((location.top1, PLACE));
    }
    groups[0].1.push((evaluation.fused.top1, FUSED));
    for class in evaluation.per_class.iter().take(24) {
        let mut bars: Vec<_> = class.image_top1.map(|share| (share, IMAGE)).into_iter().collect();
        bars.push((class.fused_top1, FUSED));
        groups.push((class.class.clone(), bars));
    }
    let width = (120 + 64 * groups.len()).max(480) as u32;
    let (title, size) = fitted(title, 18, width - 24);
    save(path, (width, 360), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", size))
            .margin(12)
            .x_label_area_size(60)
            .y_label_area_size(66)
            .build_cartesian_2d(-0.2..groups.len() as f64, 0.0..1.0)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_desc("top-1 accuracy")
            .y_label_formatter(&|share| format!("{:.0} %", 100.0 * share))
            .draw()?;
        for (i, (name, bars)) in groups.iter().enumerate() {
            let step = 0.8 / bars.len() as f64;
            for (j, (share, colour)) in bars.iter().enumerate() {
                let left = i as f64 + step * j as f64;
                let corners = [(left, 0.0), (left + step * 0.92, *share)];
                chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            }
            let (x, y) = chart.backend_coord(&(i as f64, 0.0));
            let turned = ("sans-serif", 11).into_font().color(&BLACK);
            let short: String = name.chars().take(18).collect();
            // every other name one line lower, so that neighbours do not collide
            area.draw_text(&short, &turned, (x, y + 8 + 16 * (i as i32 % 2)))?;
        }
        for (i, (name, colour)) in
            [("image alone", IMAGE), ("place alone", PLACE), ("image and place", FUSED)].iter().enumerate()
        {
            let (x, y) = (78 + 130 * i as i32, 342);
            area.draw(&Rectangle::new([(x, y - 9), (x + 10, y + 1)], colour.filled()))?;
            area.draw_text(name, &("sans-serif", 12).into_font().color(&BLACK), (x + 15, y - 9))?;
        }
        Ok(())
    })
}

/// One method of a sweep: for each label ratio the mean accuracy and its standard deviation.
#[derive(Clone, Debug)]
pub struct Series {
    /// The method's name.
    pub name: String,
    /// (share of the labels, mean top-1, standard deviation), all 0 to 1.
    pub points: Vec<(f64, f64, f64)>,
}

/// Top-1 accuracy over the share of labels (evenly spaced), error bars of one standard deviation.
///
/// # Errors
/// [`PlotError`].
pub fn label_ratio_lines(path: &Path, title: &str, series: &[Series]) -> Result<(), PlotError> {
    let all = || series.iter().flat_map(|s| &s.points);
    let low = all().map(|p| p.1 - p.2).fold(1.0, f64::min);
    let high = all().map(|p| p.1 + p.2).fold(0.0, f64::max);
    let mut shares: Vec<f64> = all().map(|p| p.0).collect();
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    let position = |share: f64| shares.iter().position(|&s| s == share).unwrap_or(0) as f64;
    let entries: Vec<(String, RGBColor)> =
        series.iter().map(|series| series.name.clone()).zip(METHODS.into_iter().cycle()).collect();
    let (width, height) = (640, 400);
    let legend = Legend::new(&entries, width - 100);
    let (title, size) = fitted(title, 18, width - 28);
    save(path, (width, height + legend.height()), |area| {
        let (upper, _) = area.split_vertically(height);
        let mut chart = ChartBuilder::on(&upper)
            .caption(title, ("sans-serif", size))
            .margin(14)
            .x_label_area_size(40)
            .y_label_area_size(66)
            .build_cartesian_2d(
                -0.4..shares.len() as f64 - 0.6,
                (low - 0.02).max(0.0)..(high + 0.02).min(1.0),
            )?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(0)
            .x_desc("share of labels")
            .y_desc("top-1 accuracy")
            .y_label_formatter(&|share| format!("{:.0} %", 100.0 * share))
            .draw()?;
        for share in &shares {
            let (x, y) = chart.backend_coord(&(position(*share), chart.y_range().start));
            let text = ("sans-serif", 12).into_font().color(&BLACK);
            area.draw_text(&format!("{:.0} %", 100.0 * share), &text, (x - 12, y + 6))?;
        }
        let middle = (series.len() as f64 - 1.0) / 2.0;
        for (i, (series, colour)) in series.iter().zip(METHODS.into_iter().cycle()).enumerate() {
            // side by side, or error bars hide each other
            let position = |share: f64| position(share) + 0.035 * (i as f64 - middle);
            let line = series.points.iter().map(|p| (position(p.0), p.1));
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
            let bars = series.points.iter().map(|&(share, mean, sd)| {
                ErrorBar::new_vertical(position(share), mean - sd, mean, mean + sd, colour.filled(), 8)
            });
            chart.draw_series(bars)?;
        }
        legend.draw(area, (80, height as i32 - 8))
    })
}
