//! What becomes of the rows that are asked about: which branch answers them, and which are left out.

use std::fmt;

use csp_models::labels::ClassId;
use serde::Serialize;

use crate::data::{Dataset, Row, Split};

/// Rows of a split by what becomes of them, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Answered by image and place.
    pub both: usize,
    /// By the image alone.
    pub image: usize,
    /// By the place alone.
    pub place: usize,
    /// Left out, having a place and no photograph where other rows have one.
    pub without_photograph: usize,
    /// Left out, having nothing that the model can use.
    pub with_neither: usize,
    /// Left out, having no class to compare with.
    pub without_class: usize,
}

impl Asked {
    /// Of the rows of `split`, of which a model with these branches answers `answered`.
    pub fn of(
        (has_image, has_location): (bool, bool),
        data: &Dataset,
        split: Option<Split>,
        answered: &[(&Row, ClassId)],
    ) -> Self {
        let usable = |row: &Row| (has_image && row.image.is_some(), has_location && row.place.is_some());
        let mut counts = Self::default();
        for (row, _) in answered {
            match usable(row) {
                (true, true) => counts.both += 1,
                (true, false) => counts.image += 1,
                (false, _) => counts.place += 1,
            }
        }
        let (mut placed, mut labelled) = (0, 0);
        for row in data.rows.iter().filter(|row| split.is_none_or(|split| row.split == Some(split))) {
            if row.class.is_none() {
                counts.without_class += 1;
                continue;
            }
            labelled += 1;
            placed += usize::from(matches!(usable(row), (false, true)));
        }
        counts.without_photograph = placed - counts.place.min(placed);
        counts.with_neither = labelled - (answered.len() + counts.without_photograph).min(labelled);
        counts
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &[(usize, &str)]| -> String {
            let counts = counts.iter().filter(|(n, _)| *n > 0);
            counts.map(|(n, what)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
        };
        let answered = list(&[
            (self.both, "by image and place"),
            (self.image, "by the image alone"),
            (self.place, "by the place alone"),
        ]);
        write!(f, "rows answered: {answered}")?;
        let left_out = list(&[
            (self.without_photograph, "with a place and no photograph (--places-only asks about places)"),
            (self.with_neither, "with neither that the model can use"),
            (self.without_class, "without a class"),
        ]);
        if left_out.is_empty() { Ok(()) } else { write!(f, "; left out: {left_out}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::Options, evaluation::labelled};
    use csp_models::{
        labels::{Label, Labels},
        place::LatLon,
    };

    #[test]
    fn every_row_is_counted_once() {
        let row = |photograph: bool, place: bool, class: bool| Row {
            image: photograph.then(|| "a.jpg".into()),
            place: LatLon::new(1.0, 2.0).ok().filter(|_| place),
            class: class.then_some(ClassId(0)),
            ..Row::default()
        };
        let kinds =
            [(3, true, true, true), (2, true, false, true), (4, false, true, true), (5, false, false, true)];
        let kinds = kinds.into_iter().chain([(6, true, true, false)]);
        let mut data = Dataset {
            source: "t.csv".into(),
            rows: kinds.flat_map(|(n, photo, place, class)| vec![row(photo, place, class); n]).collect(),
            labels: Labels(vec![Label::new("a")]),
            options: Options::default(),
            sha256: String::new(),
        };
        let rows = labelled(&data, None, &data.labels).unwrap();
        let asked = Asked::of((true, true), &data, None, &rows);
        let counts =
            Asked { both: 3, image: 2, place: 0, without_photograph: 4, with_neither: 5, without_class: 6 };
        assert_eq!(asked, counts);
        let said = asked.to_string();
        assert!(said.contains("3 by image and place, 2 by the image alone; left out: 4 with"), "{said}");
        assert!(!said.contains("0 "), "{said}");

        data.rows.iter_mut().for_each(|row| row.image = None);
        let rows = labelled(&data, None, &data.labels).unwrap();
        let asked = Asked::of((true, true), &data, None, &rows);
        assert_eq!(asked, Asked { place: 7, with_neither: 7, without_class: 6, ..Asked::default() });
        assert_eq!(Asked::of((true, true), &data, Some(Split::Val), &[]), Asked::default());
    }
}
