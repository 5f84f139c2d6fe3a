//! A coarse map in characters, for a terminal: enough to see that a place is in the wrong ocean.

use csp_models::place::LatLon;
use serde::Serialize;

/// Columns and rows at most.
const COLUMNS: usize = 72;
const ROWS: usize = 18;
/// From one row in a cell to the most.
const GLYPHS: [char; 5] = ['.', ':', 'o', 'O', '@'];
/// Steps of the ticks, degrees.
const STEPS: [f64; 15] =
    [45.0, 30.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002];

/// The smallest box around the places, degrees. `west` is greater than `east` when it crosses the antimeridian.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// Southern edge.
    pub south: f64,
    /// Western edge.
    pub west: f64,
    /// Northern edge.
    pub north: f64,
    /// Eastern edge.
    pub east: f64,
}

impl Bounds {
    /// The box around places; `None` without any.
    pub fn of(places: &[LatLon]) -> Option<Self> {
        let mut lons: Vec<f64> = places.iter().map(|place| place.lon()).collect();
        lons.sort_by(f64::total_cmp);
        let (&first, &last) = (lons.first()?, lons.last()?);
        // the box is what the widest empty gap around the globe leaves
        let (mut west, mut east, mut gap) = (first, last, first + 360.0 - last);
        for pair in lons.windows(2) {
            if pair[1] - pair[0] > gap {
                (west, east, gap) = (pair[1], pair[0], pair[1] - pair[0]);
            }
        }
        let fold = |f: fn(f64, f64) -> f64, start| places.iter().map(|p| p.lat()).fold(start, f);
        Some(Self { south: fold(f64::min, 90.0), west, north: fold(f64::max, -90.0), east })
    }

    fn width(&self) -> f64 {
        (self.east - self.west).rem_euclid(360.0)
    }
}

/// Draws the places; lines end in a newline.
pub(crate) fn draw(places: &[LatLon], bounds: &Bounds) -> String {
    let frame = Frame::around(bounds);
    let mut counts = vec![0usize; frame.rows * frame.columns];
    for place in places {
        let (row, column) = frame.cell(*place);
        counts[row * frame.columns + column] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(2);
    let glyph = |count: usize| match count {
        0 => ' ',
        // logarithmic: single points stay visible beside cities
        n => GLYPHS[((n as f64).ln() / (most as f64).ln() * (GLYPHS.len() - 1) as f64).round() as usize],
    };
    let mut text = String::new();
    let lat_ticks = frame.ticks(frame.north - frame.row_height * frame.rows as f64, frame.north);
    for row in 0..frame.rows {
        let top = frame.north - row as f64 * frame.row_height;
        let tick = lat_ticks.iter().find(|&&tick| tick <= top && tick > top - frame.row_height);
        let label = tick.map_or(String::new(), |&tick| degrees(tick, 'N', 'S'));
        let line: String = counts[row * frame.columns..][..frame.columns].iter().map(|&n| glyph(n)).collect();
        let edge = if tick.is_some() { '+' } else { '|' };
        text.push_str(&format!("{label:>8} {edge}{line}|\n"));
    }
    let (mut axis, mut labels) = (vec!['-'; frame.columns], vec![' '; frame.columns + 8]);
    for tick in frame.ticks(frame.west, frame.west + frame.column_width * frame.columns as f64) {
        let column = ((tick - frame.west) / frame.column_width) as usize;
        let label: Vec<char> = degrees(wrap(tick), 'E', 'W').chars().collect();
        let start = column.saturating_sub(label.len() / 2);
        let free = labels[start.saturating_sub(1)..start + label.len()].iter().all(|&c| c == ' ');
        if column < frame.columns && free {
            axis[column] = '+';
            labels[start..start + label.len()].copy_from_slice(&label);
        }
    }
    let (axis, labels): (String, String) = (axis.iter().collect(), labels.iter().collect());
    text.push_str(&format!("{:>9}+{axis}+\n{:>10}{}\n", "", "", labels.trim_end()));
    text
}

struct Frame {
    north: f64,
    west: f64,
    row_height: f64,
    column_width: f64,
    rows: usize,
    columns: usize,
}

impl Frame {
    /// Zoomed to the box, with a margin; a row covers as much ground as two columns, since characters are twice as high as wide.
    fn around(bounds: &Bounds) -> Self {
        let margin = |span: f64| (span * 0.04).max(0.005);
        let (width, height) = (bounds.width(), bounds.north - bounds.south);
        let south = (bounds.south - margin(height)).max(-90.0);
        let north = (bounds.north + margin(height)).min(90.0);
        let width = (width + 2.0 * margin(width)).min(360.0);
        let west = if width >= 360.0 { -180.0 } else { bounds.west - margin(bounds.width()) };
        let squeeze = f64::midpoint(south, north).to_radians().cos().max(0.2) * 2.0;
        let column_width = (width / COLUMNS as f64).max((north - south) / ROWS as f64 / squeeze);
        let row_height = column_width * squeeze;
        let cells = |span: f64, size: f64, most| ((span / size - 1e-9).ceil() as usize).clamp(1, most);
        let (rows, columns) = (cells(north - south, row_height, ROWS), cells(width, column_width, COLUMNS));
        Self { north, west, row_height, column_width, rows, columns }
    }

    fn cell(&self, place: LatLon) -> (usize, usize) {
        let row = (self.north - place.lat()) / self.row_height;
        let column = (place.lon() - self.west).rem_euclid(360.0) / self.column_width;
        ((row as usize).min(self.rows - 1), (column as usize).min(self.columns - 1))
    }

    /// Round numbers from `low` to `high`: three at least where a step allows it.
    fn ticks(&self, low: f64, high: f64) -> Vec<f64> {
        let step = STEPS.into_iter().find(|step| (high - low) / step >= 3.0).unwrap_or(0.001);
        let first = (low / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= high).collect()
    }
}

fn wrap(lon: f64) -> f64 {
    let lon = (lon + 180.0).rem_euclid(360.0) - 180.0;
    if lon == -180.0 { 180.0 } else { lon }
}

fn degrees(value: f64, positive: char, negative: char) -> String {
    let rounded = (value.abs() * 1000.0).round() / 1000.0;
    match rounded {
        0.0 => "0°".into(),
        _ => format!("{rounded}°{}", if value < 0.0 { negative } else { positive }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(points: &[(f64, f64)]) -> Vec<LatLon> {
        points.iter().map(|&(lat, lon)| LatLon::new(lat, lon).unwrap()).collect()
    }

    #[test]
    fn the_box_may_cross_the_antimeridian() {
        let fiji = places(&[(-17.0, 178.0), (-18.0, -179.0), (-16.0, 179.5)]);
        let bounds = Bounds::of(&fiji).unwrap();
        assert_eq!(bounds, Bounds { south: -18.0, west: 178.0, north: -16.0, east: -179.0 });
        assert_eq!(bounds.width(), 3.0);
        assert!(draw(&fiji, &bounds).contains("180°E"));
        assert_eq!(Bounds::of(&[]), None);
        let world = places(&[(-60.0, -170.0), (60.0, 170.0), (0.0, 0.0), (0.0, 90.0), (0.0, -90.0)]);
        assert_eq!(Bounds::of(&world).unwrap().south, -60.0);
    }

    #[test]
    fn every_place_is_drawn_and_nothing_outside() {
        for points in [
            vec![(10.0, 20.0)],
            vec![(90.0, 0.0), (-90.0, 180.0), (0.0, -180.0), (0.0, 90.0), (0.0, -90.0)],
            vec![(52.0, 5.0), (52.001, 5.001)],
            vec![(-33.0, 151.0), (-34.0, 150.0), (-33.5, 150.5)],
            vec![(80.0, 10.0), (-80.0, 10.0)],
        ] {
            let places = places(&points);
            let text = draw(&places, &Bounds::of(&places).unwrap());
            let body: Vec<&str> = text.lines().take_while(|line| line.contains('|')).collect();
            assert!(body.len() <= ROWS, "{text}");
            assert!(body.iter().all(|line| line.chars().count() <= 11 + COLUMNS), "{text}");
            let drawn = body.iter().map(|line| line.split_once(['|', '+']).map_or("", |(_, map)| map));
            let drawn: usize = drawn.flat_map(str::chars).filter(|c| GLYPHS.contains(c)).count();
            assert!(drawn >= 1 && drawn <= places.len(), "{text}");
        }
    }

    #[test]
    fn north_is_up_and_east_is_right() {
        let places = places(&[(10.0, 0.0), (0.0, 20.0)]);
        let text = draw(&places, &Bounds::of(&places).unwrap());
        let at = |wanted: usize| {
            text.lines()
                .enumerate()
                .filter_map(|(row, line)| {
                    line.chars().skip(10).position(|c| GLYPHS.contains(&c)).map(|c| (row, c))
                })
                .nth(wanted)
                .unwrap()
        };
        let (north_west, south_east) = (at(0), at(1));
        assert!(north_west.0 < south_east.0 && north_west.1 < south_east.1, "{text}");
    }
}
