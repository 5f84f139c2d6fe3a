//! Where the pixels under a sliding window lie.

/// A window that slides over a picture in a buffer: `[outside][pixels]`, both channels last.
///
/// `outside` is one pixel of zero points: windows that hang over the border read it there, so no
/// picture is ever padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Steps down and right.
    pub stride: [usize; 2],
    /// Distance of the taps.
    pub dilation: [usize; 2],
    /// Rows above and columns left of the picture.
    pub pad: [usize; 2],
    /// Bytes of a pixel.
    pub channels: usize,
    /// Bytes read from each tap on: `channels`, or those of several pixels of a row.
    pub span: usize,
    /// Where the first pixel lies in the buffer.
    pub origin: usize,
}

impl Window {
    /// Taps of the window.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// True when output pixel `i` reads input pixel `i` and no other.
    pub fn is_identity(&self) -> bool {
        self.taps() == 1 && self.input == self.output && self.stride == [1, 1] && self.pad == [0, 0]
    }

    /// Bytes of a buffer that the window may read, [`super::buffer::SLACK`] apart.
    pub fn reach(&self) -> usize {
        self.origin + self.input[0] * self.input[1] * self.channels + self.span - self.channels
    }

    /// Where the input pixels under the taps of output pixels `first..` begin; 0, the pixel outside, where
    /// there is none. The last pixel stands for those beyond it.
    ///
    /// `offsets[tap * taps_apart + i * pixels_apart]` is that of `tap` and pixel `first + i`.
    pub fn offsets(&self, first: usize, offsets: &mut [usize], taps_apart: usize, pixels_apart: usize) {
        let last = self.output[0] * self.output[1] - 1;
        let count = offsets.len() / self.taps();
        if self.is_identity() {
            for i in 0..count {
                offsets[i * pixels_apart] = self.origin + (first + i).min(last) * self.channels;
            }
            return;
        }
        // Divided once: this runs as often as there are output pixels.
        let (mut y, mut x) = (first / self.output[1], first % self.output[1]);
        for i in 0..count {
            let left = (x * self.stride[1]).wrapping_sub(self.pad[1]);
            let top = (y * self.stride[0]).wrapping_sub(self.pad[0]);
            let mut at = i * pixels_apart;
            for v in 0..self.kernel[0] {
                let v = top.wrapping_add(v * self.dilation[0]);
                let line =
                    self.origin.wrapping_add(v.wrapping_mul(self.input[1]).wrapping_mul(self.channels));
                for u in 0..self.kernel[1] {
                    let u = left.wrapping_add(u * self.dilation[1]);
                    let inside = v < self.input[0] && u < self.input[1];
                    offsets[at] = if inside { line + u * self.channels } else { 0 };
                    at += taps_apart;
                }
            }
            if first + i < last {
                x += 1;
                if x == self.output[1] {
                    (x, y) = (0, y + 1);
                }
            }
        }
    }
}
