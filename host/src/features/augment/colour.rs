//! Changes of light and colour on planar levels 0 to 1, `[3, height, width]` red green blue, as
//! torchvision's functions of these names compute them.

/// Levels times `factor`.
pub(super) fn brightness(planes: &mut [f32], factor: f32) {
    planes.iter_mut().for_each(|v| *v = (*v * factor).clamp(0.0, 1.0));
}

/// Differences from the mean grey times `factor`.
pub(super) fn contrast(planes: &mut [f32], factor: f32) {
    let plane = planes.len() / 3;
    let mean = (0..plane).map(|i| f64::from(grey(planes, i))).sum::<f64>() / plane.max(1) as f64;
    let shift = (1.0 - factor) * mean as f32;
    planes.iter_mut().for_each(|v| *v = (*v * factor + shift).clamp(0.0, 1.0));
}

/// Differences from each pixel's grey times `factor`.
pub(super) fn saturation(planes: &mut [f32], factor: f32) {
    let plane = planes.len() / 3;
    for i in 0..plane {
        let shift = (1.0 - factor) * grey(planes, i);
        for c in 0..3 {
            let value = &mut planes[c * plane + i];
            *value = (*value * factor + shift).clamp(0.0, 1.0);
        }
    }
}

/// Hues turned by `turns` of the circle of hue, saturation and value.
pub(super) fn hue(planes: &mut [f32], turns: f32) {
    if turns == 0.0 {
        return;
    }
    let plane = planes.len() / 3;
    for i in 0..plane {
        let rgb = [0, 1, 2].map(|c| planes[c * plane + i]);
        for (c, value) in turned(rgb, turns).into_iter().enumerate() {
            planes[c * plane + i] = value;
        }
    }
}

fn grey(planes: &[f32], at: usize) -> f32 {
    let plane = planes.len() / 3;
    0.2989 * planes[at] + 0.587 * planes[plane + at] + 0.114 * planes[2 * plane + at]
}

fn turned([r, g, b]: [f32; 3], turns: f32) -> [f32; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let spread = most - least;
    if spread <= 0.0 {
        return [r, g, b];
    }
    // the circle in six parts, from red over green and blue
    let sixth = if most == r {
        (g - b) / spread
    } else if most == g {
        2.0 + (b - r) / spread
    } else {
        4.0 + (r - g) / spread
    };
    let at = (sixth / 6.0 + turns).rem_euclid(1.0) * 6.0;
    // how far a channel is from its peak, which lies at 0, 2 and 4 sixths
    let level = |peak: f32| {
        let away = (at - peak).rem_euclid(6.0);
        let away = away.min(6.0 - away);
        most - spread * (away - 1.0).clamp(0.0, 1.0)
    };
    [level(0.0), level(2.0), level(4.0)].map(|v| v.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    //! Golden values: torchvision.transforms.functional.adjust_* (0.29) on the 1 × 4 picture below.
    use super::*;

    const PICTURE: [f32; 12] = [0.1, 0.9, 0.5, 0.3, 0.4, 0.2, 0.5, 0.8, 0.7, 0.6, 0.5, 0.05];

    fn check(change: impl Fn(&mut [f32]), golden: [f32; 12]) {
        let mut planes = PICTURE;
        change(&mut planes);
        for (got, want) in planes.iter().zip(golden) {
            assert!((got - want).abs() < 1e-5, "{planes:?} is not {golden:?}");
        }
    }

    #[test]
    fn agrees_with_torchvision() {
        check(
            |p| brightness(p, 1.3),
            [0.13, 1.0, 0.65, 0.39, 0.52, 0.26, 0.65, 1.0, 0.91, 0.78, 0.65, 0.065],
        );
        check(
            |p| contrast(p, 0.6),
            [
                0.246422, 0.726422, 0.486422, 0.366422, 0.426422, 0.306422, 0.486422, 0.666422, 0.606422,
                0.546422, 0.486422, 0.216422,
            ],
        );
        check(
            |p| saturation(p, 1.4),
            [
                0.002204, 1.0, 0.50002, 0.194012, 0.422204, 0.098076, 0.50002, 0.894012, 0.842204, 0.658076,
                0.50002, 0.0,
            ],
        );
        check(|p| hue(p, 0.2), [0.52, 0.9, 0.5, 0.05, 0.1, 0.64, 0.5, 0.8, 0.7, 0.2, 0.5, 0.7]);
        check(|p| hue(p, -0.15), [0.1, 0.57, 0.5, 0.8, 0.7, 0.2, 0.5, 0.625, 0.46, 0.9, 0.5, 0.05]);
        check(|p| hue(p, 1.0), PICTURE);
    }
}
