//! Segments of a store, and single records.

use super::Target;

/// What a card may hold after any accident.
pub struct Record;

impl Target for Record {
    fn name(&self) -> &'static str {
        "record"
    }

    fn run(&self, input: &[u8]) -> String {
        if let Err(problem) = csp_device::store::fuzz(input) {
            panic!("{problem}");
        }
        let read = csp_models::record::read_segment(input);
        format!("{} whole, {:?}", read.entries.len(), read.damaged.first().map(|(_, error)| error))
    }
}
