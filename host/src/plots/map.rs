//! The parts that maps share: the projection of a box of the Earth, coasts and graticule.
//!
//! Equirectangular, true to scale along the middle latitude of the box (but near the poles, see
//! [`Bounds::shape`]): both coordinates stay straight, so that a raster of the box is a raster of the picture.

use csp_models::place::LatLon;
use plotters::prelude::*;

use super::{Area, bounds::Bounds, legend::wide};
use crate::coastline;

/// A box on the picture.
pub(super) struct Frame {
    bounds: Bounds,
    /// Upper left corner, pixels.
    pub origin: (i32, i32),
    /// Width and height, pixels.
    pub size: (u32, u32),
}

impl Frame {
    /// The largest frame within `limit` pixels.
    pub fn new(bounds: Bounds, origin: (i32, i32), limit: (u32, u32)) -> Self {
        let aspect = bounds.shape();
        let (w, h) = (f64::from(limit.0), f64::from(limit.1));
        let size = if w / h > aspect { (h * aspect, h) } else { (w, w / aspect) };
        Self { bounds, origin, size: (size.0.round().max(60.0) as u32, size.1.round().max(60.0) as u32) }
    }

    /// Where a place lies, pixels.
    pub fn pixel(&self, at: LatLon) -> (i32, i32) {
        let [lon, lat] = at.lon_lat();
        self.project(self.bounds.turn(lon).unwrap_or(lon), lat)
    }

    /// Longitude counted on from the west of the box.
    fn project(&self, lon: f64, lat: f64) -> (i32, i32) {
        let (width, height) = self.bounds.extent();
        let x = (lon - self.bounds.west) / width * f64::from(self.size.0);
        let y = (self.bounds.north - lat) / height * f64::from(self.size.1);
        (self.origin.0 + x.round() as i32, self.origin.1 + y.round() as i32)
    }

    /// Columns and rows of squares of `step` pixels.
    pub fn cells(&self, step: u32) -> (u32, u32) {
        (self.size.0.div_ceil(step), self.size.1.div_ceil(step))
    }

    /// The places at the middles of squares of `step` pixels, by rows from the north-west.
    pub fn raster(&self, step: u32) -> Vec<LatLon> {
        let (columns, rows) = self.cells(step);
        let (width, height) = self.bounds.extent();
        let middle =
            |i: u32, length: u32| ((f64::from(i) + 0.5) * f64::from(step) / f64::from(length)).min(1.0);
        let place = |(row, column): (u32, u32)| {
            let lat = self.bounds.north - height * middle(row, self.size.1);
            let lon = self.bounds.west + width * middle(column, self.size.0);
            let lon = if lon > 180.0 { lon - 360.0 } else { lon };
            LatLon::new(lat.clamp(-90.0, 90.0), lon.clamp(-180.0, 180.0)).ok()
        };
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        cells.filter_map(place).collect()
    }

    /// Paints a raster of [`raster`](Self::raster)'s order; equal neighbours become one rectangle.
    pub fn paint(&self, area: &Area<'_>, step: u32, colours: &[RGBColor]) -> Drawn {
        let (columns, _) = self.cells(step);
        let edge = |i: u32, origin: i32, length: u32| origin + (i * step).min(length) as i32;
        for (row, line) in (0u32..).zip(colours.chunks(columns as usize)) {
            let (top, bottom) =
                (edge(row, self.origin.1, self.size.1), edge(row + 1, self.origin.1, self.size.1));
            let mut start = 0u32;
            for run in line.chunk_by(|a, b| a == b) {
                let end = start + run.len() as u32;
                let (left, right) =
                    (edge(start, self.origin.0, self.size.0), edge(end, self.origin.0, self.size.0));
                area.draw(&Rectangle::new([(left, top), (right, bottom)], run[0].filled()))?;
                start = end;
            }
        }
        Ok(())
    }

    /// Draws graticule, coasts, frame and degrees.
    pub fn lines(&self, area: &Area<'_>) -> Drawn {
        let Bounds { south, north, west, east } = self.bounds;
        let ((left, top), (w, h)) = (self.origin, self.size);
        let (right, bottom) = (left + w as i32, top + h as i32);
        let text = |h_pos, v_pos| {
            use plotters::style::text_anchor::Pos;
            ("sans-serif", DEGREES).into_font().color(&BLACK.mix(0.75)).pos(Pos::new(h_pos, v_pos))
        };
        use plotters::style::text_anchor::{HPos, VPos};
        let thin = BLACK.mix(0.16);
        for lon in meridians(west, east, w) {
            let (x, _) = self.project(lon, 0.0);
            area.draw(&PathElement::new([(x, top), (x, bottom)], thin))?;
            area.draw_text(&meridian(lon), &text(HPos::Center, VPos::Top), (x, bottom + 6))?;
        }
        for lat in ticks(south, north, h / 70) {
            let (_, y) = self.project(west, lat);
            area.draw(&PathElement::new([(left, y), (right, y)], thin))?;
            area.draw_text(&degrees(lat, 'N', 'S'), &text(HPos::Right, VPos::Center), (left - 7, y))?;
        }
        for ring in coastline::rings() {
            for line in self.inside(ring) {
                area.draw(&PathElement::new(line, BLACK.mix(0.6)))?;
            }
        }
        area.draw(&Rectangle::new([(left, top), (right, bottom)], BLACK.mix(0.5)))?;
        Ok(())
    }

    /// The parts of a coast inside the box, in pixels; cuts at the end of the world are no coast.
    fn inside(&self, ring: &[[f64; 2]]) -> Vec<Vec<(i32, i32)>> {
        let cut = |a: [f64; 2], b: [f64; 2]| {
            (a[0] == b[0] && a[0].abs() >= 180.0) || (a[1] == b[1] && a[1] <= -90.0)
        };
        let mut lines: Vec<Vec<(i32, i32)>> = Vec::new();
        // once more for what lies beyond the antimeridian
        let turns = [0.0, 360.0].into_iter().filter(|turn| self.bounds.east > turn - 180.0);
        for turn in turns {
            let mut joined = false;
            for (&a, &b) in ring.iter().zip(ring.iter().cycle().skip(1)) {
                let turned = |[lon, lat]: [f64; 2]| [lon + turn, lat];
                let part = if cut(a, b) { None } else { self.clip(turned(a), turned(b)) };
                if let Some((a, b)) = part {
                    let [a, b] = [a, b].map(|[lon, lat]| self.project(lon, lat));
                    match lines.last_mut().filter(|line| joined && line.last() == Some(&a)) {
                        Some(line) => line.push(b),
                        None => lines.push(vec![a, b]),
                    }
                }
                joined = part.is_some();
            }
        }
        lines
    }

    /// The part of a line within the box (Liang and Barsky), degrees counted on from its west.
    fn clip(&self, a: [f64; 2], b: [f64; 2]) -> Option<([f64; 2], [f64; 2])> {
        let Bounds { south, north, west, east } = self.bounds;
        let (low, high) = ([west, south], [east, north]);
        let (mut from, mut to) = (0.0f64, 1.0f64);
        for axis in 0..2 {
            let d = b[axis] - a[axis];
            if d == 0.0 {
                if !(low[axis]..=high[axis]).contains(&a[axis]) {
                    return None;
                }
                continue;
            }
            let (enter, leave) = ((low[axis] - a[axis]) / d, (high[axis] - a[axis]) / d);
            from = from.max(enter.min(leave));
            to = to.min(enter.max(leave));
        }
        let at = |t: f64| [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])];
        (from <= to).then(|| (at(from), at(to)))
    }
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Size of the degrees' letters.
const DEGREES: i32 = 12;
/// Room between the names of two meridians, pixels.
const APART: f64 = 12.0;
/// Steps of a graticule, degrees.
const STEPS: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0];

/// Round degrees in an interval, about `count` of them.
fn ticks(low: f64, high: f64, count: u32) -> Vec<f64> {
    let wanted = (high - low) / f64::from(count.max(2));
    let step = STEPS.into_iter().find(|step| *step >= wanted).unwrap_or(60.0);
    multiples(step, low, high)
}

fn multiples(step: f64, low: f64, high: f64) -> Vec<f64> {
    let (first, last) = ((low / step).ceil() as i32, (high / step).floor() as i32);
    (first..=last).map(|i| f64::from(i) * step).collect()
}

/// Round degrees on a width of pixels, as many as have room for their names; one where two have none.
fn meridians(west: f64, east: f64, width: u32) -> Vec<f64> {
    let mut found = ticks(west, east, width / 100);
    let scale = f64::from(width) / (east - west);
    let room = |pair: &[f64]| {
        let names = pair.iter().map(|&lon| wide(&meridian(lon), DEGREES)).sum::<f64>() / 2.0;
        (pair[1] - pair[0]) * scale >= names + APART
    };
    let wider = STEPS.into_iter().map(|step| multiples(step, west, east));
    if let Some(fits) = std::iter::once(found.clone())
        .chain(wider.filter(|lons| lons.len() < found.len()))
        .find(|lons| !lons.is_empty() && lons.windows(2).all(room))
    {
        return fits;
    }
    found.truncate(1);
    found
}

/// The name of a meridian, of which 180° has no side.
fn meridian(lon: f64) -> String {
    let lon = if lon > 180.0 + 1e-9 { lon - 360.0 } else { lon };
    if (lon.abs() - 180.0).abs() < 1e-9 { "180°".into() } else { degrees(lon, 'E', 'W') }
}

fn degrees(value: f64, positive: char, negative: char) -> String {
    let rounded = (value.abs() * 100.0).round() / 100.0;
    match value {
        v if v > 1e-9 => format!("{rounded}° {positive}"),
        v if v < -1e-9 => format!("{rounded}° {negative}"),
        _ => "0°".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_lies_across_the_antimeridian() {
        let pacific: Bounds = "170,-20,-170,-10".parse().unwrap();
        let at = |lat, lon| LatLon::new(lat, lon).unwrap();
        let frame = Frame::new(pacific, (10, 20), (600, 600));
        let (w, _) = frame.size;
        let x = |lon| frame.pixel(at(-15.0, lon)).0 - 10;
        assert_eq!((x(170.0), x(180.0), x(-180.0), x(-170.0)), (0, w as i32 / 2, w as i32 / 2, w as i32));
        let raster = frame.raster(5);
        assert!(raster.iter().all(|&place| pacific.contains(place)));
        assert_eq!(raster.len(), (frame.cells(5).0 * frame.cells(5).1) as usize);
        assert!(raster[0].lon() > 170.0 && raster[raster.len() - 1].lon() < -170.0);
        let names: Vec<String> = ticks(170.0, 190.0, 4).into_iter().map(meridian).collect();
        assert_eq!(names, ["170° E", "175° E", "180°", "175° W", "170° W"]);
    }

    #[test]
    fn coasts_go_on_beyond_the_antimeridian() {
        let frame = Frame::new("165,60,-165,70".parse().unwrap(), (0, 0), (600, 600));
        let middle = frame.size.0 as i32 / 2;
        let lines: Vec<_> = coastline::rings().iter().flat_map(|ring| frame.inside(ring)).collect();
        let points = || lines.iter().flatten();
        assert!(points().filter(|(x, _)| *x < middle).count() > 20, "Chukotka's west");
        assert!(points().filter(|(x, _)| *x > middle).count() > 20, "its east, and Alaska");
        // Chukotka is cut over four degrees; a coast may run along the meridian for a little
        let cut = |pair: &[(i32, i32)]| {
            pair.iter().all(|(x, _)| *x == middle) && (pair[0].1 - pair[1].1).abs() > 40
        };
        assert!(!lines.iter().any(|line| line.windows(2).any(cut)), "the cut at 180° is no coast");
    }

    #[test]
    fn corners_and_middles_are_where_they_belong() {
        let bounds: Bounds = "-10,40,30,60".parse().unwrap();
        let frame = Frame::new(bounds, (50, 20), (800, 600));
        // at 50° north a degree of longitude is 0.643 of one of latitude: 40° by 20° is 1.286 to 1
        assert_eq!(frame.size, (771, 600));
        let at = |lat, lon| frame.pixel(LatLon::new(lat, lon).unwrap());
        assert_eq!((at(60.0, -10.0), at(40.0, 30.0)), ((50, 20), (821, 620)));
        let raster = frame.raster(3);
        let (columns, rows) = frame.cells(3);
        assert_eq!(raster.len(), (columns * rows) as usize);
        assert!(raster.iter().all(|&place| bounds.contains(place)));
        assert!(raster[0].lat() > 59.9 && raster[0].lon() < -9.9);
    }

    #[test]
    fn coasts_are_clipped_to_the_box() {
        let frame = Frame::new("-10,40,30,60".parse().unwrap(), (0, 0), (400, 400));
        assert_eq!(frame.clip([-20.0, 50.0], [40.0, 50.0]), Some(([-10.0, 50.0], [30.0, 50.0])));
        assert_eq!(frame.clip([-20.0, 50.0], [-15.0, 55.0]), None);
        let (w, h) = frame.size;
        let within = |&(x, y): &(i32, i32)| (0..=w as i32).contains(&x) && (0..=h as i32).contains(&y);
        let mut points = 0;
        for line in coastline::rings().iter().flat_map(|ring| frame.inside(ring)) {
            assert!(line.iter().all(within), "{line:?}");
            points += line.len();
        }
        assert!(points > 200, "{points}");
    }

    #[test]
    fn names_of_meridians_do_not_touch() {
        assert_eq!(meridians(170.0, 190.0, 400), [170.0, 175.0, 180.0, 185.0, 190.0]);
        for (west, east) in [(170.0, 190.0), (-180.0, 180.0), (-70.3, -69.8), (11.234, 11.345), (-3.0, 41.0)]
        {
            for width in (60..=900).step_by(20) {
                let found = meridians(west, east, width);
                let x = |lon: f64| (lon - west) / (east - west) * f64::from(width);
                let half = |lon: f64| wide(&meridian(lon), DEGREES) / 2.0;
                let ends: Vec<_> = found.iter().map(|&l| (x(l) - half(l), x(l) + half(l))).collect();
                assert!(ends.windows(2).all(|pair| pair[0].1 + 10.0 < pair[1].0), "{width}: {found:?}");
                assert!(!found.is_empty(), "{west} to {east}, {width}");
            }
        }
        assert_eq!(meridians(170.0, 190.0, 60).len(), 1);
    }

    #[test]
    fn degrees_are_round() {
        assert_eq!(ticks(-12.3, 31.0, 5), [-10.0, 0.0, 10.0, 20.0, 30.0]);
        assert_eq!(
            ["0°", "10° W", "0.05° N"],
            [degrees(0.0, 'E', 'W'), degrees(-10.0, 'E', 'W'), degrees(0.05, 'N', 'S')]
        );
    }
}
