//! Pooled picture features of the rows that a stage learns from: on the device where they fit there, else
//! read for each step from the table they are in.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::{TrainError, stages::indices, standard::Standard};
use crate::features::FeatureTable;

/// Numbers that a device holds at most: on a GPU 4 GiB, what Vulkan can bind as one buffer (features of width
/// 2048 of 524,287 rows); on the CPU 1 GiB, since there reading a step's rows is no slower than gathering them.
pub(crate) fn held(device: &Device) -> usize {
    if device.clone().inner() == Device::flex() { 1 << 28 } else { (1 << 30) - 1 }
}

/// Features of rows `[rows, width]`, by the number of a row.
#[derive(Clone, Debug)]
// a stage has one
#[allow(clippy::large_enum_variant)]
pub(crate) enum RowFeatures {
    /// On a device, without autodiff.
    Held(Tensor<2>),
    /// In a table on disk.
    Table(Arc<TableRows>),
}

/// Rows of a table.
#[derive(Debug)]
pub(crate) struct TableRows {
    table: Arc<FeatureTable>,
    /// The picture of each row.
    pictures: Vec<usize>,
    standard: Standard,
}

impl RowFeatures {
    /// The features of `pictures`, a row each, standardised.
    ///
    /// # Errors
    /// A damaged table.
    pub fn of(
        table: &Arc<FeatureTable>,
        pictures: Vec<usize>,
        standard: Standard,
        device: &Device,
    ) -> Result<Self, TrainError> {
        Self::at_most(held(device), table, pictures, standard, device)
    }

    pub(super) fn at_most(
        held: usize,
        table: &Arc<FeatureTable>,
        pictures: Vec<usize>,
        standard: Standard,
        device: &Device,
    ) -> Result<Self, TrainError> {
        if pictures.len() * table.width() <= held {
            return Ok(Self::Held(standard.apply(table, &pictures, device)?));
        }
        Ok(Self::Table(Arc::new(TableRows { table: table.clone(), pictures, standard })))
    }

    /// Length of a feature.
    pub fn width(&self) -> usize {
        match self {
            Self::Held(rows) => rows.dims()[1],
            Self::Table(rows) => rows.table.width(),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Held(rows) => rows.dims()[0],
            Self::Table(rows) => rows.pictures.len(),
        }
    }

    /// The same on another device; what is in a table stays there.
    pub fn to_device(&self, device: &Device) -> Self {
        match self {
            Self::Held(rows) => Self::Held(rows.clone().to_device(device)),
            Self::Table(_) => self.clone(),
        }
    }

    /// Rows `[rows, width]` on `device`, on which they are where they are held; on its autodiff side if that
    /// is asked for.
    ///
    /// # Errors
    /// A damaged table, no such row in it.
    pub fn select(&self, rows: &[u32], device: &Device) -> Result<Tensor<2>, TrainError> {
        match self {
            Self::Held(all) => {
                let rows = indices(rows.iter().map(|&row| row as i32), &device.clone().inner());
                let rows = all.clone().select(0, rows);
                Ok(if device.is_autodiff() { Tensor::from_inner(rows) } else { rows })
            }
            Self::Table(all) => {
                let picture = |&row: &u32| {
                    let missing = || TrainError::corrupt("features", format!("there is no row {row}"));
                    all.pictures.get(row as usize).copied().ok_or_else(missing)
                };
                let pictures: Vec<usize> = rows.iter().map(picture).collect::<Result<_, _>>()?;
                all.standard.apply(&all.table, &pictures, device)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{ops::Range, path::Path};

    use super::*;
    use crate::{features::TableKey, progress::Voice, training::weights::Array};

    /// A table of these `rows`.
    pub(crate) fn table(folder: &Path, width: usize, rows: &[f32]) -> Arc<FeatureTable> {
        let key = TableKey { pictures: "p".into(), weights: "w".into(), rows: rows.len() / width, width };
        let mut of = |range: Range<usize>| Ok(rows[range.start * width..range.end * width].to_vec());
        let table = FeatureTable::open(folder, &key, Voice::Silent, &|| false, &mut of);
        Arc::new(table.unwrap().unwrap())
    }

    /// Three rows, of which the first and the last differ in one feature.
    pub(crate) const ROWS: [f32; 6] = [1.0, 5.0, 99.0, -7.0, 3.0, 5.0];

    #[test]
    fn rows_are_the_same_held_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let table = table(dir.path(), 2, &ROWS);
        let device = Device::flex().autodiff();
        let of = |held| {
            let standard = Standard::of(&table, &[0, 2]).unwrap();
            RowFeatures::at_most(held, &table, vec![2, 1, 0], standard, &Device::flex()).unwrap()
        };
        let (held, read) = (of(6), of(5));
        assert!(matches!((&held, &read), (RowFeatures::Held(_), RowFeatures::Table(_))));
        for rows in [&[0, 2][..], &[1, 1, 0]] {
            let [held, read] = [&held, &read].map(|all| all.select(rows, &device).unwrap());
            assert_eq!(held.dims(), [rows.len(), 2]);
            assert_eq!(Array::of(held.inner()).values, Array::of(read.inner()).values);
        }
        assert_eq!([held.len(), read.len(), held.width(), read.width()], [3, 3, 2, 2]);
        let error = read.select(&[3], &device).unwrap_err().to_string();
        assert!(error.contains("no row 3"), "{error}");
    }
}
