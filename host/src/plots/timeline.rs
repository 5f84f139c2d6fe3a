//! What happened to a trap, over time: its battery and heat, what it did, and the events beside it.

use std::{ops::Range, path::Path};

use plotters::{
    coord::{
        ranged1d::{DefaultFormatting, KeyPointHint},
        types::RangedCoordf64,
    },
    prelude::*,
};

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
/// Room for the days under a panel.
const DAYS: u32 = 28;
/// Days that are named at most: as many as have room beside each other.
const NAMED: usize = 15;

/// The hours at which named days begin: every day's, or of a long story every second's, third's, ….
fn mornings(hours: f64) -> Vec<f64> {
    let days = (hours / 24.0).ceil() as usize;
    (0..days).step_by(days.div_ceil(NAMED).max(1)).map(|day| 24.0 * day as f64).collect()
}

/// An axis of so many hours, marked at the [`mornings`]: plotters would mark it at tens.
struct Days(f64);

impl Ranged for Days {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, hour: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(hour, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        mornings(self.0)
    }

    fn range(&self) -> Range<f64> {
        0.0..self.0
    }
}

/// Draws the story: four panels above each other, the start of each day marked.
///
/// # Errors
/// [`PlotError`].
pub fn trap_timeline(path: &Path, title: &str, story: &Timeline) -> Result<(), PlotError> {
    let hours = story.hours.max(1.0);
    let rows = story.events.len().max(1) as u32;
    let heights = [186 + DAYS, 106 + DAYS, 146 + DAYS, ROW * rows + 20 + DAYS];
    save(path, (1100, heights.iter().sum::<u32>() + 40), |area| {
        let area = area.titled(title, ("sans-serif", 18))?;
        let mut rest = area;
        let mut panels = Vec::new();
        for height in heights {
            let (panel, below) = rest.split_vertically(height);
            panels.push(panel);
            rest = below;
        }
        let day = |hour: &f64| format!("day {:.0}", hour / 24.0 + 1.0);
        macro_rules! panel {
            ($area:expr, $range:expr, $labels:expr, $format:expr) => {{
                let mut chart = ChartBuilder::on($area)
                    .margin_right(20)
                    .margin_top(8)
                    .x_label_area_size(DAYS)
                    .y_label_area_size(MARGIN)
                    .build_cartesian_2d(Days(hours), $range)?;
                chart
                    .configure_mesh()
                    .light_line_style(TRANSPARENT)
                    .bold_line_style(BLACK.mix(0.12))
                    .y_labels($labels)
                    .x_label_formatter(&day)
                    .y_label_formatter($format)
                    .draw()?;
                chart
            }};
        }
        let [conditions, activity, pictures, events] = &panels[..] else { return Ok(()) };
        let mut chart = panel!(conditions, 0.0..102.0, 5, &|value: &f64| format!("{value:.0}"));
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
        let mut chart = panel!(activity, -0.3..3.3, 4, &level);
        let ends = story.activity.iter().skip(1).map(|(hour, _)| *hour).chain([hours]);
        let steps = story.activity.iter().zip(ends);
        chart.draw_series(steps.map(|(&(from, level), to)| {
            Rectangle::new([(from, -0.3), (to, 3.0 - level)], PLACE.mix(0.7).filled())
        }))?;

        let most = story.pictures.iter().map(|(yes, no)| yes + no).fold(1.0, f64::max);
        let mut chart = panel!(pictures, 0.0..most * 1.08, 4, &|value: &f64| format!("{value:.0} an hour"));
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
        let mut chart = panel!(events, -0.7..f64::from(rows) - 0.3, rows as usize + 1, &name);
        for (row, (_, times)) in story.events.iter().enumerate() {
            let y = f64::from(rows) - 1.0 - row as f64;
            chart.draw_series(times.iter().map(|&hour| Circle::new((hour, y), 4, HEAT.filled())))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named_where_they_begin() {
        assert_eq!(mornings(60.0), [0.0, 24.0, 48.0]);
        assert_eq!(mornings(1.0), [0.0]);
        let month = mornings(31.0 * 24.0);
        assert!(month.len() <= NAMED && month[1] == 72.0, "{month:?}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.svg");
        trap_timeline(&path, "t", &Timeline { hours: 60.0, ..Timeline::default() }).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        // under each of the four panels
        for (name, count) in [("day 1", 4), ("day 3", 4), ("day 4", 0)] {
            assert_eq!(svg.matches(&format!("{name}\n")).count(), count, "{name}");
        }
    }
}
