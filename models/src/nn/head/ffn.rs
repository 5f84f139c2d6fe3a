//! The feed-forward network of the released models (csp `module.py`, csp-spec §1.4): each layer is
//! Linear → activation → dropout → (+ input where the widths agree) → LayerNorm, the last one
//! Linear → activation → dropout.

use burn::tensor::Tensor;

use super::{Drop, LocationHead, NormPlace};

impl LocationHead {
    pub(super) fn ffn(&self, features: Tensor<2>, drop: Drop<'_>) -> Tensor<2> {
        let settings = &self.settings;
        let last = self.layers.len() - 1;
        let mut x = features;
        for (i, layer) in self.layers.iter().enumerate() {
            let z = layer.forward(x.clone());
            if i == last {
                return if settings.output_activation { drop(self.activation.apply(z)) } else { z };
            }
            let norm = self.norms.get(i);
            let z = match norm {
                Some(norm) if settings.norm == NormPlace::BeforeActivation => norm.forward(z),
                _ => z,
            };
            let z = drop(self.activation.apply(z));
            let z = if settings.skip && z.dims() == x.dims() { z + x } else { z };
            x = match norm {
                Some(norm) if settings.norm == NormPlace::Last => norm.forward(z),
                _ => z,
            };
        }
        x
    }
}
