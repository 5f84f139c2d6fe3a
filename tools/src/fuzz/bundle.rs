//! Bundles: the archive, the manifest, the digests.

use std::fs;

use csp_models::bundle::Bundle;

use super::Target;

/// A `.cspm` file from anywhere.
pub struct Archive;

impl Target for Archive {
    fn name(&self) -> &'static str {
        "bundle"
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"PK\x01\x02",
            b"PK\x03\x04",
            b"PK\x05\x06",
            b"manifest.json",
            b"../image.onnx",
            b"\"size\":18446744073709551615",
            b"1e999",
            b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            b"\xff\xff\xff\xff",
        ]
    }

    fn run(&self, input: &[u8]) -> String {
        let path = std::env::temp_dir().join(format!("csp-fuzz-{}.cspm", std::process::id()));
        if let Err(error) = fs::write(&path, input) {
            return format!("cannot be tried: {error}");
        }
        let opened = Bundle::open(&path);
        let _ = fs::remove_file(&path);
        match opened {
            Ok(_) => "opened".into(),
            Err(error) => error.to_string().replace(&path.display().to_string(), "bundle"),
        }
    }
}
