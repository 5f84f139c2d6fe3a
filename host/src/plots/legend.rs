//! What stands beside the data: headings that fit, legends below it.

use plotters::prelude::*;

use super::{Area, letters};

/// Size of a legend's letters.
const SIZE: i32 = 12;
/// Height of a line of a legend, pixels.
const LINE: i32 = 20;
/// Length of a stroke, and the room from it to its name.
const STROKE: i32 = 16;
const GAP: i32 = 6;
/// Room between two entries of a line.
const BETWEEN: i32 = 24;

/// Names and colours, in lines of a width; drawn below the data, where it hides none.
pub(super) struct Legend<'a> {
    entries: &'a [(String, RGBColor)],
    /// Line and left edge of each.
    places: Vec<(i32, i32)>,
}

impl<'a> Legend<'a> {
    /// In lines of `width` pixels.
    pub fn new(entries: &'a [(String, RGBColor)], width: u32) -> Self {
        let (mut line, mut x) = (0, 0);
        let mut places = Vec::new();
        for (name, _) in entries {
            let length = STROKE + GAP + wide(name, SIZE).ceil() as i32;
            if x > 0 && x + length > width as i32 {
                (line, x) = (line + 1, 0);
            }
            places.push((line, x));
            x += length + BETWEEN;
        }
        Self { entries, places }
    }

    /// Pixels from its upper edge to its lower one.
    pub fn height(&self) -> u32 {
        self.places.last().map_or(0, |(line, _)| ((line + 1) * LINE) as u32)
    }

    /// Draws it below and right of a corner.
    pub fn draw(&self, area: &Area<'_>, (left, top): (i32, i32)) -> Result<(), Box<dyn std::error::Error>> {
        use plotters::style::text_anchor::{HPos, Pos, VPos};
        let style = ("sans-serif", SIZE).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        for ((name, colour), (line, x)) in self.entries.iter().zip(&self.places) {
            let (x, y) = (left + x, top + line * LINE + LINE / 2);
            area.draw(&PathElement::new([(x, y), (x + STROKE, y)], colour.stroke_width(3)))?;
            area.draw_text(name, &style, (x + STROKE + GAP, y))?;
        }
        Ok(())
    }
}

/// A heading and the size of its letters such that it is no wider than `width` pixels: of smaller letters, down
/// to two thirds, else of fewer, with an ellipsis.
pub(super) fn fitted(heading: &str, size: i32, width: u32) -> (String, i32) {
    let width = f64::from(width);
    let smallest = (size * 2 / 3).max(1);
    if let Some(size) = (smallest..=size).rev().find(|&size| wide(heading, size) <= width) {
        return (heading.into(), size);
    }
    let mut short: Vec<char> = heading.chars().collect();
    loop {
        short.pop();
        let text = short.iter().collect::<String>().trim_end().to_string() + "…";
        if short.is_empty() || wide(&text, smallest) <= width {
            return (text, smallest);
        }
    }
}

/// Width of a line, pixels: a letter that there is no glyph of counts as one of the widest.
pub(super) fn wide(text: &str, size: i32) -> f64 {
    let (known, unknown): (String, String) = text.chars().partition(|letter| letters::has(*letter));
    letters::extent(&known, size.into()).0 + unknown.chars().count() as f64 * f64::from(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_fit() {
        assert_eq!(fitted("short", 18, 400), ("short".into(), 18));
        let long = "Panthera onca: where a run of a long name expects it, mean over the year";
        let (text, size) = fitted(long, 18, 560);
        assert!(text == long && (12..18).contains(&size), "{text} at {size}");
        let (text, size) = fitted(long, 18, 200);
        assert!(text.ends_with('…') && long.starts_with(text.trim_end_matches('…')) && size == 12, "{text}");
        assert!(wide(&text, size) <= 200.0 && wide(&text, size) > 180.0, "{}", wide(&text, size));
        assert_eq!(fitted(long, 18, 0).0, "…");
        // letters without a glyph are not taken for narrow ones
        assert_eq!(wide("雪豹", 20), 40.0);
    }

    #[test]
    fn legends_go_on_in_another_line() {
        let entries = ["image alone", "place alone", "image and place"].map(|name| (name.to_string(), BLACK));
        let one = Legend::new(&entries, 600);
        assert_eq!((one.height(), one.places.iter().all(|(line, _)| *line == 0)), (LINE as u32, true));
        let three = Legend::new(&entries, 130);
        assert_eq!(three.places, [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(three.height(), 3 * LINE as u32);
        assert_eq!(Legend::new(&[], 100).height(), 0);
    }
}
