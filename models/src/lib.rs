//! What a CSP model *is*, shared by the host that makes it and the device that runs it.
//!
//! | module | holds | needs |
//! |---|---|---|
//! | [`place`] | validated coordinates and where they came from | core |
//! | [`encoder`] | position features of a place, in f64 | core |
//! | [`time`] | timestamps that say which clock they are from | core |
//! | [`situation`] | a place at a time of the year | alloc |
//! | [`labels`] | classes and their taxonomy | alloc |
//! | [`groups`] | which classes are people, vehicles, empty frames | alloc |
//! | [`allowed`] | the species that can occur at a site | alloc |
//! | [`fusion`] | `P(y|image) · P(y|place)` and the decision made on it | alloc |
//! | [`record`] | what a trap writes down, and its framing on disk | alloc |
//! | [`part`] | a part of a picture, as shares of it | core |
//! | [`manifest`] | what a model bundle says about itself | alloc |
//! | `bundle` | reading and writing bundles, every digest checked | `std` |
//! | `signature` | who made a bundle | `std` |
//! | `picture` | decoding, orienting, resizing photographs | `picture` |
//! | `seal` | places and pictures encrypted to their owner's key | `seal` |
//! | `nn` | the networks, as burn modules | `burn` |
//!
//! Without features the crate is `no_std` (with `alloc`): the same code computes position
//! features, fuses and frames records on a microcontroller, on the board and on the host.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod allowed;
pub mod encoder;
pub mod fusion;
pub mod groups;
pub mod labels;
pub mod manifest;
pub mod part;
pub mod place;
pub mod record;
pub mod situation;
pub mod time;

#[cfg(feature = "std")]
pub mod bundle;
#[cfg(feature = "burn")]
pub mod nn;
#[cfg(feature = "picture")]
pub mod picture;
#[cfg(feature = "seal")]
pub mod seal;
#[cfg(feature = "std")]
pub mod signature;
#[cfg(feature = "tiff")]
mod tile;
