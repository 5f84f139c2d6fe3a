//! Pooled picture features of the rows that a stage learns from: on the device where they fit there, else
//! read for each step from the table they are in.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::{TrainError, guard::on_device, stages::indices, standard::Standard};
use crate::features::FeatureTable;

/// How much of a data set a device holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Numbers at most.
    pub numbers: usize,
    /// Bytes of one buffer at most.
    pub buffer: usize,
}

impl Room {
    /// On a GPU 4 GiB, in buffers of 128 MiB: every Vulkan driver can bind one of these, few one of more than
    /// 2 GiB. On the CPU 1 GiB, since there reading a step's rows is no slower than gathering them.
    pub fn of(device: &Device) -> Self {
        match on_cpu(device) {
            true => Self { numbers: 1 << 28, buffer: usize::MAX },
            false => Self { numbers: 1 << 30, buffer: 1 << 27 },
        }
    }

    /// Whether so many numbers can lie in one buffer.
    pub fn holds(self, numbers: usize) -> bool {
        numbers <= self.numbers.min(self.buffer / size_of::<f32>())
    }

    /// Columns of `rows` rows that one buffer holds, of `width`; `None` where there is no room for all of them.
    fn columns(self, rows: usize, width: usize) -> Option<usize> {
        let columns = (self.buffer / size_of::<f32>() / rows.max(1)).min(width);
        (rows > 0 && columns > 0 && rows * width <= self.numbers).then_some(columns)
    }
}

fn on_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// Features of rows `[rows, width]`, by the number of a row.
#[derive(Clone, Debug)]
pub(crate) enum RowFeatures {
    /// On a device, without autodiff: tensors `[rows, columns]`, side by side.
    Held(Vec<Tensor<2>>),
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
        Self::within(Room::of(device), table, pictures, standard, device)
    }

    pub(super) fn within(
        room: Room,
        table: &Arc<FeatureTable>,
        pictures: Vec<usize>,
        standard: Standard,
        device: &Device,
    ) -> Result<Self, TrainError> {
        if let Some(columns) = room.columns(pictures.len(), table.width()) {
            let blocks = standard.blocks(table, &pictures, columns)?;
            if let Some(held) = hold(blocks, pictures.len(), device) {
                return Ok(Self::Held(held));
            }
        }
        Ok(Self::Table(Arc::new(TableRows { table: table.clone(), pictures, standard })))
    }

    /// Rows of `width` `values` each on a device; `None` where it has no room for them.
    pub fn hold(values: Vec<f32>, width: usize, device: &Device) -> Option<Self> {
        let rows = values.len() / width.max(1);
        let columns = Room { numbers: usize::MAX, ..Room::of(device) }.columns(rows, width)?;
        let blocks = if columns == width {
            vec![values]
        } else {
            let ends = |from: usize| from..(from + columns).min(width);
            let block = |from: usize| -> Vec<f32> {
                values.chunks_exact(width).flat_map(|row| row[ends(from)].iter().copied()).collect()
            };
            (0..width).step_by(columns).map(block).collect()
        };
        Some(Self::Held(hold(blocks, rows, device)?))
    }

    /// Length of a feature.
    pub fn width(&self) -> usize {
        match self {
            Self::Held(blocks) => blocks.iter().map(|block| block.dims()[1]).sum(),
            Self::Table(rows) => rows.table.width(),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Held(blocks) => blocks.first().map_or(0, |block| block.dims()[0]),
            Self::Table(rows) => rows.pictures.len(),
        }
    }

    /// The same on another device; what is in a table stays there.
    pub fn to_device(&self, device: &Device) -> Self {
        match self {
            Self::Held(blocks) => {
                Self::Held(blocks.iter().map(|block| block.clone().to_device(device)).collect())
            }
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
            Self::Held(blocks) => {
                let rows = indices(rows.iter().map(|&row| row as i32), &device.clone().inner());
                let mut parts: Vec<_> =
                    blocks.iter().map(|block| block.clone().select(0, rows.clone())).collect();
                let rows = if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) };
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

/// Brings `blocks` of `rows` rows to a device, one after the other, so that little of them is there twice.
/// `None` where it has no room for them: a GPU says so when something is read.
fn hold(blocks: Vec<Vec<f32>>, rows: usize, device: &Device) -> Option<Vec<Tensor<2>>> {
    let mut held = Vec::with_capacity(blocks.len());
    for values in blocks {
        let shape = [rows, values.len() / rows.max(1)];
        let block = Tensor::<2>::from_data(TensorData::new(values, shape), device);
        let first = || block.clone().slice([0..1, 0..1]).try_into_data().is_ok();
        if !on_cpu(device) && on_device(true, first) != Ok(true) {
            drop((block, held));
            device.memory_cleanup();
            return None;
        }
        held.push(block);
    }
    Some(held)
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
        let of = |numbers, buffer| {
            let standard = Standard::of(&table, &[0, 2]).unwrap();
            let room = Room { numbers, buffer };
            RowFeatures::within(room, &table, vec![2, 1, 0], standard, &Device::flex()).unwrap()
        };
        let (held, divided, read) = (of(6, 24), of(6, 23), of(5, 24));
        let blocks = |rows: &RowFeatures| match rows {
            RowFeatures::Held(blocks) => blocks.len(),
            RowFeatures::Table(_) => 0,
        };
        assert_eq!([&held, &divided, &read, &of(6, 11)].map(blocks), [1, 2, 0, 0]);
        let other: Vec<f32> = Array::of(held.select(&[0, 1, 2], &Device::flex()).unwrap()).values;
        let again = RowFeatures::hold(other, 2, &Device::flex()).unwrap();
        for rows in [&[0, 2][..], &[1, 1, 0]] {
            let selected = [&held, &divided, &read, &again].map(|all| all.select(rows, &device).unwrap());
            let values = selected.map(|rows| (rows.dims(), Array::of(rows.inner()).values));
            assert_eq!(values[0].0, [rows.len(), 2]);
            assert!(values.iter().all(|other| *other == values[0]), "{values:?}");
        }
        for all in [&held, &divided, &read, &again] {
            assert_eq!([all.len(), all.width()], [3, 2]);
        }
        let error = read.select(&[3], &device).unwrap_err().to_string();
        assert!(error.contains("no row 3"), "{error}");
    }
}
