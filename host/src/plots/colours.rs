//! Colours in OKLab (Ottosson, 2020), where equal steps look equal.

use plotters::style::RGBColor;

/// Lightness, green–red, blue–yellow.
type Lab = [f64; 3];

/// Paper, green, deep blue; lightness falls evenly along it.
const SCALE: [Lab; 4] =
    [[0.97, -0.012, 0.022], [0.76, -0.105, 0.045], [0.54, -0.075, -0.055], [0.30, -0.005, -0.105]];

/// The colour of a score of 0 to 1, perceptually even from light to dark.
pub(super) fn shade(score: f64) -> RGBColor {
    let at = score.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let step = (at as usize).min(SCALE.len() - 2);
    let part = at - step as f64;
    let mut lab: Lab = [0, 1, 2].map(|i| SCALE[step][i] * (1.0 - part) + SCALE[step + 1][i] * part);
    // the anchors bend the hue, never the lightness
    let (light, dark) = (SCALE[0][0], SCALE[SCALE.len() - 1][0]);
    lab[0] = light + (dark - light) * score.clamp(0.0, 1.0);
    rgb(lab)
}

fn rgb([l, a, b]: Lab) -> RGBColor {
    let cone = |x: f64, y: f64| (l + x * a + y * b).powi(3);
    let (l, m, s) = (
        cone(0.396_337_777_4, 0.215_803_757_3),
        cone(-0.105_561_345_8, -0.063_854_172_8),
        cone(-0.089_484_177_5, -1.291_485_548_0),
    );
    let linear = [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ];
    let [r, g, b] = linear.map(|v| {
        let v = v.clamp(0.0, 1.0);
        let encoded = if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        (255.0 * encoded).round() as u8
    });
    RGBColor(r, g, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oklab_gives_the_colours_of_its_definition() {
        // white, and sRGB red (1, 0, 0) = OKLab (0.62796, 0.22486, 0.12585)
        assert_eq!(rgb([1.0, 0.0, 0.0]), RGBColor(255, 255, 255));
        let RGBColor(r, g, b) = rgb([0.627_96, 0.224_86, 0.125_85]);
        assert!(r >= 254 && g <= 2 && b <= 2, "{r} {g} {b}");
    }

    #[test]
    fn darker_is_more() {
        let grey = |score| {
            let RGBColor(r, g, b) = shade(score);
            0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)
        };
        let greys: Vec<f64> = (0..=20).map(|i| grey(f64::from(i) / 20.0)).collect();
        assert!(greys.windows(2).all(|pair| pair[0] > pair[1]), "{greys:?}");
    }
}
