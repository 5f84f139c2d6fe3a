//! Captures of real receivers against gpsd's own reading of them.

use std::{env, fs, path::PathBuf};

use csp_device::gps::Gps;
use csp_models::place::LatLon;

/// Positions gpsd reports with a fix.
fn gpsd(chk: &str) -> Vec<LatLon> {
    let reports = chk.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    reports
        .filter(|report| report["class"] == "TPV" && report["mode"].as_u64().is_some_and(|mode| mode >= 2))
        .filter_map(|report| LatLon::new(report["lat"].as_f64()?, report["lon"].as_f64()?).ok())
        .collect()
}

#[test]
fn every_fix_is_one_gpsd_has_as_well() {
    let Some(data) = env::var_os("CSP_DATA").map(PathBuf::from) else {
        eprintln!("SKIPPED: set CSP_DATA to the folder with nmea/ to compare with gpsd");
        return;
    };
    let (mut with_fix, mut fixes, mut files, mut dated) = (0, 0, 0, 0);
    let mut missing = Vec::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(data.join("nmea")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
        let Ok(chk) = fs::read_to_string(path.with_extension("log.chk")) else { continue };
        files += 1;
        let (want, bytes) = (gpsd(&chk), fs::read(path).unwrap());
        let name = path.file_name().unwrap().to_string_lossy();
        let mut gps = Gps::new(None, None);
        let mut epochs: Vec<_> = bytes.iter().filter_map(|byte| gps.take(&[*byte], 0)).collect();
        epochs.extend(gps.pause(0));
        let found: Vec<_> = epochs.iter().filter_map(|epoch| epoch.fix.ok()).collect();
        for fix in &found {
            let near = want.iter().any(|at| {
                let east = (at.lon() - fix.at.lon()).abs();
                (at.lat() - fix.at.lat()).abs() < 1e-3 && east.min(360.0 - east) < 1e-3
            });
            assert!(near, "{name}: {} is not among gpsd's {} positions", fix.at, want.len());
        }
        dated += found.iter().filter(|fix| fix.utc_millis.is_some()).count();
        fixes += found.len();
        match (found.is_empty(), want.is_empty()) {
            (false, _) => with_fix += 1,
            (true, false) => missing.push(format!("{name} ({:?} sentences)", gps.sentences())),
            (true, true) => {}
        }
    }
    println!(
        "{with_fix} of {files} captures gave {fixes} fixes ({dated} dated); gpsd alone has a fix in {missing:#?}"
    );
    assert!(with_fix >= 30, "{with_fix} of {files}");
}
