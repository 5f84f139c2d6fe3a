//! The part of a burst that moved: where the animal is, and what to look at more closely.
//!
//! Frames are compared as small grey pictures. Exposure is evened out by matching the quartiles of each
//! frame; what differs from the others by more than the frame's own noise is moving; specks (rain, leaves)
//! fall out, and so does everything when most of the frame changed (the camera swings, the flash came on).
//! One box comes out, with a margin, near to square in pixels.
//!
//! Which prediction decides: see [`crop_decides`].

use alloc::{vec, vec::Vec};

use csp_models::{groups::Group, part::Part};

use super::Prediction;

/// Pixels across of the pictures that are compared; their height follows from the frame's shape.
#[cfg(feature = "std")]
const ACROSS: u32 = 160;
/// Least difference that counts, grey levels.
const LEAST_LEVELS: f32 = 10.0;
/// Noise is the median absolute difference; this many of its standard deviations count.
const NOISE_SIGMAS: f32 = 6.0;
/// Least share of the frame that moves for a box.
const LEAST_SHARE: f32 = 0.001;
/// Most of the frame that moves: beyond, it is the camera or the light.
const MOST_SHARE: f32 = 0.5;
/// A patch belongs to the box when it has this share of the largest one's pixels.
const WITH_LARGEST: f32 = 0.35;
/// Margin on each side, share of the box's longer side.
const MARGIN: f32 = 0.2;
/// Least length of the box, share of the frame's shorter side.
const LEAST_SIDE: f32 = 0.2;
/// A box of more of the frame than this is no closer look.
const MOST_BOX: f32 = 0.7;

/// A small grey picture of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Grey {
    width: usize,
    height: usize,
    levels: Vec<f32>,
}

/// What moved, and in which frame it is seen best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// Index of the frame in which most moved.
    pub frame: usize,
    /// Where in it.
    pub part: Part,
    /// Share of the frame's pixels that moved, 0 to 1.
    pub share: f32,
}

impl Grey {
    /// A decoded frame of whatever size, upright.
    #[cfg(feature = "std")]
    pub fn of(picture: &csp_models::picture::RgbImage) -> Option<Self> {
        let (width, height) = picture.dimensions();
        let down = (f64::from(height) / f64::from(width.max(1)) * f64::from(ACROSS)).round();
        let down = (down as u32).clamp(8, 8 * ACROSS);
        let small =
            csp_models::manifest::ImageInput { width: ACROSS, height: down, mean: [0.0; 3], std: [1.0; 3] };
        let grey = |rgb: &[u8]| match rgb {
            &[r, g, b] => 0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b),
            _ => 0.0,
        };
        let levels = csp_models::picture::fit(picture, &small).chunks_exact(3).map(grey).collect();
        Self::new(ACROSS as usize, down as usize, levels)
    }

    /// Brightness 0 to 255, row by row; `None` unless there are `width × height`.
    pub fn new(width: usize, height: usize, levels: Vec<f32>) -> Option<Self> {
        (width > 0 && height > 0 && levels.len() == width * height).then_some(Self { width, height, levels })
    }

    /// The same with the quartiles of `other`.
    fn evened(&self, other: &Self) -> Vec<f32> {
        let ([low, middle, high], [to_low, to_middle, to_high]) =
            (quartiles(&self.levels), quartiles(&other.levels));
        let gain = ((to_high - to_low) / (high - low).max(1.0)).clamp(0.25, 4.0);
        self.levels.iter().map(|level| (level - middle) * gain + to_middle).collect()
    }
}

fn quartiles(values: &[f32]) -> [f32; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    [1, 2, 3].map(|quarter| sorted.get(sorted.len() * quarter / 4).copied().unwrap_or_default())
}

/// What moved in a burst, if anything: `None` for fewer than two frames, frames of different shapes,
/// nothing that stands out of the noise, or a change of most of the frame.
pub fn moving(frames: &[Grey]) -> Option<Motion> {
    let first = frames.first()?;
    if frames.len() < 2
        || frames.iter().any(|frame| (frame.width, frame.height) != (first.width, first.height))
    {
        return None;
    }
    let evened: Vec<Vec<f32>> = frames.iter().map(|frame| frame.evened(first)).collect();
    let found = (0..frames.len()).filter_map(|at| {
        let mask = changed(&evened, at);
        let (bounds, share) = largest(&mask, first.width)?;
        Some(Motion { frame: at, part: framed(bounds, first.width, first.height)?, share })
    });
    // of equals the first: nearest to the trigger
    found.reduce(|best, next| if next.share > best.share { next } else { best })
}

/// What of one frame differs from the [`middle`] of the others.
fn changed(frames: &[Vec<f32>], at: usize) -> Vec<bool> {
    let Some(frame) = frames.get(at) else { return Vec::new() };
    let mut others = Vec::with_capacity(frames.len());
    let difference: Vec<f32> = frame
        .iter()
        .enumerate()
        .map(|(pixel, level)| {
            others.clear();
            let rest = frames.iter().enumerate().filter(|(other, _)| *other != at);
            others.extend(rest.filter_map(|(_, other)| other.get(pixel).copied()));
            level - middle(&mut others, *level)
        })
        .collect();
    // what is left of the exposure is the same everywhere
    let [_, offset, _] = quartiles(&difference);
    let away: Vec<f32> = difference.iter().map(|d| (d - offset).abs()).collect();
    let sigma = 1.4826 * quartiles(&away)[1];
    let least = LEAST_LEVELS.max(NOISE_SIGMAS * sigma);
    away.into_iter().map(|away| away > least).collect()
}

/// The median; of an even number the middle one that is nearer to `level`, so that of three frames only
/// what differs from both others is moving, and an animal's place in the next frame is not.
fn middle(values: &mut [f32], level: f32) -> f32 {
    values.sort_by(f32::total_cmp);
    let pair = [values.len().saturating_sub(1) / 2, values.len() / 2].map(|at| values.get(at).copied());
    let [Some(low), Some(high)] = pair else { return level };
    if (level - low).abs() <= (level - high).abs() { low } else { high }
}

/// The box (left, top, right, bottom; ends excluded) of the largest patch and those near its size, and the
/// share of the frame that moves; specks of single pixels are not seen.
fn largest(mask: &[bool], width: usize) -> Option<([usize; 4], f32)> {
    let height = mask.len() / width.max(1);
    let set = |x: usize, y: usize| mask.get(y * width + x).copied().unwrap_or_default();
    // a pixel counts when most of its three by three do
    let dense: Vec<bool> = (0..mask.len())
        .map(|at| {
            let (x, y) = (at % width, at / width);
            let near = (y.saturating_sub(1)..(y + 2).min(height))
                .flat_map(|y| (x.saturating_sub(1)..(x + 2).min(width)).map(move |x| (x, y)));
            near.filter(|&(x, y)| set(x, y)).count() >= 5
        })
        .collect();
    let share = dense.iter().filter(|set| **set).count() as f32 / mask.len().max(1) as f32;
    if !(LEAST_SHARE..=MOST_SHARE).contains(&share) {
        return None;
    }
    let patches = patches(&dense, width);
    let most = patches.iter().map(|(_, pixels)| *pixels).max()?;
    if (most as f32) < LEAST_SHARE * mask.len() as f32 {
        return None;
    }
    let with = patches.iter().filter(|(_, pixels)| *pixels as f32 >= WITH_LARGEST * most as f32);
    let bounds = with.map(|(bounds, _)| *bounds).reduce(|[l, t, r, b], [left, top, right, bottom]| {
        [l.min(left), t.min(top), r.max(right), b.max(bottom)]
    })?;
    Some((bounds, share))
}

/// Connected patches: box and number of pixels of each.
fn patches(mask: &[bool], width: usize) -> Vec<([usize; 4], usize)> {
    let mut left_over = mask.to_vec();
    let mut found = Vec::new();
    for start in 0..left_over.len() {
        let mut stack = vec![start];
        let (mut bounds, mut pixels) = ([usize::MAX, usize::MAX, 0, 0], 0);
        while let Some(at) = stack.pop() {
            match left_over.get_mut(at) {
                Some(set) if *set => *set = false,
                _ => continue,
            }
            let (x, y) = (at % width, at / width);
            bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x + 1), bounds[3].max(y + 1)];
            pixels += 1;
            if x > 0 {
                stack.push(at - 1);
            }
            if x + 1 < width {
                stack.push(at + 1);
            }
            if at >= width {
                stack.push(at - width);
            }
            stack.push(at + width);
        }
        if pixels > 0 {
            found.push((bounds, pixels));
        }
    }
    found
}

/// A box with its margin, at least of the least size, near to square and inside the frame; `None` when
/// it is nearly the frame.
fn framed([left, top, right, bottom]: [usize; 4], width: usize, height: usize) -> Option<Part> {
    let (frame_w, frame_h) = (width as f32, height as f32);
    let (box_w, box_h) = ((right - left) as f32, (bottom - top) as f32);
    let margin = 2.0 * MARGIN * box_w.max(box_h);
    let side = (box_w.max(box_h) + margin).max(LEAST_SIDE * frame_w.min(frame_h));
    let span = |from: f32, length: f32, frame: f32| {
        let side = side.min(frame);
        let start = (from + length / 2.0 - side / 2.0).clamp(0.0, frame - side);
        (start / frame, side / frame)
    };
    let ((x, w), (y, h)) = (span(left as f32, box_w, frame_w), span(top as f32, box_h, frame_h));
    Part::new([x, y, w, h]).filter(|_| w * h <= MOST_BOX)
}

/// Which of two predictions of the same picture decides: true for the crop. `classes` holds the group of each
/// class.
///
/// The crop decides when it is surer of its best class than the whole frame is of its own, and that class
/// is something: a crop of moving grass that looks empty does not overrule an animal that sat still. Both
/// are recorded either way.
pub fn crop_decides(whole: &Prediction, crop: &Prediction, classes: &[Option<Group>]) -> bool {
    let best = |fused: &[f64]| {
        let class = *csp_models::fusion::ranked(fused).first()?;
        Some((class, fused.get(class.index()).copied()?))
    };
    let (Some((_, whole)), Some((class, crop))) = (best(&whole.fused), best(&crop.fused)) else {
        return false;
    };
    let blank = classes.get(class.index()).copied().flatten() == Some(Group::Blank);
    crop > whole && !blank
}

#[cfg(test)]
mod tests {
    use csp_models::{fusion::Decision, record::Provenance};

    use super::*;

    const W: usize = 160;
    const H: usize = 120;

    /// A scene with structure, noise, an exposure (gain, offset), and a square of 20 pixels.
    fn frame(seed: u32, gain: f32, offset: f32, square: Option<(usize, usize)>) -> Grey {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut noise = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state % 1000) as f32 / 1000.0 * 8.0 - 4.0
        };
        let levels = (0..W * H)
            .map(|at| {
                let (x, y) = (at % W, at / W);
                let scene = 60.0 + 50.0 * ((x as f32 / 9.0).sin() * (y as f32 / 7.0).cos()) + y as f32 / 2.0;
                let animal =
                    square.is_some_and(|(l, t)| (l..l + 20).contains(&x) && (t..t + 20).contains(&y));
                let level = if animal { 200.0 } else { scene };
                (level * gain + offset + noise()).clamp(0.0, 255.0)
            })
            .collect();
        Grey::new(W, H, levels).unwrap()
    }

    fn holds(part: Part, (left, top): (usize, usize)) -> bool {
        let [x, y, w, h] = part.shares();
        x * W as f32 <= left as f32
            && y * H as f32 <= top as f32
            && (x + w) * W as f32 >= (left + 20) as f32
            && (y + h) * H as f32 >= (top + 20) as f32
    }

    #[test]
    fn finds_what_moves_under_changing_light() {
        let places = [(20, 30), (60, 40), (110, 50)];
        let exposures = [(1.0, 0.0), (1.15, 8.0), (0.85, -10.0)];
        let burst: Vec<Grey> =
            (0..3).map(|i| frame(i as u32 + 1, exposures[i].0, exposures[i].1, Some(places[i]))).collect();
        let motion = moving(&burst).unwrap();
        assert!(holds(motion.part, places[motion.frame]), "{motion:?}");
        let [_, _, w, h] = motion.part.shares();
        assert!(w * h < 0.25 && (w * W as f32 - h * H as f32).abs() < 2.0, "a close square: {motion:?}");
        // it comes into an empty scene, in the corner
        let burst = [frame(1, 1.0, 0.0, None), frame(2, 1.1, 5.0, Some((138, 98)))];
        assert!(holds(moving(&burst).unwrap().part, (138, 98)));
    }

    #[test]
    fn nothing_moves() {
        let still: Vec<Grey> = (1..5).map(|seed| frame(seed, 1.0, 0.0, Some((40, 40)))).collect();
        assert_eq!(moving(&still), None);
        let flicker: Vec<Grey> =
            (1..5).map(|seed| frame(seed, 0.8 + 0.1 * seed as f32, 6.0 * seed as f32, None)).collect();
        assert_eq!(moving(&flicker), None);
        assert_eq!(moving(&still[..1]), None);
        assert_eq!(moving(&[]), None);
        let other = Grey::new(2, 2, vec![0.0; 4]).unwrap();
        assert_eq!(moving(&[still[0].clone(), other]), None);
        assert_eq!(Grey::new(2, 2, vec![0.0; 3]), None);
    }

    #[test]
    fn rain_and_a_swinging_camera_are_no_animal() {
        let mut rain: Vec<Grey> = (1..4).map(|seed| frame(seed, 1.0, 0.0, None)).collect();
        for (i, frame) in rain.iter_mut().enumerate() {
            for drop in 0..60 {
                let at = (drop * 311 + i * 97) % (W * H);
                frame.levels[at] = 250.0;
            }
        }
        assert_eq!(moving(&rain), None);
        let calm = frame(1, 1.0, 0.0, None);
        let mut swung = frame(2, 1.0, 0.0, None);
        swung.levels.rotate_left(W * 11 + 14);
        assert_eq!(moving(&[calm, swung]), None);
    }

    #[test]
    fn every_box_lies_inside() {
        for (l, t) in [(0, 0), (159, 0), (0, 119), (159, 119), (80, 60)] {
            let part = framed([l, t, l + 1, t + 1], W, H).unwrap();
            let [x, y, w, h] = part.shares();
            assert!(x >= 0.0 && y >= 0.0 && x + w <= 1.0 + 1e-5 && y + h <= 1.0 + 1e-5);
            assert!(h * H as f32 >= LEAST_SIDE * H as f32 - 1e-3);
        }
        assert_eq!(framed([0, 0, W, H], W, H), None);
    }

    #[test]
    fn the_surer_one_decides_unless_it_sees_nothing() {
        let classes = [None, None, Some(Group::Blank)];
        let prediction = |fused: [f64; 3]| Prediction {
            image: fused.to_vec(),
            prior: None,
            fused: fused.to_vec(),
            decision: Decision::Abstain,
            provenance: Provenance::Image,
            year_mean: false,
            prior_computed: false,
            set_aside: None,
        };
        let decides = |whole, crop| crop_decides(&prediction(whole), &prediction(crop), &classes);
        assert!(decides([0.5, 0.2, 0.3], [0.9, 0.05, 0.05]));
        assert!(decides([0.3, 0.1, 0.6], [0.1, 0.8, 0.1]));
        assert!(!decides([0.6, 0.2, 0.2], [0.5, 0.4, 0.1]));
        assert!(!decides([0.6, 0.2, 0.2], [0.05, 0.05, 0.9]), "empty grass");
    }
}
