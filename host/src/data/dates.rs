//! Dates as people write them, as a season: the share of the year in [0, 1).

use csp_models::time::days_from_civil;

/// A Gregorian day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    pub(crate) year: i64,
    pub(crate) month: u8,
    pub(crate) day: u8,
}

impl Day {
    fn new(year: i64, month: i64, day: i64) -> Option<Self> {
        let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
        let plausible = (1700..=2200).contains(&year);
        (plausible && days_from_civil(year, month, day).is_some()).then_some(Self { year, month, day })
    }

    /// `(day of the year − 1) / days in the year`.
    pub(crate) fn season(self) -> Option<f64> {
        let new_year = days_from_civil(self.year, 1, 1)?;
        let days_in_year = days_from_civil(self.year + 1, 1, 1)? - new_year;
        let past = days_from_civil(self.year, self.month, self.day)? - new_year;
        Some(past as f64 / days_in_year as f64)
    }
}

/// Which of two numbers before the year is the day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing in the file tells: dates with slashes are not read.
    #[default]
    Unknown,
    DayFirst,
    MonthFirst,
}

/// The order of all `3/14/2024`-like dates of a file: told by those with a number above 12, and by those alone.
pub(crate) fn order<'a>(dates: impl Iterator<Item = &'a str>) -> Order {
    let (mut day_first, mut month_first) = (false, false);
    for [a, b, _] in dates.filter_map(slashes) {
        day_first |= a > 12;
        month_first |= b > 12;
    }
    match (day_first, month_first) {
        (true, false) => Order::DayFirst,
        (false, true) => Order::MonthFirst,
        _ => Order::Unknown,
    }
}

/// The day of a date: `2024-05-01`, with `/`, `.` or `:` instead, with a time after it, `20240501`,
/// `01.05.2024`, and with slashes when the order is known. Of an interval, its start.
pub(crate) fn parse(text: &str, order: Order) -> Option<Day> {
    if let Some([a, b, year]) = slashes(text) {
        return match order {
            Order::DayFirst => Day::new(year, b, a),
            Order::MonthFirst => Day::new(year, a, b),
            Order::Unknown if a == b => Day::new(year, a, b),
            Order::Unknown => None,
        };
    }
    let date = date_part(text);
    if date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()) {
        return Day::new(date[..4].parse().ok()?, date[4..6].parse().ok()?, date[6..].parse().ok()?);
    }
    for separator in ['-', '/', ':', '.'] {
        if let Some([a, b, c]) = three(date, separator) {
            if date.find(separator) == Some(4) {
                return Day::new(a, b, c);
            }
            // 01.05.2024 is day first wherever it is written
            return if separator == '.' && c >= 1000 { Day::new(c, b, a) } else { None };
        }
    }
    None
}

/// Seconds since 1970 of an ISO 8601 date and time. Without a zone it counts as UTC: enough to compare
/// moments of one source.
pub(crate) fn moment(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = three(date, '-')?;
    let day = Day::new(year, month, day)?;
    let days = days_from_civil(day.year, day.month, day.day)?;
    let end = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(end);
    let clock = |text: &str| -> Option<[i64; 3]> {
        let mut parts = text.split(':').map(|part| {
            let whole = part.split('.').next().unwrap_or(part);
            (whole.len() == 2 && whole.bytes().all(|b| b.is_ascii_digit()))
                .then(|| whole.parse().ok())
                .flatten()
        });
        let (hours, minutes) = (parts.next()??, parts.next()??);
        let seconds = parts.next().unwrap_or(Some(0))?;
        (parts.next().is_none() && hours < 24 && minutes < 60 && seconds <= 60)
            .then_some([hours, minutes, seconds])
    };
    let [hours, minutes, seconds] = clock(time.trim())?;
    let offset = match zone.split_at_checked(1) {
        None | Some(("Z" | "z", "")) => 0,
        Some((sign, shift)) => {
            let shift = if shift.contains(':') || shift.len() != 4 {
                shift.to_string()
            } else {
                format!("{}:{}", shift.get(..2)?, shift.get(2..)?)
            };
            let shift = if shift.contains(':') { shift } else { format!("{shift}:00") };
            let [hours, minutes, _] = clock(&shift)?;
            (hours * 3600 + minutes * 60) * if sign == "-" { -1 } else { 1 }
        }
    };
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds - offset)
}

/// `a/b/year`, the year last and of four digits. The same with dashes.
fn slashes(text: &str) -> Option<[i64; 3]> {
    let date = date_part(text);
    ['/', '-'].into_iter().find_map(|s| three(date, s)).filter(|[a, b, c]| *a < 100 && *b < 100 && *c >= 1000)
}

/// What stands before the time.
fn date_part(text: &str) -> &str {
    text.trim().split(['T', ' ', 't']).next().unwrap_or_default()
}

fn three(date: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = date.split(separator).map(|part| {
        let number = !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        // the day may carry a zone or be the start of an interval, handled by the caller's split
        if number { part.parse().ok() } else { None }
    });
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

/// The start of a Darwin Core interval `2024-05-01/2024-05-03`; other texts as they are.
pub(crate) fn start(text: &str) -> &str {
    match text.split_once('/') {
        Some((from, to)) if from.len() >= 10 && to.len() >= 2 => from,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str, order: Order) -> Option<(i64, u8, u8)> {
        parse(start(text), order).map(|d| (d.year, d.month, d.day))
    }

    #[test]
    fn reads_dates_as_people_write_them() {
        for text in [
            "2024-05-01",
            " 2024-05-01 ",
            "2024/05/01",
            "2024:05:01 23:59:59",
            "2024-05-01T10:00:00+02:00",
            "2024-05-01 10:00",
            "20240501",
            "01.05.2024",
            "1.5.2024 10:00",
            "2024-05-01/2024-06-03",
            "2024-05-01T10:00:00Z/2024-05-03T10:00:00Z",
        ] {
            assert_eq!(day(text, Order::Unknown), Some((2024, 5, 1)), "{text}");
        }
        for text in [
            "",
            "May 2024",
            "2024",
            "2024-05",
            "2023-02-29",
            "2024-13-01",
            "1714521600",
            "0000-00-00",
            "24-05-01",
        ] {
            assert_eq!(day(text, Order::DayFirst), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_date_or_none(text in "[-0-9T:.+Zzé/ ]{0,32}") {
            let _ = (moment(&text), parse(&text, Order::DayFirst), start(&text));
        }
    }

    #[test]
    fn moments_are_those_of_the_zone() {
        let summer = moment("2020-05-30T04:57:37+02:00").unwrap();
        assert_eq!(summer, 1_590_807_457);
        for same in [
            "2020-05-30T02:57:37Z",
            "2020-05-30 02:57:37",
            "2020-05-29T22:57:37-0400",
            "2020-05-30T02:57:37.9+00",
        ] {
            assert_eq!(moment(same), Some(summer), "{same}");
        }
        for bad in [
            "2020-05-30",
            "2020-05-30T25:00:00Z",
            "2020-02-30T00:00:00Z",
            "T",
            "2020-05-30Tx",
            "2020-05-30T01:00+2:1:1:1",
            "2020-05-30T01:00:00+é0",
        ] {
            assert_eq!(moment(bad), None, "{bad}");
        }
    }

    #[test]
    fn slashes_need_an_order_from_the_file() {
        assert_eq!(day("03/04/2024", Order::Unknown), None);
        assert_eq!(day("03/04/2024", Order::DayFirst), Some((2024, 4, 3)));
        assert_eq!(day("03-04-2024 12:00", Order::MonthFirst), Some((2024, 3, 4)));
        assert_eq!(day("04/04/2024", Order::Unknown), Some((2024, 4, 4)));
        assert_eq!(order(["03/04/2024", "25/04/2024"].into_iter()), Order::DayFirst);
        assert_eq!(order(["03/04/2024", "04/25/2024"].into_iter()), Order::MonthFirst);
        assert_eq!(order(["25/04/2024", "04/25/2024"].into_iter()), Order::Unknown);
        assert_eq!(order(["2024-04-25"].into_iter()), Order::Unknown);
    }

    #[test]
    fn season_is_a_share_of_the_year() {
        let season = |text| parse(text, Order::Unknown).and_then(Day::season).unwrap();
        assert_eq!(season("2023-01-01"), 0.0);
        assert_eq!(season("2023-12-31"), 364.0 / 365.0);
        assert_eq!(season("2024-12-31"), 365.0 / 366.0);
        assert_eq!(season("2024-03-01"), 60.0 / 366.0);
    }
}
