//! Places on both sides of the antimeridian, which are neighbours on the Earth and not to every encoder.

use csp_models::encoder::{EncoderSpec, KINDS, PositionEncoder};

use super::Row;

/// How near the antimeridian a place feels its seam, degrees.
const NEAR: f64 = 10.0;

/// What is to be said where labelled places lie near ±180° on both sides and `encoder` jumps there.
pub fn about_seam(rows: &[Row], encoder: &PositionEncoder) -> Option<String> {
    let labelled = || rows.iter().filter(|row| row.class.is_some()).filter_map(|row| row.place);
    let west = labelled().filter(|place| place.lon() >= 180.0 - NEAR).count();
    let east = labelled().filter(|place| place.lon() <= NEAR - 180.0).count();
    if west == 0 || east == 0 || !encoder.has_seam() {
        return None;
    }
    let seamless = |kind: &&str| EncoderSpec::of(kind).build().is_ok_and(|encoder| !encoder.has_seam());
    let others: Vec<&str> = KINDS.iter().map(|kind| kind.name).filter(seamless).collect();
    Some(format!(
        "labelled places lie on both sides of ±180° ({west} and {east} within {NEAR}°), where the features of \
         {} jump, so that neighbours across it are strangers; [location.encoder] kinds without a seam: {}",
        encoder.kind().name,
        others.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use csp_models::{labels::ClassId, place::LatLon};

    #[test]
    fn a_seam_is_told_where_labelled_places_lie_on_both_sides() {
        let row = |lon: f64, class: Option<u16>| Row {
            place: Some(LatLon::new(-17.0, lon).unwrap()),
            class: class.map(ClassId),
            ..Row::default()
        };
        let said = |rows: &[Row], kind: &str| about_seam(rows, &EncoderSpec::of(kind).build().unwrap());
        let fiji = [row(178.0, Some(0)), row(179.0, Some(0)), row(-179.5, Some(1)), row(0.0, Some(1))];
        let text = said(&fiji, "space2vec-grid").unwrap();
        assert!(text.contains("(2 and 1 within 10°)") && text.contains("space2vec-grid"), "{text}");
        assert!(text.contains("xyz") && !text.contains("direct"), "{text}");
        assert_eq!(said(&fiji, "xyz"), None);
        assert_eq!(said(&fiji[..2], "space2vec-grid"), None);
        assert_eq!(said(&[row(178.0, Some(0)), row(-160.0, Some(0))], "direct"), None);
        assert_eq!(said(&[row(178.0, Some(0)), row(-179.0, None)], "direct"), None);
    }
}
