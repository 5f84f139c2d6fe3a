//! Position features: a place as a vector of bounded numbers, computed in f64.
//!
//! The location network takes these features, never degrees: `sin(lon / r_min)` formed in f32
//! is off by up to 1e-3 at `r_min = 0.01` and meaningless below.
//!
//! One file an encoder; [`PositionEncoder`] is the table that names them.

mod grid;
mod theory;

use alloc::{vec, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::place::LatLon;

/// The geometric ladder of scales shared by the multi-scale encoders (Space2Vec eq. 3):
/// `t_s = r_min · (r_max / r_min)^(s / (F − 1))`, finest first. The wavelength of scale `s` is `2π t_s`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// Number of scales F, at least 1.
    pub frequencies: u16,
    /// Finest scale, in the encoder's unit.
    pub r_min: f64,
    /// Coarsest scale, in the encoder's unit.
    pub r_max: f64,
}

impl Scales {
    /// Scales in ascending order.
    fn iter(self) -> impl Iterator<Item = f64> {
        let steps = f64::from(self.frequencies.max(2) - 1);
        (0..self.frequencies)
            .map(move |s| self.r_min * libm::pow(self.r_max / self.r_min, f64::from(s) / steps))
    }
}

/// Which position features a model uses, with their parameters. Stored in the bundle's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PositionEncoder {
    /// Space2Vec-grid (ICLR 2020): sine and cosine of each coordinate at each scale. Degrees.
    Space2vecGrid(Scales),
    /// Space2Vec-theory (ICLR 2020): projections on three directions 120° apart. Degrees.
    Space2vecTheory(Scales),
}

/// Parameters no encoder can work with.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("encoder.{field} is {value}: {need}")]
pub struct EncoderError {
    /// Name of the parameter.
    pub field: &'static str,
    /// Its value.
    pub value: f64,
    /// What it should be.
    pub need: &'static str,
}

impl Default for PositionEncoder {
    /// The released CSP models: grid, 32 scales from 0.1° to 360°.
    fn default() -> Self {
        Self::Space2vecGrid(Scales { frequencies: 32, r_min: 0.1, r_max: 360.0 })
    }
}

impl PositionEncoder {
    /// Number of features of a place.
    pub fn dim(&self) -> usize {
        match self {
            Self::Space2vecGrid(scales) => 4 * usize::from(scales.frequencies),
            Self::Space2vecTheory(scales) => 6 * usize::from(scales.frequencies),
        }
    }

    /// Checks parameters that came from a file.
    ///
    /// # Errors
    /// Names the parameter that is out of range.
    pub fn validate(&self) -> Result<(), EncoderError> {
        let (Self::Space2vecGrid(scales) | Self::Space2vecTheory(scales)) = self;
        let error = |field, value, need| Err(EncoderError { field, value, need });
        if !(1..=1024).contains(&scales.frequencies) {
            return error("frequencies", scales.frequencies.into(), "it must be 1 to 1024");
        }
        if !(scales.r_min.is_finite() && scales.r_min > 0.0) {
            return error("r_min", scales.r_min, "it must be finite and above 0");
        }
        if !(scales.r_max.is_finite() && scales.r_max >= scales.r_min) {
            return error("r_max", scales.r_max, "it must be finite and at least r_min");
        }
        Ok(())
    }

    /// The features of a place, `[dim]`, each in [-1, 1].
    pub fn encode(&self, place: LatLon) -> Vec<f64> {
        let mut out = vec![0.0; self.dim()];
        self.encode_into(place, &mut out);
        out
    }

    /// Writes the features of a place over `out`, which holds [`dim`](Self::dim) numbers.
    pub fn encode_into(&self, place: LatLon, out: &mut [f64]) {
        match *self {
            Self::Space2vecGrid(scales) => grid::encode(scales, place, out),
            Self::Space2vecTheory(scales) => theory::encode(scales, place, out),
        }
    }
}

#[cfg(test)]
pub(crate) mod golden {
    //! Golden values at fixed places, computed in f64 by two independent implementations.
    use super::*;

    pub fn los_angeles() -> LatLon {
        LatLon::new(34.05, -118.25).unwrap()
    }

    /// (place, sum, sum of squares, last feature)
    pub type Row = ((f64, f64), f64, f64, f64);

    pub fn check_full(encoder: PositionEncoder, expected: &[f64]) {
        let features = encoder.encode(los_angeles());
        assert_eq!(features.len(), expected.len());
        for (i, (got, want)) in features.iter().zip(expected).enumerate() {
            assert!((got - want).abs() < 1e-9, "feature {i}: {got} is not {want}");
        }
    }

    pub fn check_sums(encoder: PositionEncoder, rows: &[Row]) {
        for &((lat, lon), sum, squares, last) in rows {
            let features = encoder.encode(LatLon::new(lat, lon).unwrap());
            let got_sum: f64 = features.iter().sum();
            let got_squares: f64 = features.iter().map(|f| f * f).sum();
            assert!((got_sum - sum).abs() < 1e-8, "{lat},{lon}: sum {got_sum} is not {sum}");
            assert!((got_squares - squares).abs() < 1e-8, "{lat},{lon}: squares {got_squares}");
            assert!((features[features.len() - 1] - last).abs() < 1e-9, "{lat},{lon}: last");
        }
    }
}
