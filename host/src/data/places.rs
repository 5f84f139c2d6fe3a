//! Tables of places: CSV or TSV with columns for latitude and longitude, and a date where the encoder
//! wants one.

use std::path::Path;

use csp_models::{place::LatLon, time::YearFraction};

use super::{
    DataError,
    columns::{self, Column, Role},
    coordinates::is_nothing,
    dates,
    problem::{Problems, quoted},
    table::Table,
};

/// A place to ask about.
pub type Query = (LatLon, Option<YearFraction>);

/// Reads every row of a table. Unlike a training table it may hold (0, 0), and each row must be a place:
/// the answers stand in the same order. With `dated` the column `date` counts, whose cells may be empty.
///
/// # Errors
/// Unreadable, without the columns, or the first row that is not a place or whose date is none.
pub fn read(path: &Path, dated: bool) -> Result<Vec<Query>, DataError> {
    let mut table = Table::open(path)?;
    let outline = |reason: String| DataError::outline(path, reason);
    let header = table.header.clone();
    let need = |role| -> Result<Column, DataError> {
        columns::find(&header, role).map_err(outline)?.ok_or_else(|| {
            let names = header.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
            outline(format!("it needs the columns lat and lon, it has {names}"))
        })
    };
    let (lat, lon) = (need(Role::Lat)?, need(Role::Lon)?);
    let date = if dated { columns::find(&header, Role::Date).map_err(outline)? } else { None };
    let mut rows: Vec<(LatLon, Option<(String, String)>)> = Vec::new();
    let mut failed = None;
    let mut problems = Problems::default();
    table.each(&mut problems, |at, fields, _| {
        let degrees = |column: &Column| {
            fields[column.index]
                .parse::<f64>()
                .map_err(|_| format!("{} is not a number", quoted(fields[column.index])))
        };
        let place = degrees(&lat).and_then(|lat| Ok((lat, degrees(&lon)?)));
        let place = place.and_then(|(lat, lon)| LatLon::new(lat, lon).map_err(|error| error.to_string()));
        match place {
            Ok(place) => {
                let text = date.as_ref().map(|column| fields[column.index]);
                let text = text.filter(|text| !is_nothing(text));
                rows.push((place, text.map(|text| (at.to_string(), text.to_string()))));
            }
            Err(problem) => {
                failed.get_or_insert(format!("{at}: {problem}"));
            }
        }
    })?;
    if let Some(problem) = failed {
        return Err(outline(problem));
    }
    if let Some(problem) = problems.iter().next() {
        return Err(outline(problem.to_string()));
    }
    if rows.is_empty() {
        return Err(outline("it has no rows".into()));
    }
    let texts = rows.iter().filter_map(|(_, date)| date.as_ref().map(|(_, text)| text.as_str()));
    let order = dates::order(texts);
    let season = |(at, text): (String, String)| {
        let day = dates::parse(dates::start(&text), order).and_then(dates::Day::season);
        day.and_then(YearFraction::new)
            .ok_or_else(|| outline(format!("{at}: {} is no date (YYYY-MM-DD)", quoted(&text))))
    };
    rows.into_iter().map(|(place, date)| Ok((place, date.map(season).transpose()?))).collect()
}
