//! Features with mean 0 and deviation 1.

use burn::tensor::{Device, Tensor, TensorData};

use super::{TrainError, weights::Weights};
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

    /// Standardised features of `pictures` in blocks `[pictures, columns]`, of which the last may be narrower.
    ///
    /// # Errors
    /// A damaged table.
    pub fn blocks(
        &self,
        table: &FeatureTable,
        pictures: &[usize],
        columns: usize,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let columns = columns.max(1);
        let size = |of: &[(f64, f64)]| Vec::with_capacity(pictures.len() * of.len());
        let mut blocks: Vec<Vec<f32>> = self.0.chunks(columns).map(size).collect();
        table.each(pictures, |row| {
            let parts = row.chunks(columns).zip(self.0.chunks(columns));
            for ((row, of), block) in parts.zip(&mut blocks) {
                let scaled = row.iter().zip(of).map(|(&v, (mean, scale))| (f64::from(v) - mean) * scale);
                block.extend(scaled.map(|v| v as f32));
            }
        })?;
        Ok(blocks)
    }

    /// Standardised features `[pictures, width]` on a device.
    ///
    /// # Errors
    /// A damaged table.
    pub fn apply(
        &self,
        table: &FeatureTable,
        pictures: &[usize],
        device: &Device,
    ) -> Result<Tensor<2>, TrainError> {
        let all = self.blocks(table, pictures, table.width())?.pop().unwrap_or_default();
        Ok(Tensor::from_data(TensorData::new(all, [pictures.len(), table.width()]), device))
    }

    /// Makes the linear layer `name` of `weights`, `weight` `[width, outputs]` and `bias` `[outputs]`, which is
    /// for standardised features, one for features as they are. False where there is no such layer.
    pub fn fold(&self, weights: &mut Weights, name: &str) -> bool {
        let [weight, bias] = ["weight", "bias"].map(|part| weights.0.remove(&format!("{name}.{part}")));
        let (Some(mut weight), Some(mut bias)) = (weight, bias) else { return false };
        let outputs = bias.values.len();
        if outputs == 0 || weight.values.len() != self.0.len() * outputs {
            return false;
        }
        let mut offsets = vec![0f64; outputs];
        for (row, (mean, scale)) in weight.values.chunks_exact_mut(outputs).zip(&self.0) {
            for (value, offset) in row.iter_mut().zip(&mut offsets) {
                let scaled = f64::from(*value) * scale;
                *offset += mean * scaled;
                *value = scaled as f32;
            }
        }
        let shifted = bias.values.iter_mut().zip(offsets);
        shifted.for_each(|(value, offset)| *value = (f64::from(*value) - offset) as f32);
        weights.0.extend([(format!("{name}.weight"), weight), (format!("{name}.bias"), bias)]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};

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

    #[test]
    fn a_folded_layer_answers_features_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let table = table(dir.path(), 2, &ROWS);
        let device = Device::flex();
        let layer = LinearConfig::new(2, 3).init(&device);
        let standard = Standard::of(&table, &[0, 1]).unwrap();
        let answers = |layer: Linear, by: &Standard| {
            Array::of(layer.forward(by.apply(&table, &[0, 1, 2], &device).unwrap())).values
        };
        let expected = answers(layer.clone(), &standard);
        let mut weights = Weights::of("head", &layer);
        assert!(standard.fold(&mut weights, "head") && !standard.fold(&mut weights.clone(), "other"));
        let got = answers(weights.apply("head", layer).unwrap(), &Standard::nothing(2));
        for (a, b) in expected.iter().zip(&got) {
            assert!((a - b).abs() < 1e-5, "{expected:?} {got:?}");
        }
        assert!(!Standard::nothing(3).fold(&mut weights, "head"));
    }
}
