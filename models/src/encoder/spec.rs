//! How an encoder stands in a file: its name and the settings that are its own.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use super::{KINDS, Kind, PositionEncoder, Prepared};

/// Most features of a place.
const MAX_DIM: usize = 1 << 16;
/// Most spreads of random features.
const SPREADS: usize = 4;

/// An encoder by name, with the settings that differ from its defaults. A setting that the encoder
/// does not take is an error. For self-describing formats (JSON, TOML): absent settings are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSpec {
    /// Name or alias, see [`KINDS`].
    pub kind: String,
    /// Number of scales, or of random directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequencies: Option<u16>,
    /// Finest scale, in the encoder's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r_min: Option<f64>,
    /// Coarsest scale, in the encoder's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r_max: Option<f64>,
    /// Spherical harmonics l below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degree: Option<u16>,
    /// West, east, south, north in degrees: what becomes [-1, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent: Option<[f64; 4]>,
    /// Standard deviations of the random directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigmas: Option<Vec<f64>>,
    /// Seed of the random directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Random directions, given instead of drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directions: Option<Vec<[f64; 2]>>,
    /// Their shifts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shifts: Option<Vec<f64>>,
    /// Two features more, for the time of the year.
    #[serde(default, skip_serializing_if = "is_false")]
    pub season: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The settings of any encoder, resolved; each encoder reads those it [`takes`](Kind::takes).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// See [`EncoderSpec`], as for the others.
    pub frequencies: u16,
    /// Finest scale.
    pub r_min: f64,
    /// Coarsest scale.
    pub r_max: f64,
    /// Degrees of spherical harmonics.
    pub degree: u16,
    /// West, east, south, north.
    pub extent: [f64; 4],
    /// Spreads of random directions, 0 for none.
    pub sigmas: [f64; SPREADS],
    /// Seed of random directions.
    pub seed: u64,
}

impl Settings {
    /// What an encoder has that takes no settings.
    pub(super) const NONE: Self = Self {
        frequencies: 0,
        r_min: 0.0,
        r_max: 0.0,
        degree: 0,
        extent: [0.0; 4],
        sigmas: [0.0; SPREADS],
        seed: 0,
    };

    /// The spreads there are.
    pub(super) fn spreads(&self) -> impl Iterator<Item = f64> + Clone {
        self.sigmas.into_iter().filter(|&sigma| sigma > 0.0)
    }
}

/// Why a specification is none of an encoder.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncoderError {
    /// A name that is not in the table.
    #[error("there is no encoder \"{kind}\"; there are {known}", known = names())]
    Unknown {
        /// The name.
        kind: String,
    },
    /// A setting of other encoders.
    #[error("encoder.{field} is not a setting of {kind}, {}", match .takes { [] => "which takes none".into(), takes => alloc::format!("which takes {}", takes.join(", ")) })]
    Foreign {
        /// The encoder.
        kind: &'static str,
        /// The setting.
        field: &'static str,
        /// Its own settings.
        takes: &'static [&'static str],
    },
    /// A value no encoder can work with.
    #[error("encoder.{field} is {value}: {need}")]
    Range {
        /// Name of the setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        need: &'static str,
    },
}

fn names() -> String {
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    names.join(", ")
}

impl EncoderSpec {
    /// The encoder of that name with its defaults.
    pub fn of(kind: &str) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// The encoder, with its defaults where this says nothing.
    ///
    /// # Errors
    /// See [`EncoderError`].
    pub fn build(self) -> Result<PositionEncoder, EncoderError> {
        let kind = Kind::named(&self.kind).ok_or(EncoderError::Unknown { kind: self.kind.clone() })?;
        self.only_own(kind)?;
        let mut settings = self.over(kind.defaults)?;
        if let Some(directions) = &self.directions {
            settings.frequencies = self.given(kind, &settings, directions)?;
        }
        check(kind, &settings)?;
        Ok(PositionEncoder::prepared(kind, settings, self))
    }

    fn only_own(&self, kind: &Kind) -> Result<(), EncoderError> {
        let given = [
            ("frequencies", self.frequencies.is_some()),
            ("r_min", self.r_min.is_some()),
            ("r_max", self.r_max.is_some()),
            ("degree", self.degree.is_some()),
            ("extent", self.extent.is_some()),
            ("sigmas", self.sigmas.is_some()),
            ("seed", self.seed.is_some()),
            ("directions", self.directions.is_some()),
            ("shifts", self.shifts.is_some()),
        ];
        match given.into_iter().find(|(field, given)| *given && !kind.takes.contains(field)) {
            Some((field, _)) => Err(EncoderError::Foreign { kind: kind.name, field, takes: kind.takes }),
            None => Ok(()),
        }
    }

    fn over(&self, defaults: Settings) -> Result<Settings, EncoderError> {
        let mut sigmas = defaults.sigmas;
        if let Some(given) = &self.sigmas {
            let fits =
                (1..=SPREADS).contains(&given.len()) && given.iter().all(|s| s.is_finite() && *s > 0.0);
            if !fits {
                return range("sigmas", alloc::format!("{given:?}"), "it must be 1 to 4 numbers above 0");
            }
            sigmas = [0.0; SPREADS];
            sigmas[..given.len()].copy_from_slice(given);
        }
        Ok(Settings {
            frequencies: self.frequencies.unwrap_or(defaults.frequencies),
            r_min: self.r_min.unwrap_or(defaults.r_min),
            r_max: self.r_max.unwrap_or(defaults.r_max),
            degree: self.degree.unwrap_or(defaults.degree),
            extent: self.extent.unwrap_or(defaults.extent),
            sigmas,
            seed: self.seed.unwrap_or(defaults.seed),
        })
    }

    /// Number of frequencies of given directions.
    fn given(&self, kind: &Kind, settings: &Settings, directions: &[[f64; 2]]) -> Result<u16, EncoderError> {
        let shifted = kind.takes.contains(&"shifts");
        let shifts = self.shifts.as_deref().unwrap_or_default();
        let groups = if shifted { 1 } else { settings.spreads().count().max(1) };
        let frequencies = directions.len() / groups;
        let value = || alloc::format!("{} rows and {} shifts", directions.len(), shifts.len());
        let wanted = self.frequencies.map_or(frequencies, usize::from);
        if directions.len() != wanted * groups || (shifted && shifts.len() != directions.len()) {
            let need = "each frequency has a row (of each sigma, where there are several) and a shift";
            return range("directions", value(), need);
        }
        if !directions.iter().flatten().chain(shifts).all(|number| number.is_finite()) {
            return range("directions", value(), "all numbers must be finite");
        }
        u16::try_from(frequencies).or_else(|_| range("directions", value(), "there are too many"))
    }
}

fn check(kind: &Kind, settings: &Settings) -> Result<(), EncoderError> {
    let &Settings { frequencies, r_min, r_max, degree, extent, .. } = settings;
    let [west, east, south, north] = extent;
    let takes = |field| kind.takes.contains(&field);
    if takes("frequencies") && !(1..=1024).contains(&frequencies) {
        return range("frequencies", frequencies.to_string(), "it must be 1 to 1024");
    }
    // 2^s grows past what an angle can hold
    if kind.name == "nerf" && frequencies > 32 {
        return range("frequencies", frequencies.to_string(), "it must be 1 to 32 for nerf");
    }
    if takes("r_min") && !(r_min.is_finite() && r_min > 0.0) {
        return range("r_min", r_min.to_string(), "it must be finite and above 0");
    }
    if takes("r_max") && !(r_max.is_finite() && r_max >= r_min) {
        return range("r_max", r_max.to_string(), "it must be finite and at least r_min");
    }
    if takes("degree") && !(1..=64).contains(&degree) {
        return range("degree", degree.to_string(), "it must be 1 to 64");
    }
    let spans = |low: f64, high: f64| low.is_finite() && high.is_finite() && low < high;
    if takes("extent") && !(spans(west, east) && spans(south, north)) {
        let need = "it must be west < east and south < north, degrees";
        return range("extent", alloc::format!("{extent:?}"), need);
    }
    let dim = (kind.dim)(settings);
    if dim > MAX_DIM {
        return range("frequencies", frequencies.to_string(), "that is more than 65536 features a place");
    }
    Ok(())
}

fn range<T>(field: &'static str, value: String, need: &'static str) -> Result<T, EncoderError> {
    Err(EncoderError::Range { field, value, need })
}

impl PositionEncoder {
    pub(super) fn prepared(kind: &'static Kind, settings: Settings, given: EncoderSpec) -> Self {
        let table = (kind.prepare)(&settings, &given);
        let EncoderSpec { directions, shifts, season, .. } = given;
        let own = |field: &str| kind.takes.contains(&field);
        let drawn = directions.is_none();
        let spec = EncoderSpec {
            kind: kind.name.into(),
            frequencies: own("frequencies").then_some(settings.frequencies),
            r_min: own("r_min").then_some(settings.r_min),
            r_max: own("r_max").then_some(settings.r_max),
            degree: own("degree").then_some(settings.degree),
            extent: own("extent").then_some(settings.extent),
            // with its own shifts a direction needs no spread to be found again
            sigmas: (own("sigmas") && (drawn || !own("shifts"))).then(|| settings.spreads().collect()),
            seed: (own("seed") && drawn).then_some(settings.seed),
            directions,
            shifts,
            season,
        };
        Self { kind, spec, prepared: Prepared { settings, table } }
    }

    /// How it stands in a file, every setting of its own filled in.
    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }
}

impl core::fmt::Display for PositionEncoder {
    /// `space2vec-grid (frequencies 16, r_min 1, r_max 360), 64 features`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let spec = &self.spec;
        let mut settings: Vec<String> = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            settings.extend(value.map(|value| alloc::format!("{name} {value}")));
        };
        add("frequencies", spec.frequencies.map(|v| v.to_string()));
        add("r_min", spec.r_min.map(|v| v.to_string()));
        add("r_max", spec.r_max.map(|v| v.to_string()));
        add("degree", spec.degree.map(|v| v.to_string()));
        add("extent", spec.extent.map(|v| alloc::format!("{v:?}")));
        add("sigmas", spec.sigmas.as_ref().map(|v| alloc::format!("{v:?}")));
        add("seed", spec.seed.map(|v| v.to_string()));
        add("given directions", spec.directions.as_ref().map(|v| v.len().to_string()));
        add("with the", spec.season.then(|| "season".into()));
        let settings =
            if settings.is_empty() { String::new() } else { alloc::format!(" ({})", settings.join(", ")) };
        write!(f, "{}{settings}, {} features", spec.kind, self.dim())
    }
}

impl TryFrom<EncoderSpec> for PositionEncoder {
    type Error = EncoderError;

    fn try_from(spec: EncoderSpec) -> Result<Self, EncoderError> {
        spec.build()
    }
}

impl From<PositionEncoder> for EncoderSpec {
    fn from(encoder: PositionEncoder) -> Self {
        encoder.spec
    }
}
