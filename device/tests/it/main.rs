//! The device crate from outside: against onnxruntime, gpsd, damaged files and restarts.

mod captures;
mod cli;
mod engine;
mod field;
mod fixture;
mod foreign;
mod private;
mod week;
