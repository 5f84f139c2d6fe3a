//! One sentence → what it says about place, time and quality.
//!
//! Two readings: ours takes the few fields a fix needs and checks each (the `nmea` crate accepts latitude
//! `48nan`, 99 minutes, 255° longitude, dead reckoning as "autonomous"); the crate's is the second opinion
//! on the position. Where both read and differ, the sentence stands for no fix. The crate refuses
//! whole sentences for an empty altitude, a second mode letter or a leap second, which receivers do send:
//! there ours stands alone.

use csp_models::{place::LatLon, time::days_from_civil};
use nmea::ParseResult;

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
    /// Whether the receiver stands behind the position.
    pub standing: Standing,
    /// Satellites used.
    pub satellites: Option<u8>,
    /// Horizontal dilution of precision, in (0, 50].
    pub hdop: Option<f32>,
    /// From GSA: `Some(true)` for a 3D fix, `Some(false)` for 2D.
    pub three_d: Option<bool>,
    /// Speed over ground, metres a second.
    pub speed_mps: Option<f32>,
}

/// What a receiver says of its own position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Standing {
    /// Measured, now.
    Trusted,
    /// Estimated (dead reckoning), entered by hand or simulated.
    Reckoned,
    /// No position, or not stated in a way that can be read.
    Void,
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
    let kind = Kind::of(body).ok_or(SentenceError::Other)?;
    let field = |index: usize| body.split(',').nth(index).unwrap_or("");
    let blank = Observation {
        kind,
        time_ms: clock(field(kind.clock_field())),
        day: None,
        at: None,
        standing: Standing::Void,
        satellites: None,
        hdop: None,
        three_d: None,
        speed_mps: None,
    };
    let place = |from: usize| position(field(from), field(from + 1), field(from + 2), field(from + 3));
    let seen = match kind {
        Kind::Rmc => Observation {
            day: date(field(9)),
            at: place(3),
            standing: stated(field(2), field(12)),
            speed_mps: field(7).parse().ok().and_then(speed),
            ..blank
        },
        Kind::Gga => Observation {
            at: place(2),
            standing: match field(6) {
                "1" | "2" | "3" | "4" | "5" => Standing::Trusted,
                "6" | "7" | "8" => Standing::Reckoned,
                _ => Standing::Void,
            },
            satellites: field(7).parse().ok(),
            hdop: field(8).parse().ok().and_then(dilution),
            ..blank
        },
        Kind::Gll => Observation { at: place(1), standing: stated(field(6), field(7)), ..blank },
        Kind::Gns => Observation {
            at: place(2),
            // One letter for each constellation: one that is trusted carries the fix.
            standing: field(6).bytes().map(standing).min().unwrap_or(Standing::Void),
            satellites: field(7).parse().ok(),
            hdop: field(8).parse().ok().and_then(dilution),
            ..blank
        },
        Kind::Gsa => {
            let three_d = match field(2) {
                "1" => None,
                "2" => Some(false),
                "3" => Some(true),
                _ => return Err(SentenceError::Malformed),
            };
            let standing = if three_d.is_some() { Standing::Trusted } else { Standing::Void };
            Observation { standing, three_d, hdop: field(16).parse().ok().and_then(dilution), ..blank }
        }
        Kind::Zda => {
            let year = field(4).parse().ok().filter(|_| field(4).len() == 4);
            let day = year.zip(field(3).parse().ok()).zip(field(2).parse().ok());
            let day = day.and_then(|((year, month), day)| days_from_civil(year, month, day));
            Observation { day, standing: Standing::Trusted, ..blank }
        }
    };
    Ok(if contradicts(text, &seen) {
        Observation { at: None, day: None, standing: Standing::Void, ..seen }
    } else {
        seen
    })
}

/// True when the `nmea` crate reads the sentence too and finds another position in it.
fn contradicts(text: &str, seen: &Observation) -> bool {
    let (lat, lon) = match nmea::parse_bytes(text.as_bytes()) {
        Ok(ParseResult::RMC(rmc)) => (rmc.lat, rmc.lon),
        Ok(ParseResult::GGA(gga)) => (gga.latitude, gga.longitude),
        Ok(ParseResult::GLL(gll)) => (gll.latitude, gll.longitude),
        _ => return false,
    };
    let Some((at, (lat, lon))) = seen.at.zip(lat.zip(lon)) else { return false };
    // NaN differs as well.
    !((at.lat() - lat).abs() < 1e-9 && (at.lon() - lon).abs() < 1e-9)
}

impl Kind {
    /// The kind of a sentence body, by the letters after its two-letter talker. `P…` is proprietary,
    /// whatever letters follow.
    fn of(body: &str) -> Option<Self> {
        if body.starts_with('P') {
            return None;
        }
        Some(match body.get(2..6)? {
            "RMC," => Self::Rmc,
            "GGA," => Self::Gga,
            "GLL," => Self::Gll,
            "GNS," => Self::Gns,
            "GSA," => Self::Gsa,
            "ZDA," => Self::Zda,
            _ => return None,
        })
    }

    fn clock_field(self) -> usize {
        if self == Self::Gll { 5 } else { 1 }
    }
}

/// What a mode letter of NMEA 2.3 says: autonomous, differential, precise, RTK fixed and RTK float
/// are measured.
fn standing(mode: u8) -> Standing {
    match mode {
        b'A' | b'D' | b'P' | b'R' | b'F' => Standing::Trusted,
        b'E' | b'M' | b'S' => Standing::Reckoned,
        _ => Standing::Void,
    }
}

/// A status letter and a mode letter; older receivers send no mode.
fn stated(status: &str, mode: &str) -> Standing {
    match mode.as_bytes() {
        _ if status != "A" => Standing::Void,
        [] => Standing::Trusted,
        [mode] => standing(*mode),
        _ => Standing::Void,
    }
}

/// `ddmmyy` as days since 1970-01-01. GPS began in 1980: a smaller year is of this century.
fn date(field: &str) -> Option<i64> {
    if field.len() != 6 || !digits(field) {
        return None;
    }
    let two = |at: usize| field.get(at..at + 2)?.parse::<u8>().ok();
    let year = i64::from(two(4)?);
    days_from_civil(year + if year >= 80 { 1900 } else { 2000 }, two(2)?, two(0)?)
}

/// Knots → metres a second; what no car reaches is a damaged field.
fn speed(knots: f32) -> Option<f32> {
    (0.0..1000.0).contains(&knots).then_some(knots * 1852.0 / 3600.0)
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
            assert_eq!(seen.standing, Standing::Trusted, "{body}");
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
            assert_ne!(read(&body).unwrap().standing, Standing::Trusted, "{body}");
        }
        for quality in ["0", "6", "7", "8"] {
            let body = alloc::format!("GPGGA,120000.00,4807.0,N,01131.3,E,{quality},08,0.9,5.4,M,46.9,M,,");
            assert_ne!(read(&body).unwrap().standing, Standing::Trusted, "{body}");
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

    /// nmea 0.8 refuses all of these whole; receivers of the captures send them with good fixes.
    #[test]
    fn what_the_crate_refuses_is_read() {
        let gns = "GNGNS,120000.00,0117.5260,S,03649.3140,E,ANNN,07,1.18,111.5,45.6,,,V";
        let gsa = "GPGSA,A,2,01,03,,14,,,,,,,,,3.1,3.1,";
        for body in [gns, gsa] {
            assert!(
                nmea::parse_bytes(line(body).trim_end().as_bytes()).is_err(),
                "{body}: the crate has learned it"
            );
        }
        assert!(read(gns).unwrap().at.is_some_and(|at| at.lon() > 36.0));
        let gsa = read(gsa).unwrap();
        assert_eq!((gsa.three_d, gsa.hdop), (Some(false), Some(3.1)));
    }

    #[test]
    fn half_a_position_is_none() {
        for body in [
            "GPGGA,120000.00,4807.038,,01131.324,E,1,08,0.9,545.4,M,46.9,M,,",
            "GPRMC,120000.00,A,,N,,E,022.4,084.4,230394,,,A",
            "GPGLL,,N,,E,120000.00,A,A",
            "GPGLL,4807.038,N,,,120000.00,A,A",
        ] {
            assert_eq!(read(body).unwrap().at, None, "{body}");
        }
        let no_quality = "GPGGA,120000.00,4807.038,N,01131.324,E,,08,0.9,545.4,M,46.9,M,,";
        assert_eq!(read(no_quality).unwrap().standing, Standing::Void);
        assert_eq!(read("PGRMC,A,220.0,100,6378137.000,298.257"), Err(SentenceError::Other));
        assert_eq!(read("GPGSV,1,1,01,21,00,000,"), Err(SentenceError::Other));
    }

    #[test]
    fn dates_have_days() {
        assert_eq!(date("000000"), None);
        assert_eq!(date("310226"), None);
        assert_eq!(date("231126"), days_from_civil(2026, 11, 23));
        assert_eq!(date("060180"), days_from_civil(1980, 1, 6));
        assert_eq!(date("2311-6"), None);
        assert_eq!(read("GNZDA,160012.71,11,03,26,00,00").unwrap().day, None);
    }

    #[test]
    fn a_leap_second_is_the_end_of_its_day() {
        for body in [
            "GPRMC,235960.00,A,4807.038,N,01131.324,E,022.4,084.4,311216,,,A",
            "GPGGA,235960,4807.038,N,01131.324,E,1,08,0.9,545.4,M,46.9,M,,",
            "GPGLL,4807.038,N,01131.324,E,235960,A,A",
        ] {
            let seen = read(body).unwrap();
            assert_eq!((seen.time_ms, seen.standing), (Some(86_399_999), Standing::Trusted), "{body}");
            assert!(seen.at.is_some(), "{body}");
        }
    }

    #[test]
    fn speed_is_metres_a_second() {
        let speed = |knots: &str| {
            read(&alloc::format!("GPRMC,120000,A,4807.038,N,01131.324,E,{knots},,230394,,,A"))
                .unwrap()
                .speed_mps
        };
        assert!((speed("10.0").unwrap() - 5.144).abs() < 1e-3);
        assert_eq!((speed(""), speed("99999")), (None, None));
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
