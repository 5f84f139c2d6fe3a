//! Training.
pub mod config;
mod error;
mod init;
pub mod losses;
mod optim;
mod progress;
pub(crate) mod rng;
mod roles;
mod run_dir;
mod runner;
pub mod sampler;
mod weights;

pub use error::TrainError;
pub use progress::{Progress, Voice};
