//! Where a class is expected, with the places it was seen; and what a location encoder tells apart.

use std::path::Path;

use csp_models::place::LatLon;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Area, Bounds, PlotError, colours::shade, map::Frame, save};

/// Room around the map: left, top, right, bottom.
const MARGIN: (u32, u32, u32, u32) = (62, 46, 24, 92);
/// Largest map, pixels.
const LIMIT: (u32, u32) = (900, 640);
/// Different colours of a range map: as many as can be told apart, and neighbours share one.
const LEVELS: f64 = 100.0;

/// What a range map shows.
#[derive(Debug)]
pub struct RangeMap<'a> {
    /// Heading.
    pub title: &'a str,
    /// The part of the Earth.
    pub bounds: Bounds,
    /// Where the class was seen.
    pub seen: &'a [LatLon],
    /// What those places are, for the legend.
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
        // many places would hide the map under them
        let (radius, alpha) = match seen.len() {
            0..200 => (3, 0.9),
            200..2000 => (2, 0.7),
            _ => (1, 0.5),
        };
        let red = RGBColor(0xd1, 0x3b, 0x2a);
        for &place in &seen {
            let at = frame.pixel(place);
            if radius > 1 {
                area.draw(&Circle::new(at, radius + 1, WHITE.mix(0.8).filled()))?;
            }
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
            let legend = format!("{} {}", seen.len(), map.seen_are);
            area.draw_text(&legend, &text(12, HPos::Left, VPos::Center), (x + 10, top + 6))?;
        }
        note(area, &frame, "Equirectangular; coast: Natural Earth")
    })
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

/// Draws what an encoder tells apart: `colour` gives red, green and blue (0 to 1) of many places.
///
/// # Errors
/// [`PlotError`], or what `colour` returns, in words.
pub fn embedding_map(
    path: &Path,
    map: &EmbeddingMap<'_>,
    colour: impl Fn(&[LatLon]) -> Result<Vec<[f64; 3]>, String>,
) -> Result<(), PlotError> {
    let frame = frame(map.bounds);
    let colours =
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
        let said = "first three principal components of the embedding as red, green, blue";
        area.draw_text(said, &text(12, HPos::Left, VPos::Center), (left, top + 6))?;
        note(area, &frame, "Equirectangular; coast: Natural Earth")
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
    area.draw_text(title, &text(18, HPos::Left, VPos::Center), (MARGIN.0 as i32, 24))?;
    Ok(())
}

fn note(area: &Area<'_>, frame: &Frame, said: &str) -> Result<(), Box<dyn std::error::Error>> {
    let at = (frame.origin.0, frame.origin.1 + frame.size.1 as i32 + 80);
    area.draw_text(said, &text(10, HPos::Left, VPos::Center), at)?;
    Ok(())
}
