//! Location embeddings of the steps before, first in first out: more negatives than a batch holds.

use std::collections::VecDeque;

use burn::tensor::{Device, Int, Tensor};

use super::indices;
use crate::training::{
    sampler::Batches,
    weights::{Array, Weights},
};

/// The last embeddings, newest step first, with the rows they are of.
pub(super) struct Queue {
    size: usize,
    embeddings: Option<Tensor<2>>,
    rows: VecDeque<i32>,
}

/// Its tensor in a checkpoint.
const NAME: &str = "queue.embeddings";

impl Queue {
    /// Room for `size` embeddings; with 0 it stays empty.
    pub fn new(size: usize) -> Self {
        Self { size, embeddings: None, rows: VecDeque::new() }
    }

    /// `[K, d]`, `None` as long as there is nothing.
    pub fn embeddings(&self) -> Option<Tensor<2>> {
        self.embeddings.clone()
    }

    /// `[K]`, the rows of the embeddings.
    pub fn rows(&self, device: &Device) -> Option<Tensor<1, Int>> {
        (!self.rows.is_empty()).then(|| indices(self.rows.iter().copied(), device))
    }

    /// Takes the embeddings `[B, d]` of a step, of length 1 and without gradient; the oldest go.
    pub fn push(&mut self, embeddings: Tensor<2>, rows: &[u32]) {
        if self.size == 0 {
            return;
        }
        let all = match self.embeddings.take() {
            Some(earlier) => Tensor::cat(vec![embeddings, earlier], 0),
            None => embeddings,
        };
        let kept = all.dims()[0].min(self.size);
        self.embeddings = Some(all.narrow(0, 0, kept));
        self.remember(rows);
    }

    fn remember(&mut self, rows: &[u32]) {
        for &row in rows.iter().rev() {
            self.rows.push_front(row as i32);
        }
        self.rows.truncate(self.size);
    }

    /// Adds the embeddings to a checkpoint. The rows follow from the batches.
    pub fn save(&self, into: &mut Weights) {
        if let Some(embeddings) = &self.embeddings {
            into.0.insert(NAME.into(), Array::of(embeddings.clone()));
        }
    }

    /// Goes back to the state after `step` steps over `batches`.
    ///
    /// # Errors
    /// The checkpoint is of another queue.
    pub fn load(
        &mut self,
        from: &Weights,
        step: u64,
        batches: &mut Batches,
        width: usize,
        device: &Device,
    ) -> Result<(), String> {
        *self = Self::new(self.size);
        let want = (step as usize).saturating_mul(batches.size()).min(self.size);
        if want == 0 {
            return Ok(());
        }
        let array = from.0.get(NAME).ok_or_else(|| format!("tensor {NAME} is missing"))?;
        if array.shape != [want, width] {
            return Err(format!("tensor {NAME} has shape {:?}, not {:?}", array.shape, [want, width]));
        }
        self.embeddings = Some(Tensor::from_data(array.data(), device));
        let first = step - (want.div_ceil(batches.size()) as u64).min(step);
        for earlier in first..step {
            self.remember(batches.at(earlier));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embeddings(of: &[u32]) -> Tensor<2> {
        let values: Vec<f32> = of.iter().map(|&row| row as f32).collect();
        let column = Tensor::<1>::from_data(&values[..], &Device::flex());
        column.unsqueeze_dim(1)
    }

    #[test]
    fn keeps_the_newest_and_comes_back_as_it_was() {
        let mut batches = Batches::new(1, "test", 20, 6);
        for size in [4, 6, 15, 100] {
            let mut queue = Queue::new(size);
            for step in 0..7 {
                let rows = batches.at(step).to_vec();
                queue.push(embeddings(&rows), &rows);
                let have: Vec<i32> =
                    Array::of(queue.embeddings().unwrap()).values.iter().map(|&v| v as i32).collect();
                assert_eq!(have.len(), size.min(6 * (step as usize + 1)));
                assert_eq!(
                    have,
                    queue.rows.iter().copied().collect::<Vec<_>>(),
                    "rows stay with their embeddings"
                );
                assert_eq!(have[0], rows[0] as i32, "the newest first");

                let mut saved = Weights::default();
                queue.save(&mut saved);
                let mut again = Queue::new(size);
                again.load(&saved, step + 1, &mut batches, 1, &Device::flex()).unwrap();
                assert_eq!(again.rows, queue.rows, "size {size} step {step}");
                assert!(again.load(&Weights::default(), step + 1, &mut batches, 1, &Device::flex()).is_err());
            }
        }
    }
}
