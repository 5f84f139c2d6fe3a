//! Timestamps that say which clock they are from.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// The clock a timestamp was read from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// UTC from the receiver.
    Gps,
    /// The system clock (battery-backed or network-set): right as far as the board knows.
    Rtc,
    /// Milliseconds since the board started: no calendar at all.
    SinceBoot,
}

/// A moment in milliseconds: since 1970-01-01T00:00:00Z, or since boot for [`TimeSource::SinceBoot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Milliseconds since the epoch of `source`.
    pub millis: i64,
    /// The clock it was read from.
    pub source: TimeSource,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source == TimeSource::SinceBoot {
            return write!(f, "boot+{}.{:03}s", self.millis / 1000, self.millis.rem_euclid(1000));
        }
        let (days, ms) = (self.millis.div_euclid(86_400_000), self.millis.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (s, ms) = (ms / 1000, ms % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
    }
}

/// The time of the year: 0 at the start of 1 January (UTC), towards 1 at the end of 31 December.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct YearFraction(f64);

impl YearFraction {
    /// A fraction in [0, 1], `None` for anything else.
    pub fn new(fraction: f64) -> Option<Self> {
        (0.0..=1.0).contains(&fraction).then_some(Self(fraction))
    }

    /// The time of the year of a timestamp, `None` where its clock knows no calendar.
    pub fn of(time: Timestamp) -> Option<Self> {
        if time.source == TimeSource::SinceBoot {
            return None;
        }
        let day = |year| days_from_civil(year, 1, 1);
        let (year, ..) = civil_from_days(time.millis.div_euclid(86_400_000));
        let (start, end) = (day(year)?, day(year + 1)?);
        let elapsed = time.millis as f64 / 86_400_000.0 - start as f64;
        Self::new(elapsed / (end - start) as f64)
    }

    /// In [0, 1].
    pub fn value(self) -> f64 {
        self.0
    }

    /// The middle of its day, the year cut into 365: what the field rounds to, so that a prior lasts a
    /// day and the first picture of a day does not decide about the others.
    pub fn midday(self) -> Self {
        Self((f64::from(self.day()) + 0.5) / f64::from(DAYS))
    }

    /// From a day `2026-07-14` (any year), or the middle of a month: `7`, `jul`, `July`.
    ///
    /// # Errors
    /// The text is neither, or there is no such day.
    pub fn parse(text: &str) -> Result<Self, DateError> {
        let text = text.trim();
        let wrong = || DateError { text: text.into() };
        let month_is = |name: &&str| {
            text.len() >= 3 && name.get(..text.len()).is_some_and(|n| n.eq_ignore_ascii_case(text))
        };
        let named = MONTHS.iter().position(month_is).map(|at| at as u8 + 1);
        if let Some(month) = named.or_else(|| text.parse().ok()) {
            let start = days_from_civil(2023, month, 1).ok_or_else(wrong)?;
            let end =
                if month == 12 { days_from_civil(2024, 1, 1) } else { days_from_civil(2023, month + 1, 1) };
            let new_year = days_from_civil(2023, 1, 1).ok_or_else(wrong)?;
            let middle = (start + end.ok_or_else(wrong)?) as f64 / 2.0 - new_year as f64;
            return Self::new(middle / f64::from(DAYS)).ok_or_else(wrong);
        }
        let mut parts = text.split('-').map(|part| {
            Some(part)
                .filter(|part| part.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|part| part.parse().ok())
        });
        let mut next = || parts.next().flatten().ok_or_else(wrong);
        let (year, month, day): (i64, i64, i64) = (next()?, next()?, next()?);
        let (month, day) =
            (u8::try_from(month).map_err(|_| wrong())?, u8::try_from(day).map_err(|_| wrong())?);
        if parts.next().is_some() || !(1000..=9999).contains(&year) {
            return Err(wrong());
        }
        let days = days_from_civil(year, month, day).ok_or_else(wrong)?;
        Self::of(Timestamp { millis: days * 86_400_000, source: TimeSource::Rtc }).ok_or_else(wrong)
    }

    /// Day of a year of 365, from 0.
    fn day(self) -> u16 {
        // what was divided by 365 may come back short by a rounding
        ((self.0 * f64::from(DAYS) + 1e-9) as u16).min(DAYS - 1)
    }
}

impl fmt::Display for YearFraction {
    /// Day and month: `14 July`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let new_year = days_from_civil(2023, 1, 1).unwrap_or_default();
        let (_, month, day) = civil_from_days(new_year + i64::from(self.day()));
        write!(f, "{day} {}", MONTHS[usize::from(month - 1) % MONTHS.len()])
    }
}

/// Days the year is cut into.
const DAYS: u16 = 365;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A text that names no time of the year.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time of the year: give a day as YYYY-MM-DD, or a month (7, jul or july)")]
pub struct DateError {
    text: String,
}

/// Gregorian (year, month, day) of a day number counted from 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u8, u8) {
    // Eras of 400 years starting on 1 March, so the leap day is the last of a year.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u8;
    let month = (if shifted < 10 { shifted + 3 } else { shifted - 9 }) as u8;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Day number from 1970-01-01 of a Gregorian date, `None` when there is no such day.
pub fn days_from_civil(year: i64, month: u8, day: u8) -> Option<i64> {
    if !(1..=12).contains(&month) || day == 0 || !(-32_768..=32_767).contains(&year) {
        return None;
    }
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn prints_iso_8601() {
        let at = |millis, source| Timestamp { millis, source }.to_string();
        assert_eq!(at(0, TimeSource::Gps), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400_000, TimeSource::Rtc), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_795_422_600_123, TimeSource::Gps), "2026-11-23T08:30:00.123Z");
        assert_eq!(at(-1, TimeSource::Gps), "1969-12-31T23:59:59.999Z");
        assert_eq!(at(61_005, TimeSource::SinceBoot), "boot+61.005s");
    }

    #[test]
    fn calendar_round_trips() {
        for days in -1_000_000..1_000_000 {
            let (y, m, d) = civil_from_days(days);
            assert_eq!(days_from_civil(y, m, d), Some(days));
        }
        assert_eq!(days_from_civil(2023, 2, 29), None);
        assert_eq!(days_from_civil(2023, 4, 31), None);
        assert_eq!(days_from_civil(2023, 13, 1), None);
    }

    #[test]
    fn the_year_is_cut_evenly() {
        let fraction =
            |millis| YearFraction::of(Timestamp { millis, source: TimeSource::Rtc }).unwrap().value();
        assert_eq!(fraction(0), 0.0);
        // noon on 2 July 2023: half of 365 days
        assert_eq!(fraction(1_688_299_200_000), 0.5);
        // 31 December of a leap year
        assert!((fraction(1_735_603_200_000) - 365.0 / 366.0).abs() < 1e-12);
        assert!(YearFraction::of(Timestamp { millis: 5, source: TimeSource::SinceBoot }).is_none());
        assert!(YearFraction::new(1.5).is_none() && YearFraction::new(f64::NAN).is_none());
    }

    #[test]
    fn reads_days_and_months() {
        let read = |text| YearFraction::parse(text).unwrap();
        assert_eq!(read("2023-01-01").value(), 0.0);
        assert_eq!(read("2024-12-31").value(), 365.0 / 366.0);
        assert_eq!(read(" 2023-07-14 ").to_string(), "14 July");
        for text in ["7", "07", "jul", "July", "JULY"] {
            assert_eq!(read(text).value(), (181.0 + 15.5) / 365.0, "{text}");
        }
        assert_eq!(read("12").to_string(), "16 December");
        for text in [
            "",
            "0",
            "13",
            "2023-13-01",
            "2023-02-29",
            "23-07-14",
            "2023-07",
            "2023-07-14-1",
            "ju",
            "julyy",
            "2023-+7-14",
            "NaN",
            "tomorrow",
            "2023-07-300",
            "-5",
        ] {
            let error = YearFraction::parse(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("YYYY-MM-DD"), "{error}");
        }
    }

    #[test]
    fn a_day_has_one_middle() {
        for day in 0..365u16 {
            let start = f64::from(day) / 365.0;
            let middle = YearFraction::new(start).unwrap().midday();
            assert_eq!(middle.value(), (f64::from(day) + 0.5) / 365.0);
            assert_eq!(YearFraction::new(start + 0.99 / 365.0).unwrap().midday(), middle);
            assert_eq!(middle.midday(), middle);
        }
        assert_eq!(YearFraction::new(1.0).unwrap().midday(), YearFraction::new(0.999).unwrap().midday());
    }
}
