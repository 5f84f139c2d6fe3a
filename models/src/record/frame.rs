//! A value as bytes that a reader can trust or skip: `COBS(postcard(value) ‖ CRC-32C little-endian) ‖ 0x00`.

use alloc::vec::Vec;

use crc::{CRC_32_ISCSI, Crc};
use serde::{Deserialize, Serialize};

/// Longest frame a reader accepts, bytes: anything longer is damage, not a record.
pub const MAX_FRAME: usize = 1 << 20;

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Damage found while reading a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is not valid COBS, or too short, or too long.
    #[error("not a frame ({length} bytes)")]
    Framing {
        /// Bytes between two delimiters.
        length: usize,
    },
    /// The checksum does not match.
    #[error("checksum mismatch")]
    Checksum,
    /// The checksum matches and the content is not understood.
    #[error("content of another schema: {0}")]
    Schema(postcard::Error),
}

/// A value as one frame, its 0x00 included.
///
/// # Errors
/// Only when a value cannot be serialised (a sequence of unknown length).
pub fn to_frame<T: Serialize>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = postcard::to_allocvec(value)?;
    let crc = CRC32C.checksum(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    let mut frame = cobs::encode_vec(&bytes);
    frame.push(0);
    Ok(frame)
}

/// The value of one frame, given without its 0x00.
///
/// # Errors
/// [`FrameError`] says what is damaged.
pub fn from_frame<T: for<'a> Deserialize<'a>>(frame: &[u8]) -> Result<T, FrameError> {
    let framing = FrameError::Framing { length: frame.len() };
    if frame.len() > MAX_FRAME {
        return Err(framing);
    }
    let Ok(bytes) = cobs::decode_vec(frame) else { return Err(framing) };
    let Some((content, crc)) = bytes.split_last_chunk::<4>() else { return Err(framing) };
    if CRC32C.checksum(content) != u32::from_le_bytes(*crc) {
        return Err(FrameError::Checksum);
    }
    postcard::from_bytes(content).map_err(FrameError::Schema)
}
