//! The best of the formats and sizes a device offers.

use super::PixelFormat;

/// Sizes a device has in one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// Width and height of each.
    Some(Vec<(u32, u32)>),
    /// Anything from the least to the most, in steps.
    Between {
        /// Least width and height.
        min: (u32, u32),
        /// Most width and height.
        max: (u32, u32),
        /// Step of width and height.
        step: (u32, u32),
    },
}

/// A format with its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How pixels come.
    pub format: PixelFormat,
    /// In which sizes.
    pub sizes: Sizes,
}

/// What to ask the device for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How pixels come.
    pub format: PixelFormat,
    /// Width and height, pixels.
    pub size: (u32, u32),
}

/// The offer nearest to a wanted size: of each format the smallest size that covers it, else the largest;
/// among formats the nearer one, and motion JPEG before YUYV before grey where they are equal. `None`
/// without an offer.
pub fn choose(offers: &[Offer], wanted: (u32, u32)) -> Option<Choice> {
    let choices = offers
        .iter()
        .filter_map(|offer| Some(Choice { format: offer.format, size: nearest(&offer.sizes, wanted)? }));
    choices.min_by_key(|choice| (miss(choice.size, wanted), choice.format))
}

/// How far a size is from the wanted one: (does not cover it, pixels too many or too few).
fn miss(size: (u32, u32), wanted: (u32, u32)) -> (bool, u64) {
    let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
    (size.0 < wanted.0 || size.1 < wanted.1, area(size).abs_diff(area(wanted)))
}

fn nearest(sizes: &Sizes, wanted: (u32, u32)) -> Option<(u32, u32)> {
    match sizes {
        Sizes::Some(sizes) => {
            let real = sizes.iter().copied().filter(|&(width, height)| width > 0 && height > 0);
            real.min_by_key(|&size| miss(size, wanted))
        }
        Sizes::Between { min, max, step } => {
            let side = |wanted: u32, min: u32, max: u32, step: u32| {
                let step = step.max(1);
                let up = wanted.clamp(min, max.max(min)).saturating_sub(min).div_ceil(step);
                let steps = up.min(max.saturating_sub(min) / step);
                Some(min + steps * step).filter(|&side| side > 0)
            };
            Some((side(wanted.0, min.0, max.0, step.0)?, side(wanted.1, min.1, max.1, step.1)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(format: PixelFormat, sizes: &[(u32, u32)]) -> Offer {
        Offer { format, sizes: Sizes::Some(sizes.to_vec()) }
    }

    #[test]
    fn covers_the_wish_with_as_little_as_possible() {
        let uvc = [
            offer(PixelFormat::Yuyv, &[(640, 480), (1280, 720)]),
            offer(PixelFormat::Mjpeg, &[(640, 480), (1280, 720), (1920, 1080)]),
        ];
        let at = |wanted| choose(&uvc, wanted).unwrap();
        assert_eq!(at((1920, 1080)), Choice { format: PixelFormat::Mjpeg, size: (1920, 1080) });
        assert_eq!(at((640, 480)), Choice { format: PixelFormat::Mjpeg, size: (640, 480) });
        assert_eq!(at((800, 600)).size, (1280, 720));
        assert_eq!(at((4000, 3000)).size, (1920, 1080), "the largest there is");
        assert_eq!(choose(&[], (640, 480)), None);
        assert_eq!(choose(&[offer(PixelFormat::Grey, &[(0, 0)])], (640, 480)), None);
    }

    #[test]
    fn steps_are_kept() {
        let sizes = Sizes::Between { min: (48, 32), max: (1000, 999), step: (16, 2) };
        let at = |wanted| nearest(&sizes, wanted).unwrap();
        assert_eq!(at((641, 479)), (656, 480));
        assert_eq!(at((1, 1)), (48, 32));
        // the most that is a whole number of steps from the least
        assert_eq!(at((4000, 4000)), (992, 998));
        let broken = Sizes::Between { min: (640, 480), max: (0, 0), step: (0, 0) };
        assert_eq!(nearest(&broken, (100, 100)), Some((640, 480)));
    }
}
