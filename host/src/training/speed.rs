//! How fast the stage `pretrain` is, on random rows: for benchmarks against peers.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use csp_models::{encoder::PositionEncoder, situation::Situation};
use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

use super::{
    config::{LocationConfig, PretrainConfig},
    losses::mc::McConfig,
    rng,
    row_features::RowFeatures,
    runner::Stage,
    sampler::{Negatives, random_places},
    stages::Pretrain,
};

/// What is measured: the released model (grid, 32 scales, one hidden layer of 512, embedding of 256,
/// dropout ½) with MC-BLD and one random place a row.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Workload {
    /// Rows of the data set.
    pub rows: usize,
    /// Image features of a row.
    pub features: usize,
    /// Rows of a step.
    pub batch: usize,
    /// Steps that are timed; three more go before them.
    pub steps: u64,
}

/// Position features, hidden width and embedding of the released model.
const WIDTHS: [usize; 3] = [128, 512, 256];

impl Workload {
    /// Floating-point operations that no way of taking a step can do without: the matrix products of its
    /// forward and backward passes, a multiply-add counted as two. The projection needs no gradient of the
    /// features; each row's place is embedded twice (dropout) and a random place once; three terms compare
    /// every row with every other.
    pub fn least_flop(&self) -> f64 {
        let [batch, features] = [self.batch, self.features].map(|n| n as f64);
        let [positions, hidden, embedding] = WIDTHS.map(|n| n as f64);
        let projection = 2.0 * 2.0 * batch * features * embedding;
        let layers = positions * hidden + hidden * embedding;
        let places = 3.0 * batch * 2.0 * (2.0 * layers + hidden * embedding);
        let terms = 3.0 * 3.0 * 2.0 * batch * batch * embedding;
        projection + places + terms
    }
}

/// Floating-point operations a processor second of products of square matrices of 1024 rows: what a step
/// made of nothing else would reach on the CPU. `None` where the system does not tell the time.
pub fn matmul_flop_per_s(device: &Device) -> Option<f64> {
    const SIDE: usize = 1024;
    const TIMES: usize = 20;
    let values: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 13) as f32 - 6.0).collect();
    let matrix = Tensor::<2>::from_data(TensorData::new(values, [SIDE, SIDE]), device);
    let product = || matrix.clone().matmul(matrix.clone()).sum().into_scalar::<f32>();
    product();
    let before = cpu_seconds()?;
    (0..TIMES).for_each(|_| {
        product();
    });
    let took = cpu_seconds()? - before;
    (took > 0.0).then(|| (2 * SIDE.pow(3) * TIMES) as f64 / took)
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// The workload.
    pub workload: Workload,
    /// Median wall time of a step, seconds.
    pub step_s: f64,
    /// Processor time of a step, all threads, mean, seconds: what a busy machine does not change much.
    /// `None` where the system does not tell.
    pub cpu_s: Option<f64>,
    /// Rows a second at that pace.
    pub rows_per_s: f64,
    /// Loss of the last step, so that nobody measures nothing.
    pub loss: f64,
}

/// Steps before the clock starts.
const WARM: u64 = 3;

/// Random rows of the workload: places and image features.
#[derive(Debug)]
pub struct RandomRows {
    places: Vec<Situation>,
    features: RowFeatures,
}

impl RandomRows {
    /// Draws them, `features` numbers in ±1 a row; `None` where the device has no room for them.
    pub fn draw(rows: usize, features: usize, device: &Device) -> Option<Self> {
        let places = random_places(Negatives::Sphere, false, (0, "speed/places", 0), rows);
        let mut values = vec![0f32; rows * features];
        values.par_chunks_mut(features.max(1)).enumerate().for_each(|(row, values)| {
            let mut rng = rng::stream(0, "speed/features", row as u64);
            values.iter_mut().for_each(|value| *value = rng.random::<f32>() * 2.0 - 1.0);
        });
        let features = RowFeatures::hold(values, features, device)?;
        Some(Self { places, features })
    }
}

/// Times steps of pre-training.
pub fn pretrain(rows: &RandomRows, batch: usize, steps: u64, device: &Device) -> Speed {
    let grid =
        PositionEncoder::scaled("space2vec-grid", 32, 0.1, 360.0).expect("the paper's settings are valid");
    let location = LocationConfig { encoder: grid, ..LocationConfig::default() };
    let config = PretrainConfig {
        batch,
        mc: McConfig { tau_batch: 0.07, ..McConfig::PAPER },
        min_steps: WARM + steps,
        max_steps: WARM + steps,
        ..PretrainConfig::default()
    };
    let mut stage = Pretrain::new(&rows.places, rows.features.clone(), &[], &location, &config, 0, device);
    let mut times = Vec::new();
    let mut loss = f64::NAN;
    let mut cpu = None;
    for step in 0..WARM + steps {
        if step == WARM {
            cpu = cpu_seconds();
        }
        let begun = Instant::now();
        if let Ok(done) = stage.step(step) {
            // reading it waits for the device
            loss = f64::from(done.loss.into_scalar::<f32>());
        }
        if step >= WARM {
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    let cpu_s = cpu.zip(cpu_seconds()).map(|(before, after)| (after - before) / steps.max(1) as f64);
    times.sort_by(f64::total_cmp);
    let step_s = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    let (count, features) = (rows.features.len(), rows.features.width());
    let workload = Workload { rows: count, features, batch: batch.min(count), steps };
    Speed { rows_per_s: workload.batch as f64 / step_s, workload, step_s, cpu_s, loss }
}

/// Processor time of this process so far; Linux counts it in hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // the second field is a name in brackets that may hold anything; user and system time are 14 and 15
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_a_step_cannot_do_without() {
        let workload = |batch, features| Workload { rows: 1 << 20, features, batch, steps: 1 };
        // 1024 × 2048 by 2048 × 256 and back, 3072 places through 128 → 512 → 256, nine 1024 × 1024 × 256
        let expected = 2_147_483_648.0 + 3072.0 * 1_048_576.0 + 9.0 * 536_870_912.0;
        assert_eq!(workload(1024, 2048).least_flop(), expected);
        let grid = PositionEncoder::scaled("space2vec-grid", 32, 0.1, 360.0).unwrap();
        let network = LocationConfig { encoder: grid, ..LocationConfig::default() }.network();
        assert_eq!([network.input, network.hidden, network.output], WIDTHS, "the network that is timed");
    }
}
