//! A part of a picture, as shares of it: the same whatever scale it is decoded at.

/// A rectangle inside an upright picture; each side is above 0 and nothing lies outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Left edge, share of the width.
    pub(crate) left: f32,
    /// Upper edge, share of the height.
    pub(crate) top: f32,
    /// Share of the width.
    pub(crate) width: f32,
    /// Share of the height.
    pub(crate) height: f32,
}

impl Part {
    /// All of the picture.
    pub const WHOLE: Self = Self { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };

    /// Left, top, width and height as shares, 0 to 1, of the upright picture (a record's `bbox`); `None`
    /// unless it lies inside and has an area. A rounding beyond the edge is forgiven.
    pub fn new([left, top, width, height]: [f32; 4]) -> Option<Self> {
        const SLACK: f32 = 1e-5;
        let inside = |from: f32, length: f32| {
            from.is_finite() && length > 0.0 && from >= -SLACK && from + length <= 1.0 + SLACK
        };
        if !(inside(left, width) && inside(top, height)) {
            return None;
        }
        let (left, top) = (left.max(0.0), top.max(0.0));
        Some(Self { left, top, width: width.min(1.0 - left), height: height.min(1.0 - top) })
    }

    /// As [`Part::new`] takes it.
    pub fn shares(self) -> [f32; 4] {
        [self.left, self.top, self.width, self.height]
    }
}
