//! A Linux board: pins, thermometer and battery, a lamp.

#[cfg_attr(not(target_os = "linux"), path = "no_gpio.rs")]
pub mod gpio;
pub mod lamp;
pub mod sysfs;

pub use sysfs::Sensors;
