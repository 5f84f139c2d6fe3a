//! Features with mean 0 and deviation 1.

use burn::tensor::{Device, Tensor, TensorData};

use super::TrainError;
use crate::features::FeatureTable;

/// Mean and scale of each feature.
#[derive(Clone, Debug)]
pub(crate) struct Standard(Vec<(f64, f64)>);

impl Standard {
    /// Leaves features as they are.
    pub fn nothing(width: usize) -> Self {
        Self(vec![(0.0, 1.0); width])
    }

    /// Of the features of `pictures`: mean 0 and deviation 1.
    ///
    /// # Errors
    /// A damaged table.
    pub fn of(table: &FeatureTable, pictures: &[usize]) -> Result<Self, TrainError> {
        let n = pictures.len() as f64;
        let mut sums = vec![0f64; table.width()];
        table.each(pictures, |row| sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v)))?;
        let means: Vec<f64> = sums.into_iter().map(|sum| sum / n).collect();
        let mut squares = vec![0f64; table.width()];
        table.each(pictures, |row| {
            for ((square, mean), &v) in squares.iter_mut().zip(&means).zip(row) {
                *square += (f64::from(v) - mean).powi(2);
            }
        })?;
        let scale = |square: f64| {
            let deviation = (square / n).sqrt();
            if deviation > 1e-6 { 1.0 / deviation } else { 0.0 }
        };
        Ok(Self(means.into_iter().zip(squares.into_iter().map(scale)).collect()))
    }

    /// Standardised features `[pictures, width]` on a device; on the host they are held once.
    ///
    /// # Errors
    /// A damaged table.
    pub fn apply(
        &self,
        table: &FeatureTable,
        pictures: &[usize],
        device: &Device,
    ) -> Result<Tensor<2>, TrainError> {
        let mut all = Vec::with_capacity(pictures.len() * table.width());
        table.each(pictures, |row| {
            let scaled = row.iter().zip(&self.0).map(|(&v, (mean, scale))| (f64::from(v) - mean) * scale);
            all.extend(scaled.map(|v| v as f32));
        })?;
        Ok(Tensor::from_data(TensorData::new(all, [pictures.len(), table.width()]), device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{
        row_features::tests::{ROWS, table},
        weights::Array,
    };

    #[test]
    fn standardised_features_have_mean_0_and_deviation_1() {
        let dir = tempfile::tempdir().unwrap();
        let table = table(dir.path(), 2, &ROWS);
        let standard =
            |standard: Standard| Array::of(standard.apply(&table, &[0, 2], &Device::flex()).unwrap()).values;
        assert_eq!(standard(Standard::of(&table, &[0, 2]).unwrap()), [-1.0, 0.0, 1.0, 0.0]);
        assert_eq!(standard(Standard::nothing(2)), [1.0, 5.0, 3.0, 5.0]);
    }
}
