//! Feature-wise linear modulation (Perez et al., AAAI 2018): the place scales and shifts the pooled
//! features of the picture before they are classified, as Chu et al. (2019) do for photographs.

use burn::{
    config::Config,
    module::Module,
    nn::{Initializer, Linear, LinearConfig},
    tensor::{Device, Tensor},
};

/// Configuration of a [`ModulatedHead`].
#[derive(Config, Debug)]
pub struct ModulatedHeadConfig {
    /// Length of the location embedding.
    pub embedding: usize,
    /// Length of the pooled feature.
    pub features: usize,
    /// Number of classes.
    pub classes: usize,
}

/// `head(f · (1 + γ(e)) + β(e))`, γ and β linear in the location embedding `e` of length 1; a picture
/// without a place has `e = 0`. Created by [`ModulatedHeadConfig::init`].
#[derive(Module, Debug)]
pub struct ModulatedHead {
    /// Embedding → γ and β.
    pub modulation: Linear,
    /// Modulated feature → logits.
    pub head: Linear,
}

impl ModulatedHeadConfig {
    /// A modulation that does nothing yet, under a random classifier.
    pub fn init(&self, device: &Device) -> ModulatedHead {
        let modulation = LinearConfig::new(self.embedding, 2 * self.features)
            .with_initializer(Initializer::Zeros)
            .init(device);
        ModulatedHead { modulation, head: LinearConfig::new(self.features, self.classes).init(device) }
    }
}

impl ModulatedHead {
    /// # Shapes
    /// - features: `[batch, features]`
    /// - embeddings: `[batch, embedding]`, rows of length 1, or 0 where the place is not known
    /// - output: `[batch, classes]` logits
    pub fn forward(&self, features: Tensor<2>, embeddings: Tensor<2>) -> Tensor<2> {
        let [_, width] = features.dims();
        let both = self.modulation.forward(embeddings);
        let scale = both.clone().narrow(1, 0, width) + 1.0;
        self.head.forward(features * scale + both.narrow(1, width, width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{module::Param, tensor::TensorData};
    use std::{vec, vec::Vec};

    #[test]
    fn scales_and_shifts_each_feature_by_the_place() {
        let device = Device::flex();
        let mut network = ModulatedHeadConfig::new(2, 3, 2).init(&device);
        let matrix = |values: Vec<f32>, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values, shape), &device)
        };
        let features = matrix(vec![1.0, 2.0, 4.0], [1, 3]);
        let numbers = |t: Tensor<2>| -> Vec<f32> { t.into_data().iter::<f32>().collect() };
        let here = matrix(vec![1.0, 0.0], [1, 2]);
        let plain = numbers(network.head.forward(features.clone()));
        assert_eq!(numbers(network.forward(features.clone(), here.clone())), plain, "fresh: no effect");

        // γ = (1, −1, 0), β = (0, 0, 10) at the first place; nothing at the second
        let weight = vec![1.0, -1.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        network.modulation.weight = Param::from_tensor(matrix(weight, [2, 6]));
        network.head.weight = Param::from_tensor(matrix(vec![1.0, 0.0, 10.0, 0.0, 0.0, 1.0], [3, 2]));
        network.head.bias = None;
        assert_eq!(numbers(network.forward(features.clone(), here)), [2.0, 14.0]);
        let there = matrix(vec![0.0, 1.0], [1, 2]);
        assert_eq!(numbers(network.forward(features, there)), [21.0, 4.0]);
    }
}
