//! What the traps wrote down.

mod store;

pub use store::{ReviewError, Store, StoredSegment};
