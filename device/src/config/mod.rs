//! `trap.toml`: everything a person tells a trap, in one file.
//!
//! Every key may be left out, an unknown one is refused where it stands, and
//! `csp-device config --print` writes the whole file with what each key means. The comments there are
//! the doc comments here.

mod error;
mod explain;
mod privacy;
mod sections;

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use error::ConfigError;
pub use privacy::{PrivacyConfig, Suppressed};
pub use sections::{
    BurstConfig, CameraConfig, CameraKind, EnergyConfig, FlashConfig, GpsConfig, LedsConfig, ModelConfig,
    SiteConfig, StoreConfig, TimelapseConfig, TrapIdentity, TriggerConfig, WatchdogConfig,
};

use crate::trap::{
    Settings,
    energy::{Plan, PowerModel},
};

/// A trap's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrapConfig {
    /// Who this is. Both names stand in the header of every file of records.
    pub trap: TrapIdentity,
    /// Where it hangs, for when the receiver has no fix. Leave both out when nobody knows.
    pub site: SiteConfig,
    /// What takes the pictures.
    pub camera: CameraConfig,
    /// What says that there is something to photograph.
    pub trigger: TriggerConfig,
    /// The pictures of one trigger.
    pub burst: BurstConfig,
    /// The infrared flash.
    pub flash: FlashConfig,
    /// Pictures without a trigger.
    pub timelapse: TimelapseConfig,
    /// The receiver.
    pub gps: GpsConfig,
    /// Where records and pictures go.
    pub store: StoreConfig,
    /// What the board draws and what the battery gives. Energy is these watts times measured time: measure them.
    pub energy: EnergyConfig,
    /// What is not to be kept as it is: pictures of people, places that nobody else is to know.
    pub privacy: PrivacyConfig,
    /// What names the animals.
    pub model: ModelConfig,
    /// What restarts a trap that hangs.
    pub watchdog: WatchdogConfig,
    /// A lamp for someone at the tree without a screen: see `csp-device selftest --leds`.
    pub leds: LedsConfig,
}

impl TrapConfig {
    /// Reads a file; returns its SHA-256 with it, which stands in the record of the start.
    ///
    /// # Errors
    /// Unreadable, or as [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<(Self, [u8; 32]), ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.into(), source })?;
        let config = Self::parse(&text).map_err(|error| error.in_file(path))?;
        Ok((config, Sha256::digest(text.as_bytes()).into()))
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// Not TOML, an unknown key, or a value out of range: with line, column and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::of_toml(text, &error))?;
        sections::check(&config).map_err(|(key, problem)| ConfigError::of_value(text, key, problem))?;
        Ok(config)
    }

    /// The configuration as TOML with an explanation of each key; reads back as the same.
    ///
    /// # Errors
    /// A value that TOML cannot hold.
    pub fn explained(&self) -> Result<String, toml::ser::Error> {
        explain::explained(self)
    }

    /// How the trap behaves. Only what holds wherever it runs; pins and paths are the board's.
    pub fn settings(&self) -> Settings {
        let ms = |seconds: f64| (seconds * 1000.0).round() as u64;
        let every = self.timelapse.every_minutes;
        Settings {
            frames: self.burst.frames,
            interval_ms: ms(self.burst.interval_s),
            cool_down_ms: ms(self.burst.cool_down_s),
            flash_warm_up_ms: self.flash.line.is_some().then_some(self.flash.warm_up_ms),
            timelapse_ms: (every > 0.0).then(|| ms(every * 60.0)),
            waiting_bytes: self.burst.waiting_mib << 20,
            storage_low_bytes: self.store.low_mib << 20,
            power: PowerModel {
                idle_w: self.energy.idle_w,
                capture_w: self.energy.capture_w,
                inference_w: self.energy.inference_w,
                flash_w: self.energy.flash_w,
                receiver_w: self.energy.receiver_w,
            },
            plan: Plan {
                daily_wh: self.energy.daily_wh,
                battery_percent: self.energy.battery_percent,
                temperature_c: self.energy.temperature_c,
            },
            events: true,
            safe_mode: false,
        }
    }
}

#[cfg(test)]
mod tests;
