//! One sentence → what it says about place, time and quality.
//!
//! The `nmea` crate checks the checksum and reads the fields; it accepts what no receiver means
//! (latitude `48nan`, 99 minutes, 255° longitude, dead reckoning as "autonomous"), so coordinates
//! and mode letters are checked here again from the text.

use csp_models::place::LatLon;
use nmea::{
    ParseResult,
    sentences::{gsa::GsaMode2, rmc::RmcStatusOfFix},
};

/// What a sentence says. `None` fields were empty or are not part of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Which sentence.
    pub kind: Kind,
    /// Milliseconds since midnight UTC.
    pub time_ms: Option<u32>,
    /// Days since 1970-01-01, as sent (no rollover correction).
    pub day: Option<i64>,
    /// The position, if it is one.
    pub at: Option<LatLon>,
    /// The receiver stands behind the position: not invalid, dead-reckoned, manual or simulated.
    pub valid: bool,
    /// Satellites used.
    pub satellites: Option<u8>,
    /// Horizontal dilution of precision, in (0, 50].
    pub hdop: Option<f32>,
    /// From GSA: `Some(true)` for a 3D fix, `Some(false)` for 2D.
    pub three_d: Option<bool>,
}

/// The sentences that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// Recommended minimum: time, date, validity, position.
    Rmc,
    /// Position, fix quality, satellites, HDOP.
    Gga,
    /// Position and validity.
    Gll,
    /// Position and validity for each constellation.
    Gns,
    /// 2D or 3D, dilution of precision. Carries no time.
    Gsa,
    /// Time and full date.
    Zda,
}

/// Why a line is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SentenceError {
    /// No `*hh` at the end, or it does not match.
    #[error("checksum missing or wrong")]
    Checksum,
    /// The fields do not parse.
    #[error("malformed sentence")]
    Malformed,
    /// A valid sentence of a kind that says nothing about the fix.
    #[error("not a sentence about the fix")]
    Other,
}

/// Reads a sentence from `$` to its checksum, without the line end.
///
/// # Errors
/// [`SentenceError`]; such a line is dropped, the stream goes on.
pub fn parse(text: &str) -> Result<Observation, SentenceError> {
    let (body, sum) =
        text.strip_prefix('$').and_then(|rest| rest.split_once('*')).ok_or(SentenceError::Checksum)?;
    let hex = sum.len() == 2 && sum.bytes().all(|digit| digit.is_ascii_hexdigit());
    let expected = body.bytes().fold(0, |sum, byte| sum ^ byte);
    if !hex || u8::from_str_radix(sum, 16) != Ok(expected) {
        return Err(SentenceError::Checksum);
    }
    let field = |index: usize| body.split(',').nth(index).unwrap_or("");
    let blank = |kind| Observation {
        kind,
        time_ms: None,
        day: None,
        at: None,
        valid: false,
        satellites: None,
        hdop: None,
        three_d: None,
    };
    // nmea 0.8 refuses GNS with more than two mode letters, which every recent u-blox sends.
    if body.get(2..6) == Some("GNS,") {
        return Ok(Observation {
            time_ms: clock(field(1)),
            at: position(field(2), field(3), field(4), field(5)),
            valid: field(6).bytes().any(trusted),
            satellites: field(7).parse().ok(),
            hdop: field(8).parse().ok().and_then(dilution),
            ..blank(Kind::Gns)
        });
    }
    Ok(match nmea::parse_str(text).map_err(|_| SentenceError::Malformed)? {
        ParseResult::RMC(rmc) => Observation {
            time_ms: clock(field(1)),
            day: rmc.fix_date.map(|date| date.signed_duration_since(Default::default()).num_days()),
            at: position(field(3), field(4), field(5), field(6)),
            valid: rmc.status_of_fix != RmcStatusOfFix::Invalid && mode_ok(field(12)),
            ..blank(Kind::Rmc)
        },
        ParseResult::GGA(gga) => Observation {
            time_ms: clock(field(1)),
            at: position(field(2), field(3), field(4), field(5)),
            valid: gga.fix_type.is_some_and(|fix| fix.is_valid()),
            satellites: gga.fix_satellites.and_then(|count| count.try_into().ok()),
            hdop: gga.hdop.and_then(dilution),
            ..blank(Kind::Gga)
        },
        ParseResult::GLL(gll) => Observation {
            time_ms: clock(field(5)),
            at: position(field(1), field(2), field(3), field(4)),
            valid: gll.valid && mode_ok(field(7)),
            ..blank(Kind::Gll)
        },
        ParseResult::GSA(gsa) => Observation {
            valid: gsa.mode2 != GsaMode2::NoFix,
            three_d: Some(gsa.mode2 == GsaMode2::Fix3D),
            hdop: gsa.hdop.and_then(dilution),
            ..blank(Kind::Gsa)
        },
        ParseResult::ZDA(zda) => Observation {
            time_ms: clock(field(1)),
            day: zda.utc_date().map(|date| date.signed_duration_since(Default::default()).num_days()),
            ..blank(Kind::Zda)
        },
        _ => return Err(SentenceError::Other),
    })
}

/// Mode letters of NMEA 2.3: autonomous, differential, precise, RTK fixed, RTK float. Not estimated,
/// manual, simulated.
fn trusted(mode: u8) -> bool {
    matches!(mode, b'A' | b'D' | b'P' | b'R' | b'F')
}

/// Older receivers send no mode letter.
fn mode_ok(field: &str) -> bool {
    field.is_empty() || (field.len() == 1 && field.bytes().all(trusted))
}

/// 99.99 and the like stand for "unknown".
fn dilution(value: f32) -> Option<f32> {
    (value > 0.0 && value <= 50.0).then_some(value)
}

/// `hhmmss[.sss]` as milliseconds since midnight. A leap second counts as the last millisecond.
fn clock(field: &str) -> Option<u32> {
    let (whole, fraction) = field.split_once('.').unwrap_or((field, ""));
    if whole.len() != 6 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let two = |at: usize| whole.get(at..at + 2)?.parse::<u32>().ok();
    let (hour, minute, second) = (two(0)?, two(2)?, two(4)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let millis =
        fraction.bytes().chain([b'0'; 3]).take(3).fold(0, |ms, digit| ms * 10 + u32::from(digit - b'0'));
    let millis = if second == 60 { 59_999 } else { second * 1000 + millis };
    Some((hour * 60 + minute) * 60_000 + millis)
}

/// Latitude `ddmm[.mmm]`, `N`/`S`, longitude `dddmm[.mmm]`, `E`/`W`; `None` for (0, 0).
fn position(lat: &str, ns: &str, lon: &str, ew: &str) -> Option<LatLon> {
    let sign = |text: &str, plus, minus| match text {
        _ if text == plus => Some(1.0),
        _ if text == minus => Some(-1.0),
        _ => None,
    };
    let lat = degrees(lat, 2)? * sign(ns, "N", "S")?;
    let lon = degrees(lon, 3)? * sign(ew, "E", "W")?;
    LatLon::measured(lat, lon).ok()
}

/// Degrees with `width` digits, then minutes below 60. Any other length is refused: a dropped
/// leading zero would otherwise move the trap by tens of degrees.
fn degrees(field: &str, width: usize) -> Option<f64> {
    let (whole, fraction) = field.split_once('.').unwrap_or((field, ""));
    if whole.len() != width + 2 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let degrees: f64 = field.get(..width)?.parse().ok()?;
    let minutes: f64 = field.get(width..)?.parse().ok()?;
    (minutes < 60.0).then_some(degrees + minutes / 60.0)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::line, *};

    fn read(body: &str) -> Result<Observation, SentenceError> {
        parse(line(body).trim_end())
    }

    #[test]
    fn reads_positions_of_every_kind() {
        let same = LatLon::new(-(1.0 + 17.526 / 60.0), 36.0 + 49.314 / 60.0).unwrap();
        for body in [
            "GNRMC,120000.00,A,0117.5260,S,03649.3140,E,0.02,,231126,,,A,V",
            "GPGGA,120000,0117.5260,S,03649.3140,E,1,08,0.9,545.4,M,46.9,M,,",
            "GNGLL,0117.5260,S,03649.3140,E,120000.00,A,A",
            "GNGNS,120000.00,0117.5260,S,03649.3140,E,ANNN,07,1.18,111.5,45.6,,,V",
        ] {
            let seen = read(body).unwrap();
            assert!(seen.valid, "{body}");
            assert_eq!(seen.time_ms, Some(43_200_000), "{body}");
            assert!(seen.at.unwrap().distance_m(same) < 1e-3, "{body}");
        }
        assert_eq!(read("GNZDA,160012.71,11,03,2004,00,00").unwrap().day, Some(12_488));
        assert_eq!(read("GNGSA,A,2,01,04,,,,,,,,,,,1.25,0.66,1.06,1").unwrap().three_d, Some(false));
    }

    #[test]
    fn what_is_not_a_place_is_none() {
        for (lat, lon) in [
            ("48nan,N", "01131.324,E"),
            ("9907.038,N", "01131.324,E"),
            ("4899.9,N", "01131.324,E"),
            ("48-7.0,N", "01131.324,E"),
            ("4807.0,N", "25531.324,E"),
            ("4807.0,N", "0731.324,E"),
            ("4807.0,X", "01131.324,E"),
            ("0000.0000,N", "00000.0000,E"),
            ("4807.0e1,N", "01131.324,E"),
        ] {
            let body = alloc::format!("GPGGA,120000.00,{lat},{lon},1,08,0.9,545.4,M,46.9,M,,");
            assert!(!matches!(read(&body), Ok(Observation { at: Some(_), .. })), "{body}");
        }
    }

    #[test]
    fn dead_reckoning_is_not_valid() {
        for mode in ["E", "S", "M", "N", "Z", "C"] {
            let body = alloc::format!("GNRMC,120000.00,A,0117.5260,S,03649.3140,E,0.02,,231126,,,{mode}");
            assert!(!matches!(read(&body), Ok(Observation { valid: true, .. })), "{body}");
        }
        for quality in ["0", "6", "7", "8"] {
            let body = alloc::format!("GPGGA,120000.00,4807.0,N,01131.3,E,{quality},08,0.9,5.4,M,46.9,M,,");
            assert!(!read(&body).unwrap().valid, "{body}");
        }
    }

    #[test]
    fn the_checksum_is_required() {
        for text in [
            "$GPGLL,4916.45,N,12311.12,W,225444,A,*1E",
            "$GPGLL,4916.45,N,12311.12,W,225444,A,",
            "$GPGLL,4916.45,N,12311.12,W,225444,A,*1Dxyz",
            "$GPGLL,4916.45,N,12311.12,W,225444,A,*+D",
        ] {
            assert_eq!(parse(text), Err(SentenceError::Checksum), "{text}");
        }
        assert!(parse("$GPGLL,4916.45,N,12311.12,W,225444,A,*1d").is_ok());
    }

    #[test]
    fn clocks_and_dilutions_have_ranges() {
        assert_eq!(clock("235960.5"), Some(86_399_999));
        assert_eq!(clock("120012.5"), Some(43_212_500));
        assert_eq!(clock("240000"), None);
        assert_eq!(clock("12000"), None);
        assert_eq!(dilution(99.99), None);
        assert_eq!(dilution(f32::INFINITY), None);
        assert_eq!(dilution(f32::NAN), None);
    }
}
