use super::*;
use crate::store::Limits;

fn error(text: &str) -> String {
    TrapConfig::parse(text).unwrap_err().to_string()
}

#[test]
fn the_printed_defaults_read_back_and_explain_every_key() {
    let text = TrapConfig::default().explained().unwrap();
    assert_eq!(TrapConfig::parse(&text).unwrap(), TrapConfig::default());
    assert_eq!(TrapConfig::parse("").unwrap(), TrapConfig::default());
    // each key, also those without a value, has a comment above it
    let lines: Vec<&str> = text.lines().collect();
    let is_key =
        |line: &str| line.trim_start_matches("# ").split_once(" = ").is_some_and(|(k, _)| !k.contains(' '));
    let keys: Vec<usize> = (0..lines.len()).filter(|&at| is_key(lines[at])).collect();
    assert!(keys.len() > 40, "{} keys", keys.len());
    for at in keys {
        assert!(lines[at - 1].starts_with("# ") && !is_key(lines[at - 1]), "{}", lines[at]);
    }
    for section in [
        "trap",
        "site",
        "camera",
        "trigger",
        "burst",
        "flash",
        "timelapse",
        "gps",
        "store",
        "energy",
        "privacy",
        "model",
        "watchdog",
        "leds",
    ] {
        assert!(text.contains(&format!("\n[{section}]\n")), "{section}");
    }
    assert!(
        text.contains("# lat = 0.0")
            && text.contains("idle_w = 0.4\n")
            && text.contains("\"folder\": a folder")
    );
}

#[test]
fn what_was_set_is_printed_and_reads_back() {
    let text = "[site]\nlat = -1.2921\nlon = 36.8219\n[camera]\nkind = \"folder\"\nfolder = \"/in\"\n\
                [energy]\ndaily_wh = 7.5\n[trigger]\nline = 17\n";
    let config = TrapConfig::parse(text).unwrap();
    let place = config.site.place().unwrap();
    assert_eq!((place.lat(), place.lon()), (-1.2921, 36.8219));
    assert_eq!(TrapConfig::parse(&config.explained().unwrap()).unwrap(), config);
}

#[test]
fn mistakes_are_named_with_their_place_and_the_fix() {
    let cases = [
        ("[burst]\nframe = 3\n", ":2:1:", "did you mean `frames`?"),
        ("\n[burts]\nframes = 3\n", ":2:2:", "did you mean `burst`?"),
        ("[burst]\n  frames = 11\n", ":2:3:", "burst.frames: 1 to 10"),
        ("[burst]\nframes = \"three\"\n", ":2:10:", "invalid type"),
        ("[trap]\nname = \"ä\" x\n", ":2:12:", ""),
        ("[site]\nlat = 95.0\nlon = 1.0\n", ":2:1:", "95"),
        ("[site]\nlat = 0.0\nlon = 0.0\n", ":2:1:", ""),
        ("[site]\nlon = 1.0\n", ":2:1:", "go together"),
        ("[site]\nlat = nan\nlon = 1.0\n", ":2:1:", "site.lat"),
        ("[camera]\nkind = \"foldr\"\n", ":2:8:", "did you mean `folder`?"),
        ("[camera]\nkind = \"folder\"\n", ":2:1:", "camera.folder"),
        ("[energy]\nbattery_percent = [10, 20, 30]\n", ":2:1:", "falling"),
        ("[energy]\ntemperature_c = [nan, 70.0, 80.0]\n", ":2:1:", "rising"),
        ("[energy]\nidle_w = -1.0\n", ":2:1:", "watts"),
        ("[watchdog]\nboot_loop = 1\n", ":2:1:", "2 or more"),
        ("[burst]\ncool_down_s = inf\n", ":2:1:", "86400"),
        ("[store]\npictures_mib = 0\n", ":2:1:", "left out"),
        ("[store]\nreserve_mib = 5000\n", ":2:1:", "1024"),
        ("[camera]\nkind = \"replay\"\n", ":2:1:", "camera.folder"),
        ("[camera]\nheight = 0\n", ":2:1:", "pixels"),
        ("[privacy]\nthreshold = 0.0\n", ":2:1:", "above 0"),
        ("[privacy]\nsuppressed = \"seal\"\n", ":2:1:", "seal_to"),
        ("[privacy]\nseal_to = \"age1x\"\n", ":2:1:", "privacy.seal_to"),
        ("[privacy]\nsuppress = [\"humans\"]\n", ":2:13:", "did you mean `human`?"),
        ("[model]\ntrust = [\"RWQ\"]\n", ":2:1:", "minisign"),
    ];
    for (text, position, fix) in cases {
        let error = error(text);
        assert!(error.contains(position) && error.contains(fix), "{text:?}\n{error}");
    }
    // a name that is nothing like any key gets no guess
    assert!(!error("[burst]\nelephants = 3\n").contains("did you mean"));
}

#[test]
fn settings_are_in_the_traps_units() {
    let text = "[burst]\nframes = 5\ninterval_s = 0.25\ncool_down_s = 30\n[timelapse]\nevery_minutes = 1.5\n\
                [flash]\nline = 4\nwarm_up_ms = 70\n[store]\nlow_mib = 2\n";
    let settings = TrapConfig::parse(text).unwrap().settings();
    assert_eq!((settings.frames, settings.interval_ms, settings.cool_down_ms), (5, 250, 30_000));
    assert_eq!((settings.timelapse_ms, settings.flash_warm_up_ms), (Some(90_000), Some(70)));
    assert_eq!(settings.storage_low_bytes, 2 << 20);
    let store =
        TrapConfig::parse("[store]\npictures_mib = 3\nmin_free_mib = 5\nreserve_mib = 0\n").unwrap().store;
    let Limits { picture_bytes, min_free_bytes, reserve_bytes, .. } = store.limits();
    assert_eq!((picture_bytes, min_free_bytes, reserve_bytes), (Some(3 << 20), 5 << 20, 0));
    assert_eq!(TrapConfig::default().store.limits(), Limits::default());
    let settings = TrapConfig::default().settings();
    assert_eq!((settings.timelapse_ms, settings.flash_warm_up_ms), (None, None));
}
