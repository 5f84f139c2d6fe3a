//! What a prediction rests on, as one line of text.

use alloc::{format, string::String};

use super::PredictionRecord;
use crate::fusion::Decision;

impl PredictionRecord {
    /// Every step between picture and decision: `image+live_fix`, then `crop` where the moving part
    /// decided, `allow_list` where a winner was set aside, `rollup:genus` or `abstain`, joined by `;`.
    pub fn basis(&self) -> String {
        let mut basis = String::from(self.provenance.as_str());
        let mut add = |step: &str| {
            basis.push(';');
            basis.push_str(step);
        };
        if self.crop.as_ref().is_some_and(|crop| crop.decides) {
            add("crop");
        }
        if self.set_aside.is_some() {
            add("allow_list");
        }
        match &self.decision {
            Decision::Class { .. } => {}
            Decision::RollUp { rank, .. } => add(&format!("rollup:{rank}")),
            Decision::Abstain => add("abstain"),
        }
        basis
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, tests::prediction};
    use crate::fusion::Decision;

    #[test]
    fn names_every_step() {
        let Entry::Prediction(mut record) = prediction(0, 1.0, "a.jpg") else { unreachable!() };
        assert_eq!(record.basis(), "image+configured_site;abstain");
        record.set_aside = record.candidates.first().cloned();
        record.decision = Decision::RollUp { rank: "genus".into(), name: "Lynx".into(), probability: 0.9 };
        assert_eq!(record.basis(), "image+configured_site;allow_list;rollup:genus");
    }
}
