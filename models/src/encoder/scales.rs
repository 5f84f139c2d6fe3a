//! The geometric ladder of scales shared by the multi-scale encoders (Space2Vec eq. 3):
//! `t_s = r_min · (r_max / r_min)^(s / (F − 1))`, finest first. The wavelength of scale `s` is `2π t_s`.

use alloc::vec::Vec;

use super::{EncoderSpec, Settings};

/// The settings of a ladder.
pub(super) const TAKES: &[&str] = &["frequencies", "r_min", "r_max"];

/// 16 scales from 1.1° to a radian: what the default of Space2Vec reaches, in the unit of Sphere2Vec.
pub(super) const SPHERE: Settings = Settings { frequencies: 16, r_min: 0.02, r_max: 1.0, ..Settings::NONE };

/// Scales in ascending order.
pub(super) fn ladder(settings: &Settings, _: &EncoderSpec) -> Vec<f64> {
    let &Settings { frequencies, r_min, r_max, .. } = settings;
    let steps = f64::from(frequencies.max(2) - 1);
    (0..frequencies).map(|s| r_min * libm::pow(r_max / r_min, f64::from(s) / steps)).collect()
}
