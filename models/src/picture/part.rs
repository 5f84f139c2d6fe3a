//! The pixels of a part of a picture.

use image::RgbImage;

pub use crate::part::Part;

impl Part {
    /// The pixels of the part, at least one each way.
    pub fn cut(self, picture: &RgbImage) -> RgbImage {
        let span = |from: f32, length: f32, side: u32| {
            let at = |share: f32| (f64::from(share) * f64::from(side)).round() as u32;
            let start = at(from).min(side.saturating_sub(1));
            (start, at(from + length).clamp(start + 1, side.max(start + 1)) - start)
        };
        let (x, width) = span(self.left, self.width, picture.width());
        let (y, height) = span(self.top, self.height, picture.height());
        image::imageops::crop_imm(picture, x, y, width, height).to_image()
    }
}
