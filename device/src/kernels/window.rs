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

    /// Where the input pixel under `tap` of output pixel `pixel` begins; 0, the pixel outside, if there
    /// is none.
    pub fn offset(&self, pixel: usize, tap: usize) -> usize {
        if self.is_identity() {
            return self.origin + pixel * self.channels;
        }
        let at = |side: usize, out: usize, tap: usize| {
            let place = (out * self.stride[side] + tap * self.dilation[side]).wrapping_sub(self.pad[side]);
            (place < self.input[side]).then_some(place)
        };
        let y = at(0, pixel / self.output[1], tap / self.kernel[1]);
        let x = at(1, pixel % self.output[1], tap % self.kernel[1]);
        match (y, x) {
            (Some(y), Some(x)) => self.origin + (y * self.input[1] + x) * self.channels,
            _ => 0,
        }
    }
}
