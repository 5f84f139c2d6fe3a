//! Photographs: headers, EXIF, reduced decoding, tagging.

use std::path::Path;

use csp_models::picture;

use super::Target;

/// What a camera's memory may hold.
pub struct Picture;

impl Target for Picture {
    fn name(&self) -> &'static str {
        "picture"
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"\xff\xd8",
            b"\xff\xd9",
            b"\xff\xc0\x00\x11\x08",
            b"\xff\xc2",
            b"\xff\xda",
            b"\xff\xdb",
            b"\xff\xe1",
            b"Exif\0\0",
            b"\xff\xff\xff\xff",
        ]
    }

    fn run(&self, input: &[u8]) -> String {
        picture::fuzz_picture(input);
        match picture::decode(Path::new("picture"), input) {
            Ok(_) => "decoded".into(),
            Err(error) => error.to_string(),
        }
    }
}
