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

/// The captures, by name; none without `CSP_DATA`.
fn captures() -> Vec<(String, Vec<u8>)> {
    let Some(data) = env::var_os("CSP_DATA").map(PathBuf::from) else {
        eprintln!("SKIPPED: set CSP_DATA to the folder with nmea/ to read the captures");
        return Vec::new();
    };
    let listed = fs::read_dir(data.join("nmea")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        listed.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

fn fixes(bytes: &[u8]) -> (Vec<LatLon>, Gps) {
    let mut gps = Gps::recorded(None);
    let mut epochs: Vec<_> = bytes.iter().filter_map(|byte| gps.take(&[*byte], 0)).collect();
    epochs.extend(gps.pause(0));
    (epochs.iter().filter_map(|epoch| Some(epoch.fix.ok()?.at)).collect(), gps)
}

/// The trap's place is averaged and follows in steps; it still has to be where the receiver was at the
/// end, be that a tree, a walker or a ship.
#[test]
fn the_place_at_the_end_is_that_of_the_last_fix() {
    for (name, bytes) in captures() {
        let (fixes, gps) = fixes(&bytes);
        let (Some(last), Some(place)) = (fixes.last(), gps.place(0)) else { continue };
        let metres = place.at.distance_m(*last);
        assert!(
            metres <= place.uncertainty_m + 10.0,
            "{name}: {metres:.0} m off, ± {:.0} m",
            place.uncertainty_m
        );
    }
}

/// One damaged byte in a sentence is always caught by its checksum. Whole stretches lost, doubled or
/// overwritten can fool an 8-bit sum: that has to stay below one fix in ten thousand.
#[test]
fn damage_never_invents_a_place() {
    let (mut runs, mut kept, mut wrong) = (0, 0, 0);
    for (name, bytes) in captures() {
        let bytes = &bytes[..bytes.len().min(40_000)];
        let clean = fixes(bytes).0;
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut roll = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let near = |at: &LatLon| clean.iter().any(|other| other.distance_m(*at) <= 100.0);
        for run in 0..12 {
            let mut damaged = bytes.to_vec();
            let mut at = roll(300);
            while at < damaged.len() {
                let end = (at + 1 + roll(60)).min(damaged.len());
                match run % 4 {
                    0 => damaged[at] ^= 1 << roll(8),
                    1 => damaged[at] = roll(256) as u8,
                    2 => drop(damaged.drain(at..end)),
                    _ => {
                        let again = damaged[at..end].to_vec();
                        damaged.splice(at..at, again);
                    }
                }
                at += 200 + roll(400);
            }
            let found = fixes(&damaged).0;
            runs += 1;
            kept += found.len();
            let bad = found.iter().filter(|at| !near(at)).count();
            assert!(bad == 0 || run % 4 > 1, "{name}: a damaged byte moved {bad} fixes");
            wrong += bad;
        }
    }
    println!("{runs} damaged streams, {kept} fixes, {wrong} of them elsewhere");
    assert!(wrong * 10_000 <= kept, "{wrong} of {kept}");
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
