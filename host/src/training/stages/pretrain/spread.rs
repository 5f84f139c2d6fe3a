//! A step over several devices, or in several parts on one: each embeds its share of the rows, the
//! loss is taken over all of them together on the first, and the gradients are summed there.
//!
//! So the negatives of a row are the whole batch, as on one device, and not only those beside it.
//! Forks of the network, moving and adding up gradients are burn's. Parts on one device embed twice,
//! first for the loss and then, one after another, for the gradients: the memory of one part.
//!
//! Moving something off a device waits for all that it was given to do. So every device has its work before
//! anything is fetched from one, and the first, whose weights the others are given, has its own last. Where
//! each takes several parts, memory comes first, and the second pass is one part after another.

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Device, Tensor},
};
use csp_models::situation::Situation;

use super::{Pretrain, indices, position_features};
use crate::training::{TrainError, losses::Views, row_features::RowFeatures, stages::dropout::Dropout};

/// A device with the rows of the data set.
#[derive(Clone)]
pub(super) struct Replica {
    /// On the autodiff side.
    device: Device,
    positions: Option<Tensor<2>>,
    images: RowFeatures,
}

/// What a replica has embedded.
struct Part {
    /// Its fork of the network.
    pair: super::Pair,
    /// `h` rows each: places, the same again, the first random place of each row, the second, …
    embeddings: Vec<Tensor<2>>,
    image: Tensor<2>,
}

impl Pretrain {
    /// Takes its steps on `devices`, the first of which is the one it is on, in as many parts on each
    /// as the settings say. With one device and one part nothing changes.
    pub fn spread_over(mut self, devices: &[Device]) -> Self {
        self.devices = devices.to_vec();
        self.divide();
        self
    }

    /// Divides the rows of a step between the devices and their parts.
    pub(super) fn divide(&mut self) {
        let parts = self.config.parts;
        let Some(images) = &self.images else { return };
        let replica = |device: &Device| {
            let there = |rows: &Tensor<2>| Tensor::from_inner(rows.clone().inner().to_device(device));
            Replica {
                device: device.clone().autodiff(),
                positions: self.positions.as_ref().map(there),
                images: images.to_device(device),
            }
        };
        self.replicas = Vec::new();
        if self.devices.len() * parts > 1 {
            let all = self.devices.iter().flat_map(|device| std::iter::repeat_n(replica(device), parts));
            // no part without a row
            self.replicas = all.take(self.batches.size()).collect();
        }
    }

    /// Loss `[1]` of a step and its gradients, on the first device.
    pub(super) fn spread_gradients(&mut self, step: u64) -> Result<(Tensor<1>, GradientsParams), TrainError> {
        let rows = self.batches.at(step).to_vec();
        let random = self.random_places(step);
        let shares = shares(rows.len(), self.replicas.len());
        let again = self.config.parts > 1;
        let main = self.device.clone().inner();
        let mut parts: Vec<Option<Part>> = shares.iter().map(|_| None).collect();
        let mut home: Vec<Vec<Tensor<2>>> = vec![Vec::new(); shares.len()];
        let fetch = |part: &Part| -> Vec<Tensor<2>> {
            let sides = part.embeddings.iter().chain([&part.image]);
            sides.map(|side| side.clone().inner().to_device(&main)).collect()
        };
        // a part of each device, then the next of each
        let on_each = self.config.parts;
        for round in 0..on_each {
            let ats = (round..shares.len()).step_by(on_each);
            for at in ats.clone().rev() {
                parts[at] = Some(self.part(at, shares[at], &rows, &random, step)?);
            }
            for at in ats {
                home[at] = parts[at].as_ref().map(&fetch).unwrap_or_default();
                if again {
                    parts[at] = None;
                }
            }
        }
        let whole = |side: usize| -> Tensor<2> {
            let parts = home.iter().map(|sides| sides[side].clone()).collect();
            Tensor::from_inner(Tensor::cat(parts, 0)).require_grad()
        };
        let sides = home.first().map_or(0, Vec::len).saturating_sub(1);
        let kinds: Vec<Tensor<2>> = (0..sides).map(whole).collect();
        let image = whole(sides);
        let [_, _, second] = self.config.weights();
        let first_random = if second != 0.0 { 2 } else { 1 };
        let at_random = kinds.get(first_random..).filter(|random| !random.is_empty());
        let on_first = indices(rows.iter().map(|&row| row as i32), &self.device);
        let views = Views {
            location: kinds[0].clone(),
            second: (second != 0.0).then(|| kinds[1].clone()),
            random: at_random.map(|random| Tensor::cat(random.to_vec(), 0)),
            image: image.clone(),
            queue: self.queue.embeddings().map(Tensor::from_inner),
            exempt: self.exempt(on_first),
        };
        let loss = self.loss_of(views, step);
        let mut gradients = loss.backward();
        let of_sides: Vec<Option<Tensor<2>>> =
            kinds.iter().chain([&image]).map(|side| side.grad_remove(&mut gradients)).collect();

        // a share's gradients go to its device before any device begins to use them
        let of_shares = shares.iter().zip(&self.replicas).map(|(&(from, height), replica)| {
            let device = replica.device.clone().inner();
            let own = |gradient: &Tensor<2>| gradient.clone().narrow(0, from, height).to_device(&device);
            of_sides.iter().map(|gradient| gradient.as_ref().map(own)).collect::<Vec<_>>()
        });
        let of_shares: Vec<_> = of_shares.collect();
        let mut sum = GradientsAccumulator::new();
        // what is not on the replicas: the temperatures
        sum.accumulate(&self.pair, GradientsParams::from_grads(gradients, &self.pair));
        let back = |part: Part, of_sides: Vec<Option<Tensor<2>>>| {
            let sides = part.embeddings.into_iter().chain([part.image]);
            let terms = sides.zip(of_sides).filter_map(|(side, gradient)| Some((side * gradient?).sum()));
            let carried = terms.reduce(|sum, term| sum + term)?;
            Some((GradientsParams::from_grads(carried.backward(), &part.pair), part.pair))
        };
        let mut found = Vec::new();
        if again {
            // memory comes first: a part's gradients are added before the next is embedded
            for (at, of_sides) in of_shares.into_iter().enumerate() {
                let part = self.part(at, shares[at], &rows, &random, step)?;
                if let Some((gradients, pair)) = back(part, of_sides) {
                    sum.accumulate(&self.pair, gradients.to_device(&main, &pair));
                }
            }
        } else {
            let parts = parts.into_iter().zip(of_shares).rev();
            found.extend(parts.filter_map(|(part, of_sides)| back(part?, of_sides)));
        }
        for (gradients, pair) in found.into_iter().rev() {
            sum.accumulate(&self.pair, gradients.to_device(&main, &pair));
        }
        Ok((loss, sum.grads()))
    }

    /// Rows `from .. from + height` of the step on replica `at`.
    fn part(
        &self,
        at: usize,
        (from, height): (usize, usize),
        rows: &[u32],
        random: &[Situation],
        step: u64,
    ) -> Result<Part, TrainError> {
        let replica = &self.replicas[at];
        let pair = self.pair.clone().fork(&replica.device);
        let own = from..from + height;
        let there = (replica.positions.as_ref(), &replica.device);
        let positions = self.positions_of(step, rows, own.clone(), there);
        let [_, _, second] = self.config.weights();
        let mut inputs = vec![positions.clone()];
        if second != 0.0 {
            inputs.push(positions);
        }
        for draws in random.chunks_exact(rows.len()) {
            let places = &draws[from..from + height];
            inputs.push(position_features(&self.location.encoder, places, &replica.device));
        }
        let kinds = inputs.len();
        let purpose = format!("pretrain/dropout/{at}");
        let mut dropout = Dropout::new(self.location.dropout, self.seed, &purpose, step);
        let all = pair.encoder.forward_dropping(Tensor::cat(inputs, 0), &mut |x| dropout.apply(x));
        let image = pair.projection.forward(replica.images.select(&rows[own], &replica.device)?);
        let embeddings = (0..kinds).map(|kind| all.clone().narrow(0, kind * height, height)).collect();
        Ok(Part { pair, embeddings, image })
    }
}

/// First row and number of rows of each of `parts` shares of `rows`, as equal as can be.
fn shares(rows: usize, parts: usize) -> Vec<(usize, usize)> {
    let edge = |part: usize| part * rows / parts.max(1);
    (0..parts).map(|part| (edge(part), edge(part + 1) - edge(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{
        config::{LocationConfig, Objective, PretrainConfig},
        rng,
        row_features::{Room, tests::table},
        sampler::{Negatives, random_places},
        standard::Standard,
    };
    use rand::RngExt;

    /// Losses and gradients, with features and positions on the device or `read` for each step.
    fn trace(devices: usize, parts: usize, read: bool, config: &PretrainConfig) -> Vec<(f64, f64)> {
        let config = &PretrainConfig { parts, ..config.clone() };
        let device = Device::flex();
        let mut rng = rng::stream(1, "test", 0);
        let places = random_places(Negatives::Sphere, true, (1, "places", 0), 60);
        let features: Vec<f32> = (0..60 * 12).map(|_| rng.random::<f32>() - 0.5).collect();
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path(), 12, &features);
        let room = Room { numbers: if read { 0 } else { usize::MAX }, buffer: usize::MAX };
        let images = RowFeatures::within(room, &table, (0..60).collect(), Standard::nothing(12), &device);
        // each part has masks of its own: without dropout the parts have to add up to the whole
        let location = LocationConfig { hidden: 16, embedding: 8, dropout: 0.0, ..LocationConfig::default() };
        let mut stage = Pretrain::new(&places, images.unwrap(), &[], &location, config, 5, &device);
        if read {
            stage.positions = None;
        }
        let mut stage = stage.spread_over(&vec![device; devices]);
        (0..6).map(|step| stage.traced_step(step).unwrap()).collect()
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let mut mc = PretrainConfig {
            batch: 25,
            negatives_per_row: 2,
            queue: 30,
            learned_temperatures: true,
            ..PretrainConfig::default()
        };
        mc.mc.symmetric = true;
        let nce = PretrainConfig { objective: Objective::Nce, batch: 25, ..PretrainConfig::default() };
        for config in [mc, nce] {
            let whole = trace(1, 1, false, &config);
            // what is read for each step is what was held
            assert_eq!(whole, trace(1, 1, true, &config));
            assert_eq!(trace(2, 1, false, &config), trace(2, 1, true, &config));
            for (devices, parts) in [(2, 1), (3, 1), (1, 2), (2, 2)] {
                for (step, (a, b)) in whole.iter().zip(trace(devices, parts, false, &config)).enumerate() {
                    let which = format!("{devices} devices, {parts} parts, step {step}: {a:?} {b:?}");
                    assert!((a.0 - b.0).abs() < 1e-4 * a.0.abs(), "loss, {which}");
                    assert!((a.1 - b.1).abs() < 1e-3 * a.1.abs(), "gradient, {which}");
                }
            }
        }
    }

    #[test]
    fn every_row_is_in_one_share() {
        assert_eq!(shares(10, 3), [(0, 3), (3, 3), (6, 4)]);
        assert_eq!(shares(1, 2), [(0, 0), (0, 1)]);
    }
}
