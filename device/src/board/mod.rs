//! A Linux board: pins, thermometer and battery, a camera program, a lamp.

pub mod camera;
#[cfg_attr(not(target_os = "linux"), path = "no_gpio.rs")]
pub mod gpio;
pub mod lamp;
pub mod sysfs;

pub use camera::CommandCamera;
pub use sysfs::Sensors;
