//! A picture in memory with smooth lines: each shape covers a pixel by its distance from it.

use std::{collections::BTreeSet, io};

use image::{Rgb, RgbImage};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
    text_anchor::{HPos, VPos},
};

use super::letters;

/// Pixels of the picture for one of the drawing, so that it is sharp on today's screens.
const SCALE: f64 = 2.0;

type Drawn = Result<(), DrawingErrorKind<io::Error>>;

/// What a drawing is drawn into; its coordinates are half the picture's.
pub(super) struct Raster {
    size: (u32, u32),
    picture: RgbImage,
    /// Letters without a glyph, for which a question mark stands.
    missing: BTreeSet<char>,
}

/// Pixels of a shape before it is blended: a path that crosses itself is as opaque as one that does not.
struct Mask {
    left: i32,
    top: i32,
    width: usize,
    coverage: Vec<f32>,
}

impl Raster {
    /// A white picture for a drawing of `size`.
    pub(super) fn new(size: (u32, u32)) -> Self {
        let scaled = |length: u32| (f64::from(length) * SCALE) as u32;
        let picture = RgbImage::from_pixel(scaled(size.0), scaled(size.1), Rgb([255; 3]));
        Self { size, picture, missing: BTreeSet::new() }
    }

    /// The picture.
    pub(super) fn into_picture(self) -> RgbImage {
        self.picture
    }

    /// The letters it could not draw.
    pub(super) fn missing(&self) -> &BTreeSet<char> {
        &self.missing
    }

    fn blend(&mut self, x: i32, y: i32, colour: BackendColor, coverage: f64) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        let Some(pixel) = self.picture.get_pixel_mut_checked(x, y) else { return };
        let (r, g, b) = colour.rgb;
        let alpha = (colour.alpha * coverage).clamp(0.0, 1.0);
        for (channel, new) in pixel.0.iter_mut().zip([r, g, b]) {
            *channel = (f64::from(*channel) * (1.0 - alpha) + f64::from(new) * alpha).round() as u8;
        }
    }

    /// A mask of the pixels in a box given in pixels, cut to the picture.
    fn mask(&self, from: [f64; 2], to: [f64; 2]) -> Mask {
        let cut = |value: f64, length: u32| (value as i32).clamp(0, length as i32);
        let (w, h) = self.picture.dimensions();
        let (left, right) = (cut(from[0].floor(), w), cut(to[0].ceil() + 1.0, w));
        let (top, bottom) = (cut(from[1].floor(), h), cut(to[1].ceil() + 1.0, h));
        let (width, height) = ((right - left).max(0) as usize, (bottom - top).max(0) as usize);
        Mask { left, top, width, coverage: vec![0.0; width * height] }
    }

    fn fill(&mut self, mask: &Mask, colour: BackendColor) {
        for (i, &coverage) in mask.coverage.iter().enumerate().filter(|(_, coverage)| **coverage > 0.0) {
            let (x, y) = ((i % mask.width) as i32 + mask.left, (i / mask.width) as i32 + mask.top);
            self.blend(x, y, colour, coverage.into());
        }
    }

    /// A line through `points`, given in pixels, of `width` pixels.
    fn stroke(&mut self, points: &[[f64; 2]], width: f64, colour: BackendColor) {
        let reach = width / 2.0 + 1.0;
        let bound = |pick: fn(f64, f64) -> f64, axis: usize, start: f64| {
            points.iter().map(|point| point[axis]).fold(start, pick)
        };
        let from = [0, 1].map(|axis| bound(f64::min, axis, f64::INFINITY) - reach);
        let to = [0, 1].map(|axis| bound(f64::max, axis, f64::NEG_INFINITY) + reach);
        let mut mask = self.mask(from, to);
        for pair in points.windows(2) {
            mask.segment(pair[0], pair[1], width / 2.0);
        }
        self.fill(&mask, colour);
    }
}

impl Mask {
    /// Sets coverage to at least that of a round-ended line from `a` to `b`.
    fn segment(&mut self, a: [f64; 2], b: [f64; 2], half: f64) {
        let reach = half + 1.0;
        let rows = self.coverage.len() / self.width.max(1);
        let range = |axis: usize, start: i32, length: usize| {
            let cut = |value: f64| ((value as i32) - start).clamp(0, length as i32) as usize;
            cut((a[axis].min(b[axis]) - reach).floor())..cut((a[axis].max(b[axis]) + reach).ceil() + 1.0)
        };
        let (d, columns) = ([b[0] - a[0], b[1] - a[1]], range(0, self.left, self.width));
        let length2 = d[0] * d[0] + d[1] * d[1];
        for y in range(1, self.top, rows) {
            for x in columns.clone() {
                let p = [
                    f64::from(self.left) + x as f64 + 0.5 - a[0],
                    f64::from(self.top) + y as f64 + 0.5 - a[1],
                ];
                let along = if length2 > 0.0 { (p[0] * d[0] + p[1] * d[1]) / length2 } else { 0.0 };
                let along = along.clamp(0.0, 1.0);
                let distance = (p[0] - along * d[0]).hypot(p[1] - along * d[1]);
                let coverage = (half + 0.5 - distance).clamp(0.0, 1.0) as f32;
                let pixel = &mut self.coverage[y * self.width + x];
                *pixel = pixel.max(coverage);
            }
        }
    }
}

/// The middle of a pixel of the drawing, in pixels of the picture.
fn centre((x, y): BackendCoord) -> [f64; 2] {
    [(f64::from(x) + 0.5) * SCALE, (f64::from(y) + 0.5) * SCALE]
}

impl DrawingBackend for Raster {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Drawn {
        self.draw_rect((x, y), (x, y), &colour, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        a: BackendCoord,
        b: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let (left, right) = (a.0.min(b.0), a.0.max(b.0));
        let (top, bottom) = (a.1.min(b.1), a.1.max(b.1));
        if !fill {
            let corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
            return self.draw_path(corners, style);
        }
        // a filled rectangle ends where its last pixel begins, so that neighbours meet without overlap
        let scaled = |value: i32| (f64::from(value) * SCALE) as i32;
        let (right, bottom) = (right.max(left + 1), bottom.max(top + 1));
        for y in scaled(top).max(0)..scaled(bottom).min(self.picture.height() as i32) {
            for x in scaled(left).max(0)..scaled(right).min(self.picture.width() as i32) {
                self.blend(x, y, style.color(), 1.0);
            }
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let points: Vec<[f64; 2]> = path.into_iter().map(centre).collect();
        if style.color().alpha > 0.0 && points.len() > 1 {
            self.stroke(&points, f64::from(style.stroke_width()) * SCALE * 0.8, style.color());
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        at: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let ([x, y], radius) = (centre(at), f64::from(radius) * SCALE);
        if fill {
            self.stroke(&[[x, y], [x, y]], 2.0 * radius, style.color());
        } else {
            let steps = (radius * 6.0).max(24.0) as u32;
            let angle = |i: u32| f64::from(i) * std::f64::consts::TAU / f64::from(steps);
            let ring: Vec<[f64; 2]> =
                (0..=steps).map(|i| [x + radius * angle(i).cos(), y + radius * angle(i).sin()]).collect();
            self.stroke(&ring, f64::from(style.stroke_width()) * SCALE * 0.8, style.color());
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn {
        let corners: Vec<[f64; 2]> = corners.into_iter().map(centre).collect();
        let bound = |pick: fn(f64, f64) -> f64, axis: usize, start: f64| {
            corners.iter().map(|corner| corner[axis]).fold(start, pick)
        };
        let from = [0, 1].map(|axis| bound(f64::min, axis, f64::INFINITY));
        let to = [0, 1].map(|axis| bound(f64::max, axis, f64::NEG_INFINITY));
        let mut mask = self.mask(from, to);
        let inside = |x: f64, y: f64| {
            let edges = corners.iter().zip(corners.iter().cycle().skip(1));
            let crossed = edges.filter(|(a, b)| {
                (a[1] > y) != (b[1] > y) && x < a[0] + (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1])
            });
            crossed.count() % 2 == 1
        };
        for i in 0..mask.coverage.len() {
            let (x, y) = (i % mask.width, i / mask.width);
            let at =
                |i: usize, start: i32, part: u32| f64::from(start) + i as f64 + (f64::from(part) + 0.5) / 4.0;
            let parts = (0..16).filter(|part| inside(at(x, mask.left, part % 4), at(y, mask.top, part / 4)));
            mask.coverage[i] = parts.count() as f32 / 16.0;
        }
        self.fill(&mask, style.color());
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Drawn {
        self.missing.extend(text.chars().filter(|letter| !letters::has(*letter)));
        let size = style.size() * SCALE;
        let (width, height) = letters::extent(text, size);
        let anchor = style.anchor();
        let across = match anchor.h_pos {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        // the letters themselves are centred, not the line with its room for accents
        let down = match anchor.v_pos {
            VPos::Top => height * 0.1 - (height - letters::baseline(size)),
            VPos::Center => -letters::baseline(size) + size * 0.36,
            VPos::Bottom => -height,
        };
        let (x0, y0) = (f64::from(at.0) * SCALE, f64::from(at.1) * SCALE);
        let (across, down) = (across.round() as i32, down.round() as i32);
        let mut dots = Vec::new();
        letters::draw(text, size, |x, y, coverage| dots.push((x + across, y + down, coverage)));
        for (x, y, coverage) in dots {
            let (x, y) = match style.transform() {
                FontTransform::None => (x, y),
                FontTransform::Rotate90 => (-y, x),
                FontTransform::Rotate180 => (-x, -y),
                FontTransform::Rotate270 => (y, -x),
            };
            self.blend(x0 as i32 + x, y0 as i32 + y, style.color(), coverage);
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<io::Error>> {
        let (width, height) = letters::extent(text, style.size());
        Ok((width.ceil() as u32, height.ceil() as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: BackendColor = BackendColor { rgb: (0, 0, 0), alpha: 1.0 };

    fn ink(raster: Raster) -> f64 {
        let picture = raster.into_picture();
        picture.pixels().map(|pixel| 1.0 - f64::from(pixel.0[0]) / 255.0).sum()
    }

    #[test]
    fn letters_without_a_glyph_are_noted() {
        use plotters::style::{IntoFont, IntoTextStyle};
        let mut raster = Raster::new((200, 30));
        let style = ("sans-serif", 12).into_font().into_text_style(&(200, 30));
        raster.draw_text("Größe 5 °", &style, (2, 2)).unwrap();
        assert!(raster.missing().is_empty());
        raster.draw_text("雪豹 (Łódź)", &style, (2, 2)).unwrap();
        assert_eq!(raster.missing().iter().collect::<String>(), "Łź豹雪");
    }

    #[test]
    fn shapes_have_their_area() {
        let area = |draw: fn(&mut Raster) -> Drawn| {
            let mut raster = Raster::new((60, 60));
            draw(&mut raster).unwrap();
            ink(raster) / (SCALE * SCALE)
        };
        assert_eq!(area(|r| r.draw_rect((10, 10), (20, 30), &BLACK, true)), 200.0);
        let disc = area(|r| r.draw_circle((30, 30), 10, &BLACK, true));
        assert!((disc / (100.0 * std::f64::consts::PI) - 1.0).abs() < 0.01, "{disc}");
        // 0.8 of a pixel wide and 50 long, whatever its direction
        let line = area(|r| r.draw_line((5, 10), (35, 50), &BLACK));
        assert!((line / (0.8 * 50.0) - 1.0).abs() < 0.06, "{line}");
        let triangle = area(|r| r.fill_polygon([(10, 10), (50, 10), (10, 50)], &BLACK));
        assert!((triangle / 800.0 - 1.0).abs() < 0.01, "{triangle}");
        // outside the picture nothing happens
        assert_eq!(area(|r| r.draw_line((-90, -10), (-5, 300), &BLACK)), 0.0);
    }
}
