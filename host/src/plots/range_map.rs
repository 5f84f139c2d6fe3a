//! Where a class is expected, with the places it was seen; and what a location encoder tells apart.

use std::{borrow::Cow, collections::BTreeSet, path::Path};

use csp_models::place::LatLon;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Area, Bounds, PlotError, colours::shade, legend::fitted, map::Frame, save};

/// Room around the map: left, top, right, bottom.
const MARGIN: (u32, u32, u32, u32) = (62, 46, 24, 92);
/// Largest map, pixels.
const LIMIT: (u32, u32) = (900, 640);
/// Different colours of a range map: as many as can be told apart, and neighbours share one.
const LEVELS: f64 = 100.0;

/// What is said below every map.
const NOTE: &str =
    "Equirectangular; coast: Natural Earth 1:110m, to about 30 km: small islands and bays are missing";

/// What a range map shows.
#[derive(Debug)]
pub struct RangeMap<'a> {
    /// Heading.
    pub title: &'a str,
    /// The part of the Earth.
    pub bounds: Bounds,
    /// Where the class was seen.
    pub seen: &'a [LatLon],
    /// What those places are, for the legend, which puts their number before it: `places in the data`.
    pub seen_are: &'a str,
    /// Pixels of a cell, 1 or more: the raster's grain.
    pub grain: u32,
}

/// Draws a range map; `presence` gives the scores (0 to 1) of many places. Places seen outside the box
/// are left out.
///
/// # Errors
/// [`PlotError`], or what `presence` returns, in words.
pub fn range_map(
    path: &Path,
    map: &RangeMap<'_>,
    presence: impl Fn(&[LatLon]) -> Result<Vec<f64>, String>,
) -> Result<(), PlotError> {
    let frame = frame(map.bounds);
    let scores =
        presence(&frame.raster(map.grain)).map_err(|reason| PlotError::Draw { path: path.into(), reason })?;
    let colours: Vec<RGBColor> =
        scores.into_iter().map(|score| shade((score * LEVELS).round() / LEVELS)).collect();
    let seen: Vec<LatLon> = map.seen.iter().copied().filter(|at| map.bounds.contains(*at)).collect();
    save(path, size(&frame), |area| {
        frame.paint(area, map.grain, &colours)?;
        frame.lines(area)?;
        let red = RGBColor(0xd1, 0x3b, 0x2a);
        let dots: Vec<(i32, i32)> = seen.iter().map(|&place| frame.pixel(place)).collect();
        let Dots { radius, alpha, rim } = Dots::of(&dots);
        // all rims first: no place lies under its neighbour's
        for &at in dots.iter().filter(|_| rim) {
            area.draw(&Circle::new(at, radius + 1, WHITE.mix(0.8).filled()))?;
        }
        for &at in &dots {
            area.draw(&Circle::new(at, radius, red.mix(alpha).filled()))?;
        }
        heading(area, map.title)?;
        let (left, top) = (frame.origin.0, frame.origin.1 + frame.size.1 as i32 + 40);
        let width = 180;
        for x in 0..width {
            let colour = shade(f64::from(x) / f64::from(width - 1)).filled();
            area.draw(&Rectangle::new([(left + x, top), (left + x + 1, top + 12)], colour))?;
        }
        area.draw(&Rectangle::new([(left, top), (left + width, top + 12)], BLACK.mix(0.4)))?;
        for (share, name) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
            let x = left + (share * f64::from(width)) as i32;
            area.draw_text(name, &text(11, HPos::Center, VPos::Top), (x, top + 17))?;
        }
        area.draw_text("presence score", &text(12, HPos::Left, VPos::Center), (left + width + 12, top + 6))?;
        if !map.seen.is_empty() {
            let x = left + width + 128;
            area.draw(&Circle::new((x, top + 6), 3, red.filled()))?;
            let legend = format!("{} {}", seen.len(), counted(seen.len(), map.seen_are));
            area.draw_text(&legend, &text(12, HPos::Left, VPos::Center), (x + 10, top + 6))?;
        }
        note(area, &frame)
    })
}

/// How places are drawn.
struct Dots {
    radius: i32,
    alpha: f64,
    /// A white rim sets a dot off from the map.
    rim: bool,
}

impl Dots {
    /// So that many places, or few that lie close together, do not hide the map or each other.
    fn of(dots: &[(i32, i32)]) -> Self {
        const CELL: i32 = 8;
        let cells: BTreeSet<(i32, i32)> = dots.iter().map(|(x, y)| (x / CELL, y / CELL)).collect();
        let crowd = dots.len() as f64 / cells.len().max(1) as f64;
        match dots.len() {
            n if n < 200 && crowd < 2.0 => Self { radius: 3, alpha: 0.9, rim: true },
            n if n < 2000 && crowd < 2.0 => Self { radius: 2, alpha: 0.7, rim: true },
            n if n < 2000 && crowd < 4.0 => Self { radius: 2, alpha: 0.6, rim: false },
            _ => Self { radius: 1, alpha: 0.5, rim: false },
        }
    }
}

/// `places …` of one place.
fn counted(n: usize, are: &str) -> Cow<'_, str> {
    match are.strip_prefix("places ").filter(|_| n == 1) {
        Some(rest) => format!("place {rest}").into(),
        None => are.into(),
    }
}

/// What an embedding map shows.
#[derive(Debug)]
pub struct EmbeddingMap<'a> {
    /// Heading.
    pub title: &'a str,
    /// The part of the Earth.
    pub bounds: Bounds,
    /// Pixels of a cell.
    pub grain: u32,
}

/// Red, green and blue (0 to 1) of places, and the shares of the variance that they stand for.
pub type Coloured = (Vec<[f64; 3]>, [f64; 3]);

/// Draws what an encoder tells apart: `colour` gives the colours of many places.
///
/// # Errors
/// [`PlotError`], or what `colour` returns, in words.
pub fn embedding_map(
    path: &Path,
    map: &EmbeddingMap<'_>,
    colour: impl Fn(&[LatLon]) -> Result<Coloured, String>,
) -> Result<(), PlotError> {
    let frame = frame(map.bounds);
    let (colours, shares) =
        colour(&frame.raster(map.grain)).map_err(|reason| PlotError::Draw { path: path.into(), reason })?;
    let colours: Vec<RGBColor> = (colours.into_iter())
        .map(|colour| {
            let [r, g, b] = colour.map(|share| (255.0 * share.clamp(0.0, 1.0)).round() as u8);
            RGBColor(r, g, b)
        })
        .collect();
    save(path, size(&frame), |area| {
        frame.paint(area, map.grain, &colours)?;
        frame.lines(area)?;
        heading(area, map.title)?;
        let (left, top) = (frame.origin.0, frame.origin.1 + frame.size.1 as i32 + 40);
        let [red, green, blue] = shares.map(|share| format!("{:.0} %", 100.0 * share));
        let said = format!(
            "principal components of the embedding: red {red} of its variance on this map, green {green}, blue {blue}"
        );
        area.draw_text(&said, &text(12, HPos::Left, VPos::Center), (left, top + 6))?;
        note(area, &frame)
    })
}

fn frame(bounds: Bounds) -> Frame {
    Frame::new(bounds, (MARGIN.0 as i32, MARGIN.1 as i32), LIMIT)
}

fn size(frame: &Frame) -> (u32, u32) {
    // the legend needs its width even under a narrow map
    let width = (MARGIN.0 + frame.size.0 + MARGIN.2).max(680);
    (width, MARGIN.1 + frame.size.1 + MARGIN.3)
}

fn text(size: i32, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK.mix(0.8)).pos(Pos::new(h_pos, v_pos))
}

fn heading(area: &Area<'_>, title: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (width, _) = area.dim_in_pixel();
    let (title, size) = fitted(title, 18, width.saturating_sub(MARGIN.0 + 12));
    area.draw_text(&title, &text(size, HPos::Left, VPos::Center), (MARGIN.0 as i32, 24))?;
    Ok(())
}

fn note(area: &Area<'_>, frame: &Frame) -> Result<(), Box<dyn std::error::Error>> {
    let at = (frame.origin.0, frame.origin.1 + frame.size.1 as i32 + 80);
    area.draw_text(NOTE, &text(10, HPos::Left, VPos::Center), at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowded_places_are_small() {
        let spread = |n: i32, step: i32| (0..n).map(|i| (i % 40 * step, i / 40 * step)).collect::<Vec<_>>();
        let drawn = |dots: &[(i32, i32)]| {
            let Dots { radius, rim, .. } = Dots::of(dots);
            (radius, rim)
        };
        assert_eq!(drawn(&[]), (3, true));
        assert_eq!(drawn(&spread(100, 10)), (3, true));
        assert_eq!(drawn(&spread(800, 10)), (2, true));
        // as many, on top of each other
        assert_eq!(drawn(&spread(800, 5)), (2, false));
        assert_eq!(drawn(&spread(800, 1)), (1, false));
        assert_eq!(drawn(&spread(5000, 10)), (1, false));
    }

    #[test]
    fn one_place_is_no_places() {
        assert_eq!(
            counted(1, "places in the data, 1 of them learned"),
            "place in the data, 1 of them learned"
        );
        assert_eq!(counted(2, "places in the data"), "places in the data");
        assert_eq!(counted(1, ""), "");
    }
}
