//! Position features: a place as a vector of bounded numbers, computed in f64.
//!
//! The location network takes these features, never degrees: `sin(lon / r_min)` formed in f32
//! is off by up to 1e-3 at `r_min = 0.01` and meaningless below.
//!
//! One file an encoder, each with its row of [`KINDS`], the table that names them: another encoder
//! is another file and another line there. [`EncoderSpec`] is how one stands in a manifest or a
//! configuration file.

mod direct;
mod grid;
mod harmonics;
mod nerf;
mod rff;
mod rff_equal_earth;
mod scales;
mod spec;
mod sphere_c;
mod sphere_c_plus;
mod sphere_dfs;
mod sphere_m;
mod sphere_m_plus;
mod theory;
mod wrap;
mod xyz;

use alloc::{vec, vec::Vec};
use core::f64::consts::PI;

use serde::{Deserialize, Serialize};

pub use spec::{EncoderError, EncoderSpec, Settings};

use crate::{place::LatLon, time::YearFraction};

/// Every encoder, the default first.
pub static KINDS: &[Kind] = &[
    grid::KIND,
    theory::KIND,
    sphere_c::KIND,
    sphere_c_plus::KIND,
    sphere_m::KIND,
    sphere_m_plus::KIND,
    sphere_dfs::KIND,
    wrap::KIND,
    rff::KIND,
    rff_equal_earth::KIND,
    harmonics::ORTHONORMAL,
    harmonics::SATCLIP,
    xyz::KIND,
    nerf::KIND,
    direct::KIND,
];

/// One row of [`KINDS`].
pub struct Kind {
    /// Its name in manifests and configuration files.
    pub name: &'static str,
    /// Other names it is known by, the original's among them. Case does not matter.
    pub aliases: &'static [&'static str],
    /// What it is, in a line.
    pub about: &'static str,
    /// The settings it takes, as they are named in a file.
    pub takes: &'static [&'static str],
    /// Their values where a file gives none.
    pub defaults: Settings,
    /// Number of features, the season apart.
    dim: fn(&Settings) -> usize,
    /// What is the same for every place: scales, random directions, coefficients.
    prepare: fn(&Settings, &EncoderSpec) -> Vec<f64>,
    /// Writes the features of a place.
    encode: fn(&Prepared, LatLon, &mut [f64]),
}

impl Kind {
    /// The row of a name or an alias.
    pub fn named(name: &str) -> Option<&'static Self> {
        let is = |known: &&str| known.eq_ignore_ascii_case(name);
        KINDS.iter().find(|kind| is(&kind.name) || kind.aliases.iter().any(&is))
    }
}

/// Settings and what follows from them for every place.
#[derive(Clone)]
struct Prepared {
    settings: Settings,
    table: Vec<f64>,
}

/// Which position features a model uses, ready to compute them. Stored in the bundle's manifest as
/// its [`EncoderSpec`]; one that exists is in range.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "EncoderSpec", into = "EncoderSpec")]
pub struct PositionEncoder {
    kind: &'static Kind,
    spec: EncoderSpec,
    prepared: Prepared,
}

impl Default for PositionEncoder {
    /// Space2Vec-grid with 16 scales from 1°, which reach places between the labelled ones; the
    /// released CSP models use 32 from 0.1°, for data that is dense at that scale.
    fn default() -> Self {
        Self::prepared(&KINDS[0], KINDS[0].defaults, EncoderSpec::default())
    }
}

impl PartialEq for PositionEncoder {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl core::fmt::Debug for PositionEncoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.spec.fmt(f)
    }
}

impl PositionEncoder {
    /// A multi-scale encoder: `frequencies` scales from `r_min` to `r_max`, degrees for Space2Vec,
    /// radians for Sphere2Vec.
    ///
    /// # Errors
    /// An unknown name, one without scales, or numbers out of range.
    pub fn scaled(kind: &str, frequencies: u16, r_min: f64, r_max: f64) -> Result<Self, EncoderError> {
        EncoderSpec {
            frequencies: Some(frequencies),
            r_min: Some(r_min),
            r_max: Some(r_max),
            ..EncoderSpec::of(kind)
        }
        .build()
    }

    /// Its row in the table.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// True when the features end in two for the time of the year.
    pub fn season(&self) -> bool {
        self.spec.season
    }

    /// Number of features of a place.
    pub fn dim(&self) -> usize {
        (self.kind.dim)(&self.prepared.settings) + if self.spec.season { 2 } else { 0 }
    }

    /// Whether the features jump at ±180°, so that neighbours on its two sides are far apart. By this encoder's
    /// settings: sines of a multiple of the longitude meet there, others do not.
    pub fn has_seam(&self) -> bool {
        // several latitudes: at one of them a factor may be 0
        [-60.0, 0.0, 33.0].into_iter().any(|lat| {
            let side = |lon: f64| Some(self.encode(LatLon::new(lat, lon).ok()?, None));
            let (Some(west), Some(east)) = (side(180.0), side(-180.0)) else { return true };
            west.iter().zip(&east).any(|(a, b)| (a - b).abs() > 1e-3)
        })
    }

    /// The features of a place at a time of the year, `[dim]`; each in [-1, 1], but for spherical
    /// harmonics and for `direct` outside its extent. The date only matters with
    /// [`season`](Self::season): then the last two features are the sine and cosine of
    /// π (2 date − 1), or 0 and 0 where the date is not known.
    pub fn encode(&self, place: LatLon, date: Option<YearFraction>) -> Vec<f64> {
        let mut out = vec![0.0; self.dim()];
        self.encode_into(place, date, &mut out);
        out
    }

    /// Writes the features of a place over `out`, which holds [`dim`](Self::dim) numbers.
    pub fn encode_into(&self, place: LatLon, date: Option<YearFraction>, out: &mut [f64]) {
        let (features, season) = out.split_at_mut(out.len() - if self.spec.season { 2 } else { 0 });
        (self.kind.encode)(&self.prepared, place, features);
        if let [sine, cosine] = season {
            let angle = date.map(|date| PI * (2.0 * date.value() - 1.0));
            (*sine, *cosine) = angle.map_or((0.0, 0.0), |angle| (libm::sin(angle), libm::cos(angle)));
        }
    }
}

/// Longitude and latitude in radians.
fn radians(place: LatLon) -> [f64; 2] {
    place.lon_lat().map(|degrees| degrees * PI / 180.0)
}

#[cfg(test)]
mod tests;
