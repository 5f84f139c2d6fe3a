//! The host crate from outside: runs, sweeps, heads and seasons, on small synthetic data sets.

mod evaluation;
mod heads;
mod season;
mod training;
