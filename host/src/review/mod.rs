//! What the traps wrote down.

mod sealed;
mod store;

pub use sealed::{Opened, UnsealError, new_key, open_pictures, read_keys};
pub use store::{ReviewError, Store, StoredSegment};
