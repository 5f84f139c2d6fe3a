//! The networks `csp-tools bench infer` measures unless others are named, with random weights.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use csp_models::{
    bundle::Bundle,
    manifest::{Manifest, file},
};

use super::location;
use crate::random_bundle::{Backbone, RandomArgs};

/// A bundle and which of its networks is meant.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The bundle.
    pub bundle: PathBuf,
    /// `image` or `location`.
    pub network: &'static str,
}

/// MobileNetV2 of two widths at three sizes, ResNet-18, and the location network in f32 and in int8;
/// made where they are not in `folder` yet.
///
/// # Errors
/// An export fails or the disk is full.
pub fn standard(folder: &Path) -> Result<Vec<Entry>> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut entries = Vec::new();
    let mut image = |name: String, backbone, width, side, location| -> Result<PathBuf> {
        let output = folder.join(name);
        if !output.exists() {
            let args = RandomArgs {
                backbone,
                width,
                side,
                classes: 1000,
                calibration: 16,
                location,
                no_fallback: false,
                output: output.clone(),
            };
            crate::random_bundle::run(&args)?;
        }
        entries.push(Entry { bundle: output.clone(), network: "image" });
        Ok(output)
    };
    for width in [0.35, 1.0] {
        for side in [96, 160, 224] {
            image(format!("mobilenet-v2-{width}-{side}.cspm"), Backbone::MobilenetV2, width, side, None)?;
        }
    }
    image("resnet-18-224.cspm".into(), Backbone::ResNet18, 1.0, 224, None)?;
    // a whole bundle, as a trap carries it
    let full = image("full.cspm".into(), Backbone::MobilenetV2, 1.0, 224, Some(512))?;
    let int8 = folder.join("location-int8.cspm");
    if !int8.exists() {
        let read = Bundle::open(&full)?;
        let onnx = |name: &str| read.file(name).map(<[u8]>::to_vec).context("the bundle is not whole");
        let files = BTreeMap::from([
            (file::IMAGE.to_string(), onnx(file::IMAGE)?),
            (file::IMAGE_F32.to_string(), onnx(file::IMAGE_F32)?),
            (file::LOCATION.to_string(), location::quantized(&onnx(file::LOCATION)?)?),
        ]);
        let manifest = Manifest { name: "location in int8".into(), ..read.manifest.clone() };
        Bundle::assemble(manifest, files)?.write(&int8)?;
    }
    entries.push(Entry { bundle: full, network: "location" });
    entries.push(Entry { bundle: int8, network: "location" });
    Ok(entries)
}
