//! The location network's form in an int8 bundle: weights as bytes where that changes no answer that
//! counts, else f32. Measured at each export, on the places of the hold-out and all over the globe.

use csp_device::infer::Engine;
use csp_models::{
    bundle::Bundle, fusion, labels::ClassId, manifest::LocationReport, place::LatLon, situation::Situation,
    time::YearFraction,
};

use super::{
    Options, TrainedModel,
    error::ExportError,
    gate::Gate,
    graph::Graph,
    quantize::{GOOD_ENOUGH_DB, snr_db},
    stored::{self, Layers},
};
use crate::features::presence_of;

/// Places all over the globe that the logits are compared at.
const PLACES: usize = 512;

/// One labelled picture of the hold-out that has a place.
pub(super) struct Placed<'a> {
    /// Where and when.
    pub at: Situation,
    /// What is there.
    pub class: ClassId,
    /// What the image network that the bundle holds says, `[classes]`.
    pub image: &'a [f32],
}

/// The smallest form that keeps within the budget of `options`, by itself and with the image; `None`
/// where only f32 does. `engine` puts a location network into a bundle and loads that.
///
/// # Errors
/// The engine refuses or fails.
pub(super) fn form(
    model: &TrainedModel,
    graph: &Graph,
    placed: &[Placed<'_>],
    options: &Options,
    bundle: impl Fn(&Graph) -> Result<Bundle, ExportError>,
) -> Result<Option<(Graph, LocationReport)>, ExportError> {
    let measure = |graph: &Graph| said(&bundle(graph)?, placed);
    let exact = measure(graph)?;
    let mut tried = 0;
    for layers in [Layers::All, Layers::BehindFeatures] {
        let (small, count) = stored::stored(graph, layers);
        // nothing to store, or no more than was tried
        if count == 0 || count == tried {
            continue;
        }
        tried = count;
        let found = measure(&small)?;
        let (fits, report) = compare(model, placed, options, &exact, &found, count as u32);
        if fits {
            return Ok(Some((small, report)));
        }
    }
    Ok(None)
}

/// What a location network says.
struct Said {
    /// Logits at places all over the globe, `[places][classes]`.
    anywhere: Vec<Vec<f32>>,
    /// Presence scores of the hold-out, `[pictures][classes]`.
    presence: Vec<Vec<f64>>,
}

fn said(bundle: &Bundle, placed: &[Placed<'_>]) -> Result<Said, ExportError> {
    let refused = |reason: String| ExportError::Engine { network: "location".into(), reason };
    let engine = Engine::load(bundle).map_err(|error| refused(error.to_string()))?;
    let ask = |places: &[Situation]| -> Result<Vec<Vec<f32>>, ExportError> {
        let logits = places.iter().map(|&at| match engine.location_logits(at) {
            Ok(Some(logits)) => Ok(logits),
            Ok(None) => Err(refused("the bundle has no location network".into())),
            Err(error) => Err(refused(error.to_string())),
        });
        logits.collect()
    };
    let places: Vec<Situation> = placed.iter().map(|placed| placed.at).collect();
    let presence = presence_of(&bundle.manifest.labels, engine.is_seasonal(), &places, ask)?;
    Ok(Said { anywhere: ask(&anywhere())?, presence })
}

/// Places evenly all over the globe (a Fibonacci lattice), the dates evenly over the year.
fn anywhere() -> Vec<Situation> {
    let golden = (1.0 + 5f64.sqrt()) / 2.0;
    let place = |i: usize| {
        let lat = (1.0 - (2.0 * i as f64 + 1.0) / PLACES as f64).asin().to_degrees();
        let lon = 360.0 * (i as f64 / golden).fract() - 180.0;
        let date = YearFraction::new((i as f64 * 2f64.sqrt()).fract());
        LatLon::new(lat, lon).ok().map(|at| Situation::new(at, date))
    };
    (0..PLACES).filter_map(place).collect()
}

/// Whether a form keeps within the budget, and the figures.
fn compare(
    model: &TrainedModel,
    placed: &[Placed<'_>],
    options: &Options,
    exact: &Said,
    found: &Said,
    layers: u32,
) -> (bool, LocationReport) {
    let truth: Vec<Option<ClassId>> = placed.iter().map(|placed| Some(placed.class)).collect();
    let alone = |said: &Said| said.presence.iter().map(|scores| narrow(scores)).collect::<Vec<_>>();
    let fused = |said: &Said| {
        let fuse = |(placed, scores): (&Placed<'_>, &Vec<f64>)| {
            narrow(&model.fusion.fuse(placed.image, scores, 0.0))
        };
        placed.iter().zip(&said.presence).map(fuse).collect::<Vec<_>>()
    };
    let gate = |before: &[Vec<f32>], after: &[Vec<f32>]| {
        Gate::of(&model.labels, &truth, before, after, options.budget)
    };
    let gates = [gate(&alone(exact), &alone(found)), gate(&fused(exact), &fused(found))];
    let snr_db = snr_db(&exact.anywhere, &found.anywhere);
    let score = |logit: &f32| fusion::sigmoid(f64::from(*logit));
    let pairs = exact.anywhere.iter().flatten().zip(found.anywhere.iter().flatten());
    let largest = pairs.map(|(a, b)| (score(a) - score(b)).abs()).fold(0.0, f64::max);
    let share = |gate: &Option<Gate>, of: fn(&Gate) -> f64| gate.as_ref().map(of);
    let report = LocationReport {
        layers,
        compared: placed.len() as u32,
        top1_f32: share(&gates[0], |gate| gate.top1.f32),
        top1_int8: share(&gates[0], |gate| gate.top1.int8),
        fused_f32: share(&gates[1], |gate| gate.top1.f32),
        fused_int8: share(&gates[1], |gate| gate.top1.int8),
        largest_difference: largest,
        snr_db,
    };
    (snr_db >= GOOD_ENOUGH_DB && gates.iter().flatten().all(Gate::passes), report)
}

/// For the gate, which asks only which class is best.
fn narrow(scores: &[f64]) -> Vec<f32> {
    scores.iter().map(|&score| score as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_all_over_the_globe() {
        let places = anywhere();
        assert_eq!(places.len(), PLACES);
        // as many in each eighth, to one in ten
        for octant in 0..8 {
            let inside = |place: &&Situation| {
                let (lat, lon) = (place.at.lat(), place.at.lon());
                usize::from(lat > 0.0) * 4 + ((lon + 180.0) / 90.0) as usize % 4 == octant
            };
            let count = places.iter().filter(inside).count();
            assert!((58..=70).contains(&count), "{octant}: {count}");
        }
        let spring = places.iter().filter(|place| place.date.is_some_and(|date| date.value() < 0.25)).count();
        assert!((116..=140).contains(&spring), "{spring}");
    }
}
