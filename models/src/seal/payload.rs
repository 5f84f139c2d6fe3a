//! The content of an age file: STREAM over ChaCha20-Poly1305, chunks of 64 KiB, the last one marked.

use alloc::vec::Vec;

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead};

use super::{FILE_KEY, SealError, hkdf::derive};

/// Length of the nonce before the chunks.
pub(super) const NONCE: usize = 16;
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;

/// Appends the nonce and the encrypted chunks; nothing becomes one empty chunk.
pub(super) fn write(
    file_key: &[u8; FILE_KEY],
    nonce: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SealError> {
    let cipher = cipher(file_key, nonce);
    out.reserve(NONCE + plain.len() + TAG * (plain.len() / CHUNK + 1));
    out.extend_from_slice(nonce);
    let last = plain.len().div_ceil(CHUNK).max(1) - 1;
    for at in 0..=last {
        let end = ((at + 1) * CHUNK).min(plain.len());
        let chunk = plain.get(at * CHUNK..end).unwrap_or_default();
        let sealed = cipher.encrypt(&counter(at, at == last).into(), chunk);
        out.extend_from_slice(&sealed.map_err(|_| SealError::Damaged)?);
    }
    Ok(())
}

/// The content, every chunk proved.
pub(super) fn read(file_key: &[u8; FILE_KEY], payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let (nonce, sealed) = payload.split_first_chunk::<NONCE>().ok_or(SealError::Damaged)?;
    let cipher = cipher(file_key, nonce);
    let chunks = sealed.chunks(CHUNK + TAG);
    let count = chunks.len();
    let mut out = Vec::with_capacity(sealed.len());
    for (at, chunk) in chunks.enumerate() {
        let last = at + 1 == count;
        let plain = cipher.decrypt(&counter(at, last).into(), chunk).map_err(|_| SealError::Damaged)?;
        // the format allows an empty chunk only as the one of an empty file
        if plain.is_empty() && at > 0 {
            return Err(SealError::Damaged);
        }
        out.extend_from_slice(&plain);
    }
    if count == 0 { Err(SealError::Damaged) } else { Ok(out) }
}

fn cipher(file_key: &[u8; FILE_KEY], nonce: &[u8]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&derive(file_key, nonce, b"payload").into())
}

/// Eleven bytes of a big-endian count and one that marks the last chunk.
fn counter(at: usize, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&(at as u64).to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}
