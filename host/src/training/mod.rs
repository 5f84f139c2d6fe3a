//! How a model is trained: `backbone` → `features` → `probe` → `pretrain` → `finetune` → `calibrate`.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | every setting, with its default |
//! | [`roles`] | which row may teach what: labels that are not granted are not there |
//! | [`losses`], [`sampler`] | the mathematics, with golden values |
//! | `pipeline`, `image`, `location`, `joint`, `modulation` | the stages in their order, and what passes from one to the next |
//! | `pseudo_labels` | what the image network sees in pictures without labels |
//! | `row_features`, `standard` | picture features as a step looks at them |
//! | `stages` | what learns: a state and a step each |
//! | `runner` | runs a stage: checkpoints, metrics, progress, interruption, loss watch |
//! | `guard` | what a device that fails leaves |
//! | [`torch_file`] | checkpoints of torch, read without running them |
//! | `grad_cache` | large batches of pictures in the memory of small ones |
//! | `weights`, `optim`, `init`, [`mod@rng`] | tensors by name, AdamW, first weights, streams of random numbers |
//! | [`published`] | weights of torchvision and timm |
//! | `location_weights` | the location network that training begins with |
//! | [`run_dir`] | the run on disk |
//! | [`device`], [`self_check`] | which processor, and whether it computes what the CPU does |
//! | [`speed`] | how fast a step is |
//! | [`runs`] | runs listed and compared |
//! | [`calibrate`] | the fusion's parameters |
//! | [`model`] | the result |
//! | [`mod@add_class`], [`added_records`] | a class more, from few records, on a finished run; what is kept of them |
//! | `logistic` | the regression that fits it |
//!
//! On the CPU a run is a pure function of data, configuration and seed, interrupted or not.

pub mod add_class;
pub mod added_records;
pub mod calibrate;
pub mod config;
pub mod device;
mod error;
mod grad_cache;
pub(crate) mod guard;
mod image;
mod init;
mod joint;
mod location;
mod location_weights;
mod logistic;
pub mod losses;
mod model;
mod modulation;
mod optim;
mod pipeline;
mod pseudo_labels;
pub mod published;
pub(crate) mod rng;
pub mod roles;
mod row_features;
pub mod run_dir;
mod runner;
pub mod runs;
pub mod sampler;
pub mod self_check;
pub mod speed;
mod staged;
mod stages;
mod standard;
pub mod torch_file;
pub mod weights;

pub use config::TrainConfig;
pub use device::{Chosen, choose as choose_device};
pub use error::TrainError;
pub use model::TrainedModel;
pub use pipeline::{Summary, TrainOptions, train};
pub use roles::{Role, RowRoles, TrainingSet};
pub use run_dir::RunDir;
pub use stages::PlaceFit;
pub(crate) use stages::place_rows;
