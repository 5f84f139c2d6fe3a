//! Battery and thermometer as the kernel shows them, in text files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::trap::{Battery, Board};

/// Readings below `/sys/class/power_supply` and `/sys/class/thermal`, or folders that look like them.
#[derive(Clone, Debug)]
pub struct Sensors {
    power_supply: PathBuf,
    thermal: PathBuf,
}

impl Sensors {
    /// Sensors in these folders; those that are not there measure nothing.
    pub fn new(power_supply: &Path, thermal: &Path) -> Self {
        Self { power_supply: power_supply.into(), thermal: thermal.into() }
    }
}

impl Board for Sensors {
    /// The first supply that is a battery and present.
    fn battery(&mut self) -> Battery {
        for supply in folders(&self.power_supply) {
            if text(&supply, "type").as_deref() != Some("Battery") || number(&supply, "present") == Some(0) {
                continue;
            }
            let millivolts =
                number(&supply, "voltage_now").and_then(|microvolts| (microvolts / 1000).try_into().ok());
            let percent =
                number(&supply, "capacity").filter(|percent| (0..=100).contains(percent)).map(|p| p as u8);
            return Battery { millivolts, percent };
        }
        Battery::default()
    }

    /// The hottest zone: what throttles is the hottest part.
    fn temperature_c(&mut self) -> Option<f32> {
        folders(&self.thermal)
            .iter()
            .filter_map(|zone| number(zone, "temp"))
            // what no board survives is a sensor's way to say that it has no reading
            .filter(|millidegrees| (-60_000..150_000).contains(millidegrees))
            .max()
            .map(|millidegrees| millidegrees as f32 / 1000.0)
    }
}

/// Folders in a folder, in order of their names.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn text(folder: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(folder.join(file)).ok()?.trim().to_string())
}

fn number(folder: &Path, file: &str) -> Option<i64> {
    text(folder, file)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut sensors = Sensors::new(&dir.path().join("power"), &dir.path().join("thermal"));
        assert_eq!((sensors.battery(), sensors.temperature_c()), (Battery::default(), None));
        write("power/AC/type", "Mains\n");
        write("power/AC/voltage_now", "5000000\n");
        write("power/BAT0/type", "Battery\n");
        write("power/BAT0/voltage_now", "3712345\n");
        write("power/BAT0/capacity", "61\n");
        assert_eq!(sensors.battery(), Battery { millivolts: Some(3712), percent: Some(61) });
        for nonsense in ["101\n", "-1\n", "full\n", ""] {
            write("power/BAT0/capacity", nonsense);
            assert_eq!(sensors.battery().percent, None, "{nonsense:?}");
        }
        write("power/BAT0/present", "0\n");
        assert_eq!(sensors.battery(), Battery::default());
        write("thermal/thermal_zone0/temp", "48312\n");
        write("thermal/thermal_zone1/temp", "-5000\n");
        write("thermal/thermal_zone2/temp", "-274000\n");
        write("thermal/cooling_device0/type", "fan\n");
        assert_eq!(sensors.temperature_c(), Some(48.312));
    }
}
