//! What happened to a trap, over time: its battery and heat, what it did, and the events beside it.

use std::path::Path;

use plotters::prelude::*;

use super::{FUSED, IMAGE, PLACE, PlotError, save};

/// Points (hours since the start, value).
pub type Line = Vec<(f64, f64)>;

/// A trap's story.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// How long it is, hours.
    pub hours: f64,
    /// Battery, percent.
    pub battery: Line,
    /// Temperature, degrees Celsius.
    pub temperature: Line,
    /// Activity from an hour on: 0 full to 3 minimal.
    pub activity: Line,
    /// Entries about pictures, each hour: classified, and not.
    pub pictures: Vec<(f64, f64)>,
    /// Kinds of events and the hours at which they were recorded, in the order to draw them.
    pub events: Vec<(String, Vec<f64>)>,
}

const HEAT: RGBColor = RGBColor(0xb8, 0x4a, 0x39);
const LEVELS: [&str; 4] = ["full", "reduced", "pictures", "minimal"];
const MARGIN: u32 = 130;
const ROW: u32 = 20;

/// Draws the story: four panels above each other, midnight marked.
///
/// # Errors
/// [`PlotError`].
pub fn trap_timeline(path: &Path, title: &str, story: &Timeline) -> Result<(), PlotError> {
    let hours = story.hours.max(1.0);
    let rows = story.events.len().max(1) as u32;
    let heights = [190, 110, 150, ROW * rows + 50];
    save(path, (1100, heights.iter().sum::<u32>() + 40), |area| {
        let area = area.titled(title, ("sans-serif", 18))?;
        let mut rest = area;
        let mut panels = Vec::new();
        for height in heights {
            let (panel, below) = rest.split_vertically(height);
            panels.push(panel);
            rest = below;
        }
        let days = (hours / 24.0).ceil() as usize;
        let day = |hour: &f64| format!("day {:.0}", hour / 24.0 + 1.0);
        macro_rules! panel {
            ($area:expr, $range:expr, $labels:expr, $format:expr, $bottom:expr) => {{
                let mut chart = ChartBuilder::on($area)
                    .margin_right(20)
                    .margin_top(8)
                    .x_label_area_size($bottom)
                    .y_label_area_size(MARGIN)
                    .build_cartesian_2d(0.0..hours, $range)?;
                chart
                    .configure_mesh()
                    .light_line_style(TRANSPARENT)
                    .bold_line_style(BLACK.mix(0.12))
                    .x_labels(days + 1)
                    .y_labels($labels)
                    .x_label_formatter(&day)
                    .y_label_formatter($format)
                    .draw()?;
                chart
            }};
        }
        let [conditions, activity, pictures, events] = &panels[..] else { return Ok(()) };
        let mut chart = panel!(conditions, 0.0..102.0, 5, &|value: &f64| format!("{value:.0}"), 4);
        for (name, points, colour) in
            [("battery %", &story.battery, FUSED), ("board °C", &story.temperature, HEAT)]
        {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .draw()?;

        let level =
            |value: &f64| LEVELS.get((3.0 - value).round() as usize).copied().unwrap_or_default().to_string();
        let mut chart = panel!(activity, -0.3..3.3, 4, &level, 4);
        let ends = story.activity.iter().skip(1).map(|(hour, _)| *hour).chain([hours]);
        let steps = story.activity.iter().zip(ends);
        chart.draw_series(steps.map(|(&(from, level), to)| {
            Rectangle::new([(from, -0.3), (to, 3.0 - level)], PLACE.mix(0.7).filled())
        }))?;

        let most = story.pictures.iter().map(|(yes, no)| yes + no).fold(1.0, f64::max);
        let mut chart =
            panel!(pictures, 0.0..most * 1.08, 4, &|value: &f64| format!("{value:.0} an hour"), 4);
        for (name, colour, pick) in [("classified", FUSED, true), ("not classified", IMAGE, false)] {
            let bars = story.pictures.iter().enumerate().filter_map(|(hour, &(yes, no))| {
                let (low, high) = if pick { (0.0, yes) } else { (yes, yes + no) };
                (high > low)
                    .then(|| Rectangle::new([(hour as f64, low), (hour as f64 + 1.0, high)], colour.filled()))
            });
            chart
                .draw_series(bars)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(6)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .draw()?;

        let name = |value: &f64| {
            let row = (f64::from(rows) - 1.0 - value).round();
            let on_row = (value - value.round()).abs() < 0.01;
            let entry = if on_row && row >= 0.0 { story.events.get(row as usize) } else { None };
            entry.map_or_else(String::new, |(name, _)| name.clone())
        };
        let mut chart = panel!(events, -0.7..f64::from(rows) - 0.3, rows as usize + 1, &name, 30);
        for (row, (_, times)) in story.events.iter().enumerate() {
            let y = f64::from(rows) - 1.0 - row as f64;
            chart.draw_series(times.iter().map(|&hour| Circle::new((hour, y), 4, HEAT.filled())))?;
        }
        Ok(())
    })
}
