//! Golden values at fixed places, computed in f64 by two independent implementations.

use alloc::string::ToString;

use super::*;

pub(super) fn los_angeles() -> LatLon {
    LatLon::new(34.05, -118.25).unwrap()
}

pub(super) fn named(kind: &str) -> PositionEncoder {
    EncoderSpec::of(kind).build().unwrap()
}

pub(super) fn scaled(kind: &str, frequencies: u16, r_min: f64, r_max: f64) -> PositionEncoder {
    PositionEncoder::scaled(kind, frequencies, r_min, r_max).unwrap()
}

pub(super) fn check_full(encoder: &PositionEncoder, expected: &[f64]) {
    let features = encoder.encode(los_angeles(), None);
    assert_eq!(features.len(), expected.len());
    for (i, (got, want)) in features.iter().zip(expected).enumerate() {
        assert!((got - want).abs() < 1e-9, "feature {i}: {got} is not {want}");
    }
}

/// Sum, sum of squares and last feature at three places, the last the pole on the date line.
pub(super) fn check_sums(encoder: &PositionEncoder, expected: [(f64, f64, f64); 3]) {
    let places = [(34.05, -118.25), (-33.8688, 151.2093), (90.0, 180.0)];
    for ((lat, lon), (sum, squares, last)) in places.into_iter().zip(expected) {
        let features = encoder.encode(LatLon::new(lat, lon).unwrap(), None);
        let got_sum: f64 = features.iter().sum();
        let got_squares: f64 = features.iter().map(|f| f * f).sum();
        assert!((got_sum - sum).abs() < 1e-8, "{lat},{lon}: sum {got_sum} is not {sum}");
        assert!((got_squares - squares).abs() < 1e-8, "{lat},{lon}: squares {got_squares} not {squares}");
        let got = features[features.len() - 1];
        assert!((got - last).abs() < 1e-9, "{lat},{lon}: last {got} is not {last}");
    }
}

#[test]
fn every_row_of_the_table_works() {
    let mut seen: Vec<&str> = Vec::new();
    for kind in KINDS {
        for name in core::iter::once(&kind.name).chain(kind.aliases) {
            assert!(!seen.contains(name), "{name} stands twice");
            seen.push(name);
            assert_eq!(Kind::named(&name.to_uppercase()).map(|found| found.name), Some(kind.name));
        }
        let encoder = named(kind.name);
        for (lat, lon) in [(90.0, 180.0), (-90.0, -180.0), (0.0, 0.0), (34.05, -118.25)] {
            let features = encoder.encode(LatLon::new(lat, lon).unwrap(), None);
            assert_eq!(features.len(), encoder.dim(), "{}", kind.name);
            assert!(features.iter().all(|f| f.is_finite()), "{} at {lat},{lon}", kind.name);
        }
        // two places a degree apart are told apart
        let near = LatLon::new(35.05, -118.25).unwrap();
        assert_ne!(encoder.encode(los_angeles(), None), encoder.encode(near, None), "{}", kind.name);
    }
}

#[test]
fn seams_are_known() {
    let seamless: Vec<&str> =
        KINDS.iter().map(|kind| kind.name).filter(|kind| !named(kind).has_seam()).collect();
    assert_eq!(seamless, ["wrap", "spherical-harmonics", "spherical-harmonics-satclip", "xyz", "nerf"]);
    // where a kind depends on its settings
    assert!(!scaled("sphere2vec-c", 1, 1.0, 1.0).has_seam());
    assert!(scaled("sphere2vec-c", 2, 0.3, 1.0).has_seam());
    // a jump is a jump: features a hair to both sides of it, as far apart as they say
    for kind in KINDS {
        let encoder = named(kind.name);
        let at = |lon: f64| encoder.encode(LatLon::new(33.0, lon).unwrap(), None);
        let apart =
            |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let across = apart(at(180.0 - 1e-9), at(-180.0 + 1e-9));
        assert_eq!(across > 1e-3, encoder.has_seam(), "{}: {across}", kind.name);
        assert!(apart(at(120.0 - 1e-9), at(120.0 + 1e-9)) < 1e-3, "{}", kind.name);
    }
}

#[test]
fn the_season_goes_round_the_year() {
    let encoder = EncoderSpec { season: true, ..EncoderSpec::of("xyz") }.build().unwrap();
    assert_eq!(encoder.dim(), 5);
    let at = |date: f64| encoder.encode(los_angeles(), YearFraction::new(date))[3..].to_vec();
    for (date, sine, cosine) in [(0.0, 0.0, -1.0), (0.25, -1.0, 0.0), (0.5, 0.0, 1.0), (0.75, 1.0, 0.0)] {
        let got = at(date);
        assert!((got[0] - sine).abs() < 1e-12 && (got[1] - cosine).abs() < 1e-12, "{date}: {got:?}");
    }
    assert_eq!(encoder.encode(los_angeles(), None)[3..], [0.0, 0.0]);
    assert_eq!(encoder.encode(los_angeles(), None)[..3], named("xyz").encode(los_angeles(), None));
}

#[test]
fn specifications_name_what_is_wrong() {
    let refusal = |spec: EncoderSpec| spec.build().unwrap_err().to_string();
    let unknown = refusal(EncoderSpec::of("vit"));
    assert!(unknown.contains("vit") && unknown.contains("sphere2vec-c+"), "{unknown}");
    let foreign = refusal(EncoderSpec { r_min: Some(0.1), ..EncoderSpec::of("xyz") });
    assert!(foreign.contains("r_min") && foreign.contains("takes none"), "{foreign}");
    let foreign = refusal(EncoderSpec { degree: Some(3), ..EncoderSpec::of("grid") });
    assert!(foreign.contains("degree") && foreign.contains("frequencies, r_min, r_max"), "{foreign}");
    for (spec, field) in [
        (EncoderSpec { frequencies: Some(0), ..EncoderSpec::of("grid") }, "frequencies"),
        (EncoderSpec { frequencies: Some(1024), ..EncoderSpec::of("dfs") }, "frequencies"),
        (EncoderSpec { frequencies: Some(33), ..EncoderSpec::of("nerf") }, "frequencies"),
        (EncoderSpec { r_min: Some(f64::NAN), ..EncoderSpec::of("theory") }, "r_min"),
        (EncoderSpec { r_max: Some(0.001), ..EncoderSpec::of("sphere") }, "r_max"),
        (EncoderSpec { degree: Some(65), ..EncoderSpec::of("sh") }, "degree"),
        (EncoderSpec { extent: Some([1.0, 1.0, 0.0, 1.0]), ..EncoderSpec::of("direct") }, "extent"),
        (EncoderSpec { sigmas: Some(vec![-1.0]), ..EncoderSpec::of("rff") }, "sigmas"),
        (EncoderSpec { directions: Some(vec![[0.0; 2]; 3]), ..EncoderSpec::of("rff") }, "directions"),
        (EncoderSpec { directions: Some(vec![[0.0; 2]; 4]), ..EncoderSpec::of("geoclip") }, "directions"),
    ] {
        let text = refusal(spec);
        assert!(text.contains(&alloc::format!("encoder.{field} is ")), "{text}");
    }
}

#[cfg(feature = "std")]
#[test]
fn files_carry_every_setting_and_old_ones_still_read() {
    // as manifests were written before there were other encoders
    let old = r#"{"kind":"space2vec-grid","frequencies":32,"r_min":0.1,"r_max":360.0}"#;
    let encoder: PositionEncoder = serde_json::from_str(old).unwrap();
    assert_eq!(encoder, scaled("space2vec-grid", 32, 0.1, 360.0));
    assert_eq!(serde_json::to_string(&encoder).unwrap(), old);

    for kind in KINDS {
        for season in [false, true] {
            let encoder = EncoderSpec { season, ..EncoderSpec::of(kind.name) }.build().unwrap();
            let text = serde_json::to_string(&encoder).unwrap();
            let again: PositionEncoder = serde_json::from_str(&text).unwrap();
            assert_eq!(again, encoder);
            let date = YearFraction::new(0.3);
            assert_eq!(again.encode(los_angeles(), date), encoder.encode(los_angeles(), date), "{text}");
        }
    }
    let stored = EncoderSpec {
        directions: Some(vec![[0.1, 1.0 / 3.0]; 5]),
        shifts: Some(vec![0.7; 5]),
        ..EncoderSpec::of("rff")
    };
    let stored = stored.build().unwrap();
    let text = serde_json::to_string(&stored).unwrap();
    let again: PositionEncoder = serde_json::from_str(&text).unwrap();
    assert_eq!(again.encode(los_angeles(), None), stored.encode(los_angeles(), None), "{text}");

    let error = serde_json::from_str::<PositionEncoder>(r#"{"kind":"xyz","colour":1}"#).unwrap_err();
    assert!(error.to_string().contains("colour"), "{error}");
}
