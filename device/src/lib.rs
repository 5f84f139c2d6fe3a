//! How a model runs on a camera trap.
//!
//! | module | does | needs |
//! |---|---|---|
//! | [`gps`] | bytes of a receiver → checked fixes → the best place there is | core |
//! | [`trap`] | trigger → classify → fuse → decide → record, over traits | alloc |
//! | `kernels` | integer arithmetic for each kind of processor; the only `unsafe` | `std` |
//! | `infer` | checks a bundle's networks and runs them | `std` |
//! | `diagnostics` | defmt frames in a bounded ring of files | `std` |
//! | `store` | appends records so that they survive a power cut | `std` |
//! | `receiver` | NMEA from a file, a pipe or a serial port | `std` |
//! | `config` | `trap.toml`: all that a person tells a trap | `std` |
//! | `health` | watchdog, starts, last words: what becomes of a trap that fails | `std` |
//! | `board` | pins, thermometer, battery, camera program, lamp of a Linux board | `std` |
//! | `camera` | takes pictures: V4L2, a program, a folder | `std` |
//! | `privacy` | what becomes of pictures of people, and of places | `std` |
//! | `desk` | a folder as the camera: every picture that appears is a trigger | `std` |
//! | `cli` | `csp-device classify`, `run`, `config`, `selftest`, … | `std` |
//!
//! Without the feature `std` the crate is `no_std` (with `alloc`) and builds for a microcontroller.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod gps;
pub mod trap;

#[cfg(feature = "std")]
pub mod board;
#[cfg(feature = "std")]
pub mod camera;
#[cfg(feature = "std")]
pub mod cli;
#[cfg(feature = "std")]
pub mod config;
#[cfg(feature = "std")]
pub mod desk;
#[cfg(feature = "std")]
pub mod diagnostics;
#[cfg(feature = "std")]
pub mod health;
#[cfg(feature = "std")]
pub mod infer;
#[cfg(feature = "std")]
mod kernels;
#[cfg(feature = "std")]
pub mod privacy;
#[cfg(feature = "std")]
pub mod receiver;
#[cfg(feature = "std")]
pub mod store;
