//! A location network from places alone, in one go and in memory: for occurrence tables of a region,
//! and for choosing settings by cross-validation. What is left on disk is the caller's affair.

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use csp_models::{
    labels::ClassId,
    nn::{LocationClassifier, LocationClassifierConfig},
    place::LatLon,
    situation::Situation,
};
use rand::RngExt;

use super::{dropout::Dropout, indices, warmup};
use crate::{
    features::position_features,
    training::{
        config::LocationConfig,
        init,
        losses::presence::{Observed, PresenceConfig},
        optim::{AdamW, AdamWConfig, cosine},
        rng,
        sampler::{Batches, RandomDates},
    },
};

/// How a location network learns from places alone.
#[derive(Clone, Debug)]
pub struct PlaceFit {
    /// The network.
    pub location: LocationConfig,
    /// The presence loss; only kinds without photographers.
    pub loss: PresenceConfig,
    /// Steps of AdamW.
    pub steps: u64,
    /// Rows in a step.
    pub batch: usize,
    /// Peak learning rate; warm-up over 5 % of the steps, then a cosine to zero.
    pub lr: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Seed of every random choice.
    pub seed: u64,
}

impl PlaceFit {
    /// Learns what was seen where (and with a season, when) among `classes` classes. `background` are the
    /// places that stand for the region; each step draws from them, at dates uniform over the year.
    /// Without any, only other classes' places are absences.
    pub fn fit(
        &self,
        rows: &[(Situation, ClassId)],
        classes: usize,
        background: &[LatLon],
        device: &Device,
    ) -> LocationClassifier {
        let device = device.clone().autodiff();
        let network = LocationClassifierConfig::new(self.location.network(), classes).init(&device);
        let mut network = init::randomise(network, self.seed, "places/init");
        let (places, seen): (Vec<Situation>, Vec<ClassId>) = rows.iter().copied().unzip();
        let features = |places: &[Situation]| position_features(&self.location.encoder, places, &device);
        let (positions, seen) = (features(&places), indices(seen.iter().map(|c| i32::from(c.0)), &device));
        let seasonal = self.location.encoder.season();
        let undated = || background.iter().copied().map(Situation::undated).collect::<Vec<_>>();
        let elsewhere = (!background.is_empty() && !seasonal).then(|| features(&undated()));
        let mut optimizer =
            AdamW::new(AdamWConfig { weight_decay: self.weight_decay, ..AdamWConfig::default() });
        let mut batches = Batches::new(self.seed, "places/batch", rows.len(), self.batch);
        for step in 0..self.steps {
            let chosen = indices(batches.at(step).iter().map(|&i| i as i32), &device);
            let batch = batches.size();
            let mut parts = vec![positions.clone().select(0, chosen.clone())];
            if !background.is_empty() {
                let stream = (self.seed, "places/background", step);
                let mut rng = rng::stream(stream.0, stream.1, stream.2);
                let draws = (0..batch).map(|_| rng.random_range(0..background.len() as u32));
                parts.push(match &elsewhere {
                    Some(elsewhere) => {
                        elsewhere.clone().select(0, indices(draws.map(|draw| draw as i32), &device))
                    }
                    None => {
                        let mut dates = RandomDates::new(seasonal, stream);
                        let drawn: Vec<Situation> = draws
                            .map(|draw| Situation::new(background[draw as usize], dates.draw()))
                            .collect();
                        features(&drawn)
                    }
                });
            }
            let with_background = parts.len() == 2;
            let mut dropout = Dropout::new(self.location.dropout, self.seed, "places/dropout", step);
            let embedding =
                network.encoder.forward_dropping(Tensor::cat(parts, 0), &mut |x| dropout.apply(x));
            let logits = network.classes.forward(embedding);
            let loss = self.loss.loss(Observed {
                weights: None,
                background: with_background.then(|| logits.clone().narrow(0, batch, batch)),
                logits: logits.narrow(0, 0, batch),
                classes: seen.clone().select(0, chosen),
                others: None,
                users: None,
            });
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            let lr = cosine(self.lr, step, self.steps, warmup(self.steps));
            network = optimizer.step(network, gradients, lr, |_| 1.0);
        }
        network.valid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::location_logits;

    #[test]
    fn learns_two_ranges_and_that_nothing_lives_elsewhere() {
        let at = |lat: f64, lon: f64| LatLon::new(lat, lon).unwrap();
        let rows: Vec<(Situation, ClassId)> = (0..200u32)
            .map(|i| {
                let class = i % 2;
                let (a, b) = (f64::from(i % 20) * 0.05, f64::from(i / 20) * 0.1);
                (Situation::undated(at(10.0 + a, 20.0 + 6.0 * f64::from(class) + b)), ClassId(class as u16))
            })
            .collect();
        let background: Vec<LatLon> =
            (0..400u32).map(|i| at(5.0 + f64::from(i / 20) * 0.5, 18.0 + f64::from(i % 20) * 0.6)).collect();
        let mut location =
            LocationConfig { hidden: 64, embedding: 32, dropout: 0.0, ..LocationConfig::default() };
        location.encoder =
            csp_models::encoder::PositionEncoder::scaled("space2vec-grid", 8, 0.5, 60.0).unwrap();
        let loss = PresenceConfig::default();
        let fit = PlaceFit { location, loss, steps: 150, batch: 64, lr: 5e-3, weight_decay: 0.0, seed: 1 };
        let device = Device::flex();
        let network = fit.fit(&rows, 2, &background, &device);
        let encoder = &fit.location.encoder;
        let asked = [at(10.5, 20.5), at(10.5, 26.5), at(6.0, 23.0)].map(Situation::undated);
        let logits = location_logits(&network, encoder, &asked, &device);
        assert!(logits[0][0] > 0.0 && logits[0][1] < 0.0, "{logits:?}");
        assert!(logits[1][1] > 0.0 && logits[1][0] < 0.0, "{logits:?}");
        assert!(logits[2][0] < 0.0 && logits[2][1] < 0.0, "{logits:?}");
        let again = location_logits(&fit.fit(&rows, 2, &background, &device), encoder, &asked[..1], &device);
        assert_eq!(again[0], logits[0], "a seed gives one network");
    }
}
