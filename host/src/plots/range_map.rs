//! Where a class is expected: its presence score over a region, with the places it was seen.

use std::path::Path;

use csp_models::place::LatLon;
use plotters::prelude::*;

use super::{PlotError, save};

/// Cells along the longer side of the map.
const CELLS: usize = 96;

/// What a range map shows.
#[derive(Debug)]
pub struct RangeMap<'a> {
    /// Heading.
    pub title: &'a str,
    /// South-west and north-east corners.
    pub bounds: (LatLon, LatLon),
    /// Where the class was seen.
    pub seen: &'a [LatLon],
}

impl RangeMap<'_> {
    /// The smallest box around places, widened by a tenth; `None` without places.
    pub fn bounds_of(places: &[LatLon]) -> Option<(LatLon, LatLon)> {
        let low = |f: fn(LatLon) -> f64| places.iter().map(|&p| f(p)).fold(f64::INFINITY, f64::min);
        let high = |f: fn(LatLon) -> f64| places.iter().map(|&p| f(p)).fold(f64::NEG_INFINITY, f64::max);
        let (south, north) = (low(LatLon::lat), high(LatLon::lat));
        let (west, east) = (low(LatLon::lon), high(LatLon::lon));
        let (pad_lat, pad_lon) = ((north - south).max(0.1) * 0.05, (east - west).max(0.1) * 0.05);
        let corner = |lat: f64, lon: f64| LatLon::new(lat.clamp(-90.0, 90.0), lon.clamp(-180.0, 180.0)).ok();
        Some((corner(south - pad_lat, west - pad_lon)?, corner(north + pad_lat, east + pad_lon)?))
    }
}

/// Draws a map in plate carrée; `presence` gives the score (0 to 1) at the centre of each cell.
///
/// # Errors
/// [`PlotError`], or what `presence` returns, in words.
pub fn range_map(
    path: &Path,
    map: &RangeMap<'_>,
    presence: impl Fn(LatLon) -> Result<f64, String>,
) -> Result<(), PlotError> {
    let (sw, ne) = map.bounds;
    let (width, height) = (ne.lon() - sw.lon(), ne.lat() - sw.lat());
    let cell = width.max(height) / CELLS as f64;
    let (columns, rows) = ((width / cell).ceil() as usize, (height / cell).ceil() as usize);
    let mut cells = Vec::with_capacity(columns * rows);
    let refuse = |reason: String| PlotError::Draw { path: path.into(), reason };
    for row in 0..rows {
        for column in 0..columns {
            let corner = (sw.lon() + cell * column as f64, sw.lat() + cell * row as f64);
            let centre = LatLon::new((corner.1 + cell / 2.0).min(90.0), (corner.0 + cell / 2.0).min(180.0))
                .map_err(|error| refuse(error.to_string()))?;
            cells.push((corner, presence(centre).map_err(refuse)?));
        }
    }
    let drawn_height = (560.0 * height / width).clamp(240.0, 800.0) as u32;
    save(path, (660, drawn_height + 90), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(map.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(50)
            .build_cartesian_2d(sw.lon()..ne.lon(), sw.lat()..ne.lat())?;
        chart.draw_series(cells.iter().map(|&((lon, lat), score)| {
            Rectangle::new([(lon, lat), (lon + cell, lat + cell)], shade(score).filled())
        }))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .x_desc("longitude, degrees east")
            .y_desc("latitude, degrees north")
            .draw()?;
        chart.draw_series(
            map.seen.iter().map(|place| Circle::new((place.lon(), place.lat()), 2, RED.mix(0.7).filled())),
        )?;
        let y = drawn_height as i32 + 70;
        let text = ("sans-serif", 11).into_font().color(&BLACK);
        for step in 0..5 {
            let (x, share) = (60 + 20 * step, f64::from(step) / 4.0);
            area.draw(&Rectangle::new([(x, y), (x + 20, y + 12)], shade(share).filled()))?;
        }
        area.draw_text("presence score, 0 to 1", &text, (168, y + 1))?;
        area.draw(&Circle::new((560, y + 6), 3, RED.mix(0.7).filled()))?;
        area.draw_text("seen", &text, (570, y + 1))?;
        Ok(())
    })
}

/// White to deep green.
fn shade(score: f64) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * score.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(248.0, 11.0), mix(248.0, 86.0), mix(244.0, 62.0))
}
