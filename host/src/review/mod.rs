//! What the traps wrote down.

pub mod firmware_log;
mod sealed;
mod store;
pub mod words;

pub use sealed::{Opened, UnsealError, new_key, open_pictures, read_keys};
pub use store::{ReviewError, Store, StoredSegment};
