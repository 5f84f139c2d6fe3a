//! Two cells of text become a place, nothing, or a problem.

use std::{borrow::Cow, fmt::Display};

use csp_models::place::{LatLon, PlaceError};

use super::{
    json::Value,
    problem::{Kind, Problems, quoted},
};

/// A cell that says "no value" in one of the usual ways.
pub(crate) fn is_empty_cell(text: &str) -> bool {
    matches!(text.trim(), "" | "NA" | "N/A" | "n/a" | "null" | "NULL" | "None" | "\\N")
}

/// The same of a name, a date or a measure, where programs that write tables put NaN and NaT for it. Not
/// of a coordinate: NaN there is what became of a number.
pub(crate) fn is_nothing(text: &str) -> bool {
    is_empty_cell(text) || matches!(text.trim(), "NaN" | "nan" | "NAN" | "NaT" | "<NA>")
}

/// Reads the places of one file, and reports what is wrong with them.
pub(crate) struct PlaceReader<'a> {
    /// How the file spells its latitude column or field.
    pub(crate) lat_name: &'a str,
    /// How the file spells its longitude column or field.
    pub(crate) lon_name: &'a str,
    /// True where a comma is no delimiter and may stand for a decimal point.
    pub(crate) decimal_comma: bool,
    points: usize,
    /// Where decimal commas stood.
    commas: Vec<String>,
    comma_count: usize,
}

impl<'a> PlaceReader<'a> {
    pub(crate) fn new(lat_name: &'a str, lon_name: &'a str, decimal_comma: bool) -> Self {
        Self { lat_name, lon_name, decimal_comma, points: 0, commas: Vec::new(), comma_count: 0 }
    }

    /// A row's place; `None` without one, and with a problem.
    pub(crate) fn read(
        &mut self,
        at: &dyn Display,
        lat: &str,
        lon: &str,
        problems: &mut Problems,
    ) -> Option<LatLon> {
        match (is_empty_cell(lat), is_empty_cell(lon)) {
            (true, true) => return None,
            (false, false) => {}
            (lat_empty, _) => {
                let (given, value, absent) = if lat_empty {
                    (self.lon_name, lon, self.lat_name)
                } else {
                    (self.lat_name, lat, self.lon_name)
                };
                problems.add(Kind::HalfPlace, || {
                    format!(
                        "{at}: column {} is {} and column {} is empty",
                        quoted(given),
                        quoted(value),
                        quoted(absent)
                    )
                });
                return None;
            }
        }
        let (lat, lon) =
            (self.degrees(at, self.lat_name, lat, problems), self.degrees(at, self.lon_name, lon, problems));
        place(at, lat?, lon?, problems)
    }

    fn degrees(
        &mut self,
        at: &dyn Display,
        column: &str,
        text: &str,
        problems: &mut Problems,
    ) -> Option<f64> {
        let number = text.trim().trim_end_matches('°').trim_end();
        if let Ok(value) = number.parse() {
            self.points += usize::from(number.contains('.'));
            return Some(value);
        }
        let comma = is_decimal_comma(number);
        if comma && self.decimal_comma {
            self.comma_count += 1;
            if self.commas.len() < 5 {
                self.commas.push(format!("{at}, column {}: {}", quoted(column), quoted(text)));
            }
            if let Ok(value) = number.replace(',', ".").parse() {
                return Some(value);
            }
        }
        problems.add(Kind::NotANumber, || {
            let hint = if comma {
                " (a decimal comma in a comma-separated file; write a point)"
            } else if number.contains(['°', '\'', '"', 'N', 'S', 'E', 'W', 'n', 's', 'e', 'w'])
                && number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, 'N' | 'S' | 'E' | 'W'))
            {
                " (degrees and minutes or N/S/E/W are not read; write signed decimal degrees)"
            } else {
                ""
            };
            format!("{at}, column {}: {} is not a number of degrees{hint}", quoted(column), quoted(text))
        });
        None
    }

    /// True where the places so far have decimal commas: other numbers of the file have them too.
    pub(crate) fn writes_commas(&self) -> bool {
        self.comma_count > 0 && self.points == 0
    }

    /// Reports decimal commas when the file also has decimal points, since one of them then means something else.
    pub(crate) fn finish(self, problems: &mut Problems) {
        if self.points > 0 {
            for i in 0..self.comma_count {
                problems.add(Kind::MixedDecimals, || self.commas.get(i).cloned().unwrap_or_default());
            }
        }
    }
}

/// Half way round the Earth, metres: nothing is further off.
const FARTHEST: f64 = 20_037_508.0;

/// How far off a place may be. Zero, negative and impossible values are what sources write for
/// "unknown": they are counted and read as that.
pub(crate) fn uncertainty(at: &dyn Display, metres: f64, problems: &mut Problems) -> Option<f64> {
    if metres > 0.0 && metres <= FARTHEST {
        return Some(metres);
    }
    problems.add(Kind::BadUncertainty, || format!("{at}: {metres} m"));
    None
}

/// [`uncertainty`] of a cell, which may be empty; `1,5` is a number where the file's places
/// [have commas](PlaceReader::writes_commas).
pub(crate) fn uncertainty_cell(
    at: &dyn Display,
    column: &str,
    text: Option<&str>,
    decimal_comma: bool,
    problems: &mut Problems,
) -> Option<f64> {
    let text = text?;
    let number = text.trim().trim_end_matches('m').trim_end();
    let number = match decimal_comma && is_decimal_comma(number) {
        true => Cow::Owned(number.replace(',', ".")),
        false => Cow::Borrowed(number),
    };
    match number.parse() {
        Ok(metres) => uncertainty(&at, metres, problems),
        Err(_) => {
            problems
                .add(Kind::BadUncertainty, || format!("{at}, column {}: {}", quoted(column), quoted(text)));
            None
        }
    }
}

/// [`uncertainty`] of a field, which may be missing.
pub(crate) fn uncertainty_of_value(at: &dyn Display, value: &Value, problems: &mut Problems) -> Option<f64> {
    match value.number() {
        Ok(metres) => metres.and_then(|metres| uncertainty(at, metres, problems)),
        Err(text) => {
            problems.add(Kind::BadUncertainty, || format!("{at}: {}", quoted(text)));
            None
        }
    }
}

/// Two fields of a JSON as a place; `None` when both are missing, and with a problem.
pub(crate) fn of_values(
    at: &dyn Display,
    lat: &Value,
    lon: &Value,
    problems: &mut Problems,
) -> Option<LatLon> {
    let mut number = |name: &str, value: &Value| match value.number() {
        Ok(number) => Some(number),
        Err(text) => {
            problems.add(Kind::NotANumber, || {
                format!("{at}, {name}: {} is not a number of degrees", quoted(text))
            });
            None
        }
    };
    let (lat, lon) = (number("latitude", lat), number("longitude", lon));
    match (lat?, lon?) {
        (None, None) => None,
        (Some(lat), Some(lon)) => place(at, lat, lon, problems),
        (lat, _) => {
            let names = ["latitude", "longitude"];
            let [given, absent] = if lat.is_some() { names } else { [names[1], names[0]] };
            problems.add(Kind::HalfPlace, || format!("{at}: {given} without {absent}"));
            None
        }
    }
}

/// Two numbers as a place that was measured.
pub(crate) fn place(at: &dyn Display, lat: f64, lon: f64, problems: &mut Problems) -> Option<LatLon> {
    let error = match LatLon::measured(lat, lon) {
        Ok(place) => return Some(place),
        Err(error) => error,
    };
    let kind = match error {
        PlaceError::NotFinite { .. } => Kind::NotFinite,
        PlaceError::OutOfRange { swapped: true, .. } => Kind::Swapped,
        PlaceError::OutOfRange { .. } => Kind::OutOfRange,
        PlaceError::NullIsland => Kind::NullIsland,
    };
    problems.add(kind, || {
        let hint = if kind != Kind::OutOfRange {
            ""
        } else if lat.abs() > 1000.0 || lon.abs() > 1000.0 {
            " (projected metres? convert them to degrees)"
        } else if (180.0..=360.0).contains(&lon) && lat.abs() <= 90.0 {
            " (longitude from 0 to 360? subtract 360 above 180)"
        } else {
            ""
        };
        format!("{at}: lat {lat}, lon {lon}: {error}{hint}")
    });
    None
}

/// One comma between digits: `-52,125`.
fn is_decimal_comma(number: &str) -> bool {
    let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
    digits.split_once(',').is_some_and(|(whole, part)| {
        let numeric = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        numeric(whole) && numeric(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lat: &str, lon: &str, decimal_comma: bool) -> (Option<LatLon>, Vec<Kind>, String) {
        let mut problems = Problems::default();
        let mut reader = PlaceReader::new("lat", "lon", decimal_comma);
        let place = reader.read(&"line 2", lat, lon, &mut problems);
        reader.finish(&mut problems);
        (place, problems.iter().map(|p| p.kind).collect(), problems.errors_text())
    }

    #[test]
    fn every_kind_of_bad_place_is_named() {
        for (lat, lon, kind) in [
            ("abc", "5", Kind::NotANumber),
            ("52°30'N", "5", Kind::NotANumber),
            ("52,5", "5,5", Kind::NotANumber),
            ("NaN", "5", Kind::NotFinite),
            ("5", "inf", Kind::NotFinite),
            ("-118.25", "34.05", Kind::Swapped),
            ("91", "200", Kind::OutOfRange),
            ("0", "-0.0", Kind::NullIsland),
            ("52", "", Kind::HalfPlace),
            ("NA", "5", Kind::HalfPlace),
        ] {
            let (place, kinds, text) = read(lat, lon, false);
            assert_eq!(place, None, "{lat} {lon}");
            assert_eq!(kinds, [kind], "{lat} {lon}");
            assert!(text.contains("line 2"), "{text}");
        }
        assert!(read("52,5", "5,5", false).2.contains("decimal comma"));
        assert!(read("6123456.7", "350000.1", false).2.contains("metres"));
        assert!(read("10", "350", false).2.contains("subtract 360"));
        assert!(read("x", "5", false).2.contains("column \"lat\": \"x\""));
    }

    #[test]
    fn empty_cells_are_rows_without_place() {
        for empty in ["", "  ", "NA", "null", "None", "\\N"] {
            let (place, kinds, _) = read(empty, empty, false);
            assert!(place.is_none() && kinds.is_empty(), "{empty}");
        }
    }

    #[test]
    fn uncertainties_are_metres_or_unknown() {
        let mut problems = Problems::default();
        let mut read = |text| uncertainty_cell(&"line 2", "acc", Some(text), false, &mut problems);
        assert_eq!([read("12.5"), read("30 m")], [Some(12.5), Some(30.0)]);
        // as found in iNaturalist 2021
        for unknown in ["0", "-80", "106807033", "NaN", "inf", "near the river", "12,5"] {
            assert_eq!(read(unknown), None, "{unknown}");
        }
        assert_eq!(uncertainty_cell(&"line 3", "acc", None, false, &mut problems), None);
        assert_eq!(problems.count(Kind::BadUncertainty), 7);
        assert_eq!(uncertainty_cell(&"line 4", "acc", Some("12,5 m"), true, &mut problems), Some(12.5));
        assert_eq!(uncertainty_cell(&"line 5", "acc", Some("12.5"), true, &mut problems), Some(12.5));
    }

    #[test]
    fn decimal_commas_count_where_a_comma_is_no_delimiter() {
        let (place, kinds, _) = read("-52,125", "5,5°", true);
        assert_eq!(place, Some(LatLon::new(-52.125, 5.5).unwrap()));
        assert!(kinds.is_empty());
        // 1,234 is ambiguous as soon as points are used as well
        assert_eq!(read("1,234", "5.5", true).1, [Kind::MixedDecimals]);
        assert_eq!(read("1,234,567", "5", true).1, [Kind::NotANumber]);
    }
}
