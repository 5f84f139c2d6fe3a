//! Runs the networks of a bundle.
//!
//! Three walls before a network runs: the bundle's digests (`csp_models::bundle`), our own profile
//! check of the ONNX (`profile`), and `catch_unwind` around everything of tract.
//!
//! # What runs where
//! int8 networks of our exporter run on our kernels (`lower`); any node of them that no kernel covers,
//! f32 layers included, runs on tract's operators between them. f32 networks and quantized networks of
//! others (QDQ) run on tract alone; what neither runs is refused with the node's name.
//! `csp-device bench --explain` lists it.
//!
//! # Costs
//! MobileNetV2-1.0 at 224 × 224 (`csp-tools bench infer`; millions of instructions on an emulated
//! Cortex-A53, median milliseconds of one thread on an x86-64 core with AVX-512 that did nothing else):
//!
//! | | A53 a picture | x86 |
//! |---|---|---|
//! | ours, int8 | 122 | 2.9 |
//! | onnxruntime 1.32, int8 (its best: s8 on ARM, u8 on x86) | 131 | 3.4–4.5 |
//! | tract 0.23, f32 | 204 | 20.0 |
//! | onnxruntime 1.32, f32 | 184 | 7.7 |
//!
//! Two threads ([`EngineOptions::threads`]) take 1.63 ms instead of 3.03.
//!
//! A bundle of this network is ready after 30 M instructions on the A53 (tract's f32: 597 M), and after
//! 148 M with a location network of one hidden layer of 512, which tract optimises. Both count SHA-256 at
//! the rate of ARM's instructions for it, which a Raspberry Pi 3 or Zero 2 lacks: there each byte read
//! costs some 50 more, which is why only the files that run are read. The process then holds at most
//! 18 MiB, 28 MiB with the location network, most of it the program's own pages.
//!
//! The location network computes in f32, whatever its weights are stored as: with its products in int8 a place takes 0.31 M instructions instead of
//! 0.46 M on the A53, but 0.05 ms instead of 0.03 on x86, and a trap asks once a place, not once a picture.
//!
//! tract's f32 is close to onnxruntime's on the boards (204 against 184 M instructions) and 2.6 × slower on
//! x86. `perf` of 60 pictures there: 25 % depthwise convolutions, plane by plane and row by row
//! (`depthwise_w_f32`, `contiguous`, `process_zone_any_generic`), 41 % the loops of matrix products, 10 %
//! packing and im2col before them. A kernel of ours in the place of tract's depthwise operator (planes
//! spread by the phase of their stride, one fused multiply-add a tap over 16 outputs, the clip inside) took
//! 16 % instead, 21.1 ms of processor time a picture instead of 22.3: a copy into padded planes costs what
//! the loop gains, and even a free depthwise layer would leave 17. It was not kept. What upstream would
//! need: the depthwise operator and the operators between it and the products channels-last on x86 as on
//! ARM, so that nothing is padded or packed again, and a pick of kernels that fits short products (80 × 2
//! and 16 × 12 tiles serve matrices of 16 to 96 rows here).

mod lower;
mod network;
mod profile;

use std::{borrow::Cow, path::Path, sync::Arc, thread, time::Duration};

use csp_models::{
    bundle::{Bundle, BundleError},
    fusion::{Fusion, Thresholds},
    labels::Labels,
    manifest::{Manifest, NumberFormat, file},
    part::Part,
    picture::{self, PictureError},
    signature::{SignatureError, TrustedKey},
    situation::Situation,
};
pub use lower::Line;
use lower::Target;
use network::Network;
pub use profile::ProfileError;
use profile::{Contract, Dtype};

use crate::{
    kernels::{Kernels, pool::Pool},
    trap::{Classifier, Decoded, View, motion::Grey},
};

/// How a bundle is loaded.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Run `image.f32.onnx` of a bundle whose image network is int8.
    pub prefer_f32: bool,
    /// Leave int8 networks to tract's own operators: slower, for comparison.
    pub plain: bool,
    /// Integer kernels by name, see [`kernel_names`]; `None`: what `CSP_KERNELS` says, or the best.
    pub kernels: Option<&'static str>,
    /// Threads that share an int8 network; 0: as many as the board has cores, see [`cores`]. The answers
    /// do not depend on it. tract's own operators run in one.
    pub threads: usize,
}

impl Default for EngineOptions {
    /// The int8 network if there is one, on the best kernels, in one thread.
    fn default() -> Self {
        Self { prefer_f32: false, plain: false, kernels: None, threads: 1 }
    }
}

impl EngineOptions {
    /// True for the files of a bundle that these options run: no other need be read.
    pub fn runs(&self, manifest: &Manifest, name: &str) -> bool {
        let image = match (manifest.image_format, self.prefer_f32) {
            (NumberFormat::Int8, true) => file::IMAGE_F32,
            _ => file::IMAGE,
        };
        name == image || name == file::LOCATION && manifest.encoder.is_some()
    }
}

/// The integer kernels this processor runs, the best first.
pub fn kernel_names() -> Vec<&'static str> {
    Kernels::available().iter().map(|kernels| kernels.name).collect()
}

/// Cores this process may use; 1 where the system does not say.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A loaded model: both networks ready to run.
#[derive(Debug)]
pub struct Engine {
    manifest: Manifest,
    format: NumberFormat,
    image: Network,
    location: Option<Network>,
}

/// Why a bundle cannot be loaded, or a network did not run.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// A network the manifest promises is absent, or the one asked for is.
    #[error("{file}: the bundle has none")]
    Missing {
        /// File in the bundle.
        file: &'static str,
    },
    /// Not an ONNX file.
    #[error("{file}: not an ONNX file ({reason})")]
    Decode {
        /// File in the bundle.
        file: &'static str,
        /// The decoder's reason.
        reason: String,
    },
    /// An ONNX file outside the profile the device runs.
    #[error("{file}: refused: {source}")]
    Profile {
        /// File in the bundle.
        file: &'static str,
        /// The node and what is wrong with it.
        source: ProfileError,
    },
    /// The engine does not take a network the profile let through.
    #[error("{file}: the engine cannot load it: {reason}")]
    Load {
        /// File in the bundle.
        file: &'static str,
        /// The engine's reason.
        reason: String,
    },
    /// f32 is asked for and the bundle is int8 alone.
    #[error(
        "the bundle holds int8 alone, it was exported with --fallback none: leave --prefer-f32 (in trap.toml \
         `prefer_f32`) out, or export the model again with --fallback f32"
    )]
    NoFallback,
    /// The int8 image network does not load and the f32 one beside it does.
    #[error("{source}; image.f32.onnx of the same bundle loads: pass --prefer-f32 to run that")]
    UseF32 {
        /// Why the int8 network does not load.
        source: Box<InferError>,
    },
    /// A network failed while running.
    #[error("{file}: {reason}")]
    Run {
        /// File in the bundle.
        file: &'static str,
        /// What happened.
        reason: String,
    },
    /// The pixels are not the network's input size.
    #[error("{found} bytes of pixels, {expected} needed (height × width × 3)")]
    Pixels {
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// See [`PictureError`].
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// Why [`Engine::open`] gives no engine.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The files cannot be read or are not those the manifest describes.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It is not signed by who is trusted.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The networks are refused.
    #[error(transparent)]
    Infer(#[from] InferError),
}

impl Engine {
    /// Loads a verified bundle with the default options.
    ///
    /// # Errors
    /// See [`Engine::load_with`].
    pub fn load(bundle: &Bundle) -> Result<Self, InferError> {
        Self::load_with(bundle, EngineOptions::default())
    }

    /// Opens a bundle and loads it; of its files only those that run are read and verified. Returns the
    /// bundle's digest too. With `trust`, one of those keys has to have signed it.
    ///
    /// # Errors
    /// The bundle is damaged ([`OpenError::Bundle`]), nobody's who is trusted ([`OpenError::Signature`]), or
    /// refused, see [`Engine::load_with`].
    pub fn open(
        path: &Path,
        options: EngineOptions,
        trust: &[TrustedKey],
    ) -> Result<([u8; 32], Self), OpenError> {
        let mut bundle = Bundle::open_some(path, |manifest, name| options.runs(manifest, name))?;
        if !trust.is_empty() {
            bundle.verify(trust)?;
        }
        let manifest = bundle.manifest.clone();
        match Self::load_files(manifest, options, &mut |name| bundle.take_file(name).map(Cow::Owned)) {
            Ok(engine) => Ok((bundle.digest, engine)),
            // With every file at hand it can say whether another would do.
            Err(_) => {
                drop(bundle);
                let bundle = Bundle::open(path)?;
                Ok((bundle.digest, Self::load_with(&bundle, options)?))
            }
        }
    }

    /// Loads a verified bundle.
    ///
    /// # Errors
    /// A network is missing, outside the profile, or does not load. An int8 network that fails is
    /// never replaced silently: [`InferError::UseF32`] says that f32 would work.
    pub fn load_with(bundle: &Bundle, options: EngineOptions) -> Result<Self, InferError> {
        let file = &mut |name| bundle.file(name).map(Cow::Borrowed);
        Self::load_files(bundle.manifest.clone(), options, file)
    }

    /// Loads from the files `file` gives; each is let go as soon as it is decoded.
    fn load_files<'b>(
        manifest: Manifest,
        options: EngineOptions,
        file: &mut dyn FnMut(&'static str) -> Option<Cow<'b, [u8]>>,
    ) -> Result<Self, InferError> {
        let classes = manifest.labels.len();
        let kernels = Kernels::select(options.kernels)
            .map_err(|reason| InferError::Load { file: file::IMAGE, reason })?;
        let threads = if options.threads == 0 { cores() } else { options.threads };
        let target = Target { kernels, pool: Arc::new(Pool::new(threads)) };
        let mut image = |name, dtype| {
            let bytes = file(name).ok_or(InferError::Missing { file: name })?;
            let input = vec![1, 3, manifest.input.height as usize, manifest.input.width as usize];
            Network::load(bytes, name, &Contract { dtype, input, classes }, options, &target)
        };
        let (format, image) = match (manifest.image_format, options.prefer_f32) {
            (NumberFormat::F32, _) => (NumberFormat::F32, image(file::IMAGE, Dtype::F32)?),
            (NumberFormat::Int8, true) if !manifest.has_fallback() => return Err(InferError::NoFallback),
            (NumberFormat::Int8, true) => (NumberFormat::F32, image(file::IMAGE_F32, Dtype::F32)?),
            (NumberFormat::Int8, false) => {
                let network = image(file::IMAGE, Dtype::I8).map_err(|error| {
                    match image(file::IMAGE_F32, Dtype::F32) {
                        Ok(_) => InferError::UseF32 { source: Box::new(error) },
                        Err(_) => error,
                    }
                })?;
                (NumberFormat::Int8, network)
            }
        };
        let location = match &manifest.encoder {
            None => None,
            Some(encoder) => {
                let contract = Contract { dtype: Dtype::F32, input: vec![1, encoder.dim()], classes };
                let bytes = file(file::LOCATION).ok_or(InferError::Missing { file: file::LOCATION })?;
                Some(Network::load(bytes, file::LOCATION, &contract, options, &target)?)
            }
        };
        Ok(Self { manifest, format, image, location })
    }

    /// Image logits `[classes]` of pixels `[height, width, 3]`, row by row, red green blue.
    ///
    /// # Errors
    /// Pixels of another size, or the network failed or gave NaN.
    pub fn classify(&self, pixels: &[u8]) -> Result<Vec<f32>, InferError> {
        let input = &self.manifest.input;
        let expected = input.width as usize * input.height as usize * 3;
        if pixels.len() != expected {
            return Err(InferError::Pixels { found: pixels.len(), expected });
        }
        match self.format {
            NumberFormat::F32 => self.image.run(&picture::to_f32(pixels, input)),
            NumberFormat::Int8 => self.image.run(&picture::to_i8(pixels)),
        }
    }

    /// Location logits `[classes]` of a place at a date, before the sigmoid; `None` for an image-only
    /// model. A date that a model with seasons asks for and that is not known counts as the middle of
    /// the year's circle; what is asked of the prior then is
    /// [`fusion::presence`](csp_models::fusion::presence), which averages over the year.
    ///
    /// # Errors
    /// The network failed or gave NaN.
    pub fn location_logits(&self, Situation { at, date }: Situation) -> Result<Option<Vec<f32>>, InferError> {
        let (Some(network), Some(encoder)) = (&self.location, &self.manifest.encoder) else {
            return Ok(None);
        };
        let features: Vec<f32> = encoder.encode(at, date).into_iter().map(|feature| feature as f32).collect();
        network.run(&features).map(Some)
    }

    /// What runs each node of the image network.
    pub fn explain(&self) -> &[Line] {
        &self.image.lines
    }

    /// What runs each node of the location network; empty without one.
    pub fn explain_location(&self) -> &[Line] {
        self.location.as_ref().map_or(&[], |network| &network.lines)
    }

    /// Name of the integer kernels the image network runs on; `None` when tract runs all of it.
    pub fn kernels(&self) -> Option<&'static str> {
        self.image.kernels
    }

    /// Threads that share the image network.
    pub fn threads(&self) -> usize {
        self.image.threads()
    }

    /// Operators of the image network as tract runs it, a region of ours by its steps.
    pub fn operators(&self) -> Vec<String> {
        self.image.operators()
    }

    /// Time of each step of one picture: node, what it is, duration. `None` unless all of the image
    /// network runs in our kernels.
    pub fn step_times(&self, pixels: &[u8]) -> Option<Vec<(String, &'static str, Duration)>> {
        self.image.step_times(&picture::to_i8(pixels))
    }

    /// True when the model has a location network.
    pub fn has_location(&self) -> bool {
        self.location.is_some()
    }

    /// True when the location network looks at the date.
    pub fn is_seasonal(&self) -> bool {
        self.manifest.encoder.as_ref().is_some_and(|encoder| encoder.season())
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Number format the image network runs in.
    pub fn format(&self) -> NumberFormat {
        self.format
    }
}

/// The trap's view of an engine.
impl Classifier for &Engine {
    type Error = InferError;

    fn decode(&mut self, name: &str, file: &[u8], view: View) -> Result<Decoded, InferError> {
        let (path, input) = (Path::new(name), &self.manifest.input);
        if view == View::Frame {
            // decoded once for both
            let frame = picture::decode_for(path, file, input, Part::WHOLE)?;
            return Ok(Decoded { pixels: picture::fit(&frame, input), grey: Grey::of(&frame) });
        }
        let part = if let View::Part(part) = view { part } else { Part::WHOLE };
        Ok(Decoded { pixels: picture::to_input(path, file, input, part)?, grey: None })
    }

    fn image_logits(&mut self, pixels: &[u8]) -> Result<Vec<f32>, InferError> {
        self.classify(pixels)
    }

    fn location_logits(&mut self, situation: Situation) -> Result<Option<Vec<f32>>, InferError> {
        Engine::location_logits(self, situation)
    }

    fn is_seasonal(&self) -> bool {
        Engine::is_seasonal(self)
    }

    fn labels(&self) -> &Labels {
        &self.manifest.labels
    }

    fn fusion(&self) -> &Fusion {
        &self.manifest.fusion
    }

    fn thresholds(&self) -> &Thresholds {
        &self.manifest.thresholds
    }
}
