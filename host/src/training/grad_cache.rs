//! Large batches of pictures in the memory of small ones (gradient caching, Gao et al. 2021).
//!
//! A contrastive loss sees all rows of a batch at once, but a backbone treats each on its own. So: all
//! features without a graph; the loss on them, and its gradient with respect to each feature; then every
//! few pictures again, with a graph, to carry their share of that gradient into the weights. The sum is
//! the gradient of the whole batch, as long as the module does not mix rows: batch normalisation has to
//! use its running statistics.

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Gradients, Tensor},
};

use super::TrainError;

/// The backward pass of a batch.
pub(crate) struct Cached {
    /// `[1]`
    pub loss: Tensor<1>,
    /// Of the module that was run in parts.
    pub module: GradientsParams,
    /// Of everything else the loss depends on.
    pub rest: Gradients,
}

/// Gradients of `loss(features of all rows)`. `forward` gives the features `[rows of the part, width]`
/// of a part of the batch, 0 to `parts − 1`, by the module it is handed; it is asked twice for each part
/// and must answer the same. `module` lives on the autodiff side.
pub(crate) fn backward<M: Module>(
    module: &M,
    parts: usize,
    mut forward: impl FnMut(&M, usize) -> Result<Tensor<2>, TrainError>,
    loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
) -> Result<Cached, TrainError> {
    let plain = module.valid();
    let features: Vec<Tensor<2>> = (0..parts).map(|part| forward(&plain, part)).collect::<Result<_, _>>()?;
    let sizes: Vec<usize> = features.iter().map(|part| part.dims()[0]).collect();
    let leaf = Tensor::from_inner(Tensor::cat(features, 0)).require_grad();
    let loss = loss(leaf.clone());
    let rest = loss.backward();
    let mut sum = GradientsAccumulator::new();
    if let Some(gradient) = leaf.grad(&rest) {
        let mut start = 0;
        for (part, rows) in sizes.into_iter().enumerate() {
            let share = gradient.clone().narrow(0, start, rows);
            // its gradient with respect to the features is `share`
            let surrogate = (forward(module, part)? * Tensor::from_inner(share)).sum();
            sum.accumulate(module, GradientsParams::from_grads(surrogate.backward(), module));
            start += rows;
        }
    }
    Ok(Cached { loss, module: sum.grads(), rest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{
        init,
        losses::{Exempt, Views, mc::McConfig},
        optim::{AdamW, AdamWConfig},
        weights::Weights,
    };
    use burn::{
        module::ParamGroup,
        nn::LinearConfig,
        tensor::{Device, TensorData},
    };
    use csp_models::nn::{Backbone, BackboneKind, ImageClassifierConfig};

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
    }

    fn frozen(kind: BackboneKind, device: &Device) -> Backbone {
        let network = ImageClassifierConfig::new(kind, 2).init(device);
        let network = init::randomise(network, 3, "test");
        network.backbone.freeze_group(ParamGroup::from_predicate(".norm."))
    }

    #[test]
    fn parts_give_the_gradient_of_the_whole() {
        let device = Device::flex().autodiff();
        let backbone = frozen(BackboneKind::SmallCnn(4), &device);
        let projection = init::randomise(LinearConfig::new(16, 8).init(&device), 4, "test");
        let images =
            Tensor::<4>::from_data(TensorData::new(numbers(10 * 3 * 256, 0.0), [10, 3, 16, 16]), &device);
        let place =
            Tensor::<2>::from_data(TensorData::new(numbers(80, 1.0), [10, 8]), &device).require_grad();
        let config = McConfig { weight_random: 0.0, weight_dropout: 0.0, ..McConfig::default() };
        let loss = |features: Tensor<2>| {
            let image = projection.forward(features);
            config.loss(Views {
                location: place.clone(),
                second: None,
                image,
                random: None,
                queue: None,
                exempt: Exempt::default(),
            })
        };
        // one step of plain SGD shows every gradient, by name
        let step = |module: Backbone, gradients| {
            let config = AdamWConfig { momentum: Some(0.0), ..AdamWConfig::default() };
            Weights::of("b", &AdamW::new(config).step(module, gradients, 1.0, |_| 1.0))
        };
        let before = Weights::of("b", &backbone);
        let whole = loss(backbone.forward(images.clone()));
        let gradients = whole.backward();
        let place_gradient = place.grad(&gradients).unwrap();
        let expected = step(backbone.clone(), GradientsParams::from_grads(gradients, &backbone));
        let moved: f32 = largest(&before, &expected);
        assert!(moved > 1e-3, "the gradient is not zero: {moved}");

        // parts of 4, 4 and 2
        let forward = |module: &Backbone, part: usize| {
            let rows = 4.min(10 - 4 * part);
            let part = images.clone().narrow(0, 4 * part, rows);
            Ok(module.forward(if is_autodiff(module) { part } else { part.inner() }))
        };
        let cached = backward(&backbone, 3, forward, loss).unwrap();
        let (a, b) = (whole.into_scalar::<f32>(), cached.loss.into_scalar::<f32>());
        assert!((a - b).abs() < 1e-5, "{a} {b}");
        let off = largest(&expected, &step(backbone.clone(), cached.module));
        assert!(off < 1e-5, "gradients of the backbone: {off}");
        let off = (place.grad(&cached.rest).unwrap() - place_gradient).abs().max().into_scalar::<f32>();
        assert!(off < 1e-5, "gradients of the places: {off}");
    }

    fn is_autodiff(module: &Backbone) -> bool {
        module.devices().iter().any(Device::is_autodiff)
    }

    fn largest(a: &Weights, b: &Weights) -> f32 {
        let pairs = a.0.values().zip(b.0.values());
        pairs
            .flat_map(|(a, b)| a.values.iter().zip(&b.values))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    }
}
