//! What quantization cost: recall of each class before and after, noise of each layer.

use std::path::Path;

use plotters::prelude::*;

use super::{Area, FUSED, IMAGE, PLACE, PlotError, legend::fitted, save};
use crate::export::{
    ExportReport,
    gate::{Drop, Verdict},
    quantize::LayerReport,
};

/// Classes drawn: those that lose most, as many as can be read.
const CLASSES: usize = 24;
/// What lost beyond doubt.
const ALARM: RGBColor = RGBColor(0xb5, 0x4c, 0x4c);
/// Height of a class's line.
const LINE: i32 = 22;
/// Height of the lower half.
const LAYERS: i32 = 300;
const WIDTH: i32 = 760;
/// Where the upper half's names end.
const NAMES: i32 = 190;

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws, for the classes that lose most, recall in f32 and in int8 with the interval of the loss, and
/// below it the signal to noise of each layer in the order they run.
///
/// # Errors
/// [`PlotError`].
pub fn quantization(path: &Path, report: &ExportReport) -> Result<(), PlotError> {
    let mut classes: Vec<&Drop> = report.gate.iter().flat_map(|gate| &gate.classes).collect();
    classes.sort_by(|a, b| b.drop.total_cmp(&a.drop));
    classes.truncate(CLASSES);
    let upper = if classes.is_empty() { 40 } else { 96 + LINE * classes.len() as i32 };
    save(path, (WIDTH as u32, (upper + LAYERS) as u32), |area| {
        let (title, size) = fitted(&format!("{}: what int8 costs", report.name), 18, WIDTH as u32 - 32);
        text(area, &title, size, (16, 12))?;
        if !classes.is_empty() {
            draw_classes(area, report, &classes)?;
        }
        let (_, lower) = area.split_vertically(upper);
        draw_layers(&lower, &report.layers)
    })
}

fn text(area: &Area<'_>, words: &str, size: i32, at: (i32, i32)) -> Drawn {
    area.draw_text(words, &("sans-serif", size).into_font().color(&BLACK), at)?;
    Ok(())
}

fn draw_classes(area: &Area<'_>, report: &ExportReport, classes: &[&Drop]) -> Drawn {
    let low = classes.iter().map(|drop| drop.f32.min(drop.int8)).fold(1.0, f64::min);
    // round down to ten points, so that the axis has whole numbers
    let low = ((low * 10.0 - 0.5).floor() / 10.0).clamp(0.0, 0.9);
    let right = WIDTH - 190;
    let x = |share: f64| NAMES + ((share - low) / (1.0 - low) * f64::from(right - NAMES)) as i32;
    let (top, bottom) = (64, 64 + LINE * classes.len() as i32);
    text(area, "recall of a class", 12, (16, 42))?;
    text(area, "lost, points (95 %)", 12, (right + 24, 42))?;
    let steps = ((1.0 - low) * 10.0).round() as i32;
    for step in 0..=steps {
        let share = low + (1.0 - low) * f64::from(step) / f64::from(steps.max(1));
        area.draw(&PathElement::new([(x(share), top), (x(share), bottom)], BLACK.mix(0.1)))?;
        if step % 2 == steps % 2 {
            text(area, &format!("{:.0} %", 100.0 * share), 11, (x(share) - 12, bottom + 4))?;
        }
    }
    for (i, drop) in classes.iter().enumerate() {
        let y = top + LINE * i as i32 + LINE / 2;
        let colour = match drop.verdict {
            Verdict::Kept => FUSED,
            Verdict::Unclear => PLACE,
            Verdict::Lost => ALARM,
        };
        let name: String = drop.class.chars().take(24).collect();
        text(area, &name, 12, (16, y - 7))?;
        let (before, after) = (x(drop.f32), x(drop.int8));
        area.draw(&PathElement::new([(before, y), (after, y)], colour.stroke_width(3)))?;
        area.draw(&Circle::new((before, y), 5, IMAGE.filled()))?;
        area.draw(&Circle::new((after, y), 5, colour.filled()))?;
        let [from, to] = drop.interval.map(|end| 100.0 * end);
        text(area, &format!("{:.1} ({from:.1} to {to:.1})", 100.0 * drop.drop), 11, (right + 24, y - 7))?;
    }
    let legend =
        [("f32", IMAGE), ("int8, within the budget", FUSED), ("int8, unclear", PLACE), ("int8, lost", ALARM)];
    let mut at = NAMES;
    for (name, colour) in legend {
        area.draw(&Circle::new((at, 48), 5, colour.filled()))?;
        text(area, name, 11, (at + 9, 42))?;
        at += 34 + 6 * name.len() as i32;
    }
    let more = report.gate.as_ref().map_or(0, |gate| gate.classes.len()) - classes.len();
    if more > 0 {
        text(area, &format!("and {more} classes that lose less"), 11, (16, bottom + 4))?;
    }
    Ok(())
}

fn draw_layers(area: &Area<'_>, layers: &[LayerReport]) -> Drawn {
    if layers.is_empty() {
        return text(area, "every layer is f32", 12, (16, 16));
    }
    let reached = layers.iter().map(|layer| layer.snr_db.clamp(0.0, 90.0));
    let (low, high) = reached.fold((f64::MAX, f64::MIN), |(low, high), db| (low.min(db), high.max(db)));
    // room above for the legend
    let (low, high) = ((low - 3.0).max(0.0), high + 3.0 + 0.4 * (high - low));
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(24)
        .x_label_area_size(38)
        .y_label_area_size(50)
        .build_cartesian_2d(-0.5..layers.len() as f64 - 0.5, low..high)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .x_labels(layers.len().min(12))
        .x_label_formatter(&|x| format!("{:.0}", x.round() + 1.0))
        .x_desc("layer, in the order they run")
        .y_desc("signal to noise, dB")
        .draw()?;
    let kinds = [("convolution", FUSED, "Conv"), ("residual sum", IMAGE, "Add"), ("linear", PLACE, "Gemm")];
    let line = layers.iter().enumerate().map(|(i, layer)| (i as f64, layer.snr_db.clamp(0.0, 90.0)));
    chart.draw_series(LineSeries::new(line, BLACK.mix(0.25)))?;
    for (name, colour, op) in kinds {
        let of_kind = layers.iter().enumerate().filter(|(_, layer)| layer.op == op && !layer.f32);
        let dots = of_kind
            .map(|(i, layer)| Circle::new((i as f64, layer.snr_db.clamp(0.0, 90.0)), 4, colour.filled()));
        let dots: Vec<_> = dots.collect();
        if !dots.is_empty() {
            let legend = move |(x, y)| Circle::new((x + 8, y), 4, colour.filled());
            chart.draw_series(dots)?.label(format!("{name}  ")).legend(legend);
        }
    }
    let kept: Vec<_> = layers
        .iter()
        .enumerate()
        .filter(|(_, layer)| layer.f32)
        .map(|(i, layer)| Circle::new((i as f64, layer.snr_db.clamp(0.0, 90.0)), 5, ALARM.stroke_width(2)))
        .collect();
    if !kept.is_empty() {
        let legend = |(x, y)| Circle::new((x + 8, y), 5, ALARM.stroke_width(2));
        chart.draw_series(kept)?.label("stays f32  ").legend(legend);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}
