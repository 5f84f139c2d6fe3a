//! A closer look: the part of a burst that moved, classified by itself.

use alloc::{string::ToString, vec::Vec};

use csp_models::part::Part;

use super::{
    Classifier, Clock, Kit, Trap, View,
    motion::{Grey, moving},
    work::{Work, millis},
};

/// The part that moved.
#[derive(Debug)]
pub(super) struct Closer {
    /// The frame of the burst in which it is seen best.
    pub frame: usize,
    pub part: Part,
    /// What the image network says of it.
    pub logits: Vec<f32>,
}

impl<K: Kit> Trap<K> {
    /// Looks for what moved in a burst whose frames are all classified, and classifies it. A part that cannot
    /// be looked at is no fault of the picture: then the whole frame decides, as without motion.
    pub(super) fn look_closer(&mut self, work: &mut Work) {
        let start = self.clock.monotonic_us();
        let (frames, greys): (Vec<usize>, Vec<Grey>) =
            work.seen.iter_mut().filter_map(|seen| Some((seen.frame, seen.grey.take()?))).unzip();
        let motion = moving(&greys).and_then(|motion| Some((*frames.get(motion.frame)?, motion.part)));
        drop(greys);
        work.closer = motion.and_then(|(at, part)| {
            let frame = work.burst.frames.get(at)?;
            let (file, Ok(model)) = (frame.file()?, &mut self.model) else { return None };
            let decoded = model.classifier.decode(&frame.name, file, View::Part(part)).ok()?;
            let between = self.clock.monotonic_us();
            let logits = match model.classifier.image_logits(&decoded.pixels) {
                Ok(logits) => logits,
                Err(error) => {
                    let problem = error.to_string();
                    self.model_problem(problem);
                    return None;
                }
            };
            let seen = work.seen.iter_mut().find(|seen| seen.frame == at)?;
            seen.latency.decode_ms += millis(start, between);
            seen.latency.image_ms += millis(between, self.clock.monotonic_us());
            Some(Closer { frame: at, part, logits })
        });
        work.burst.spent.inference_us += self.clock.monotonic_us().saturating_sub(start);
        work.looked = true;
    }
}
