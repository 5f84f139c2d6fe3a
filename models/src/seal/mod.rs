//! Encryption at rest to the owner's public key: age files (age-encryption.org/v1), X25519 recipients.
//!
//! | file | holds |
//! |---|---|
//! | this one | sealing and opening; what of a record is sealed |
//! | `key` | public and secret keys as text, the key file |
//! | `header` | the file's header: who may open it |
//! | `hkdf` | how keys are derived |
//! | `payload` | its content, in chunks of 64 KiB that cannot be reordered or cut |
//!
//! A trap holds the public key alone: who steals it reads neither places nor pictures. The files are
//! those of the `age` and `rage` tools, which open them with the same key. This is the format on audited
//! primitives (x25519-dalek, chacha20poly1305), not the `age` crate: that brings scrypt, post-quantum keys
//! and translations, 62 crates more, where the primitives bring 8.

mod header;
mod hkdf;
mod key;
mod payload;

use alloc::{string::String, vec::Vec};

pub use key::{Identity, KeyError, Recipient};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};

use crate::{
    place::Place,
    record::{Entry, Event},
};

/// Length of the key that encrypts one file.
const FILE_KEY: usize = 16;

/// Why something cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// Not an age file of version 1, or its header is damaged.
    #[error("not an age file: {0}")]
    Format(&'static str),
    /// Sealed to other keys than those given.
    #[error("none of the given keys opens it: it was sealed to another one")]
    NoKey,
    /// Header or content changed since it was sealed, or was cut.
    #[error("damaged or cut after it was sealed")]
    Damaged,
    /// The key in question cannot be used (it is of low order).
    #[error("the public key is not one that can be sealed to")]
    WeakKey,
    /// What was opened is not what was expected.
    #[error("opened, but it holds something else than expected")]
    Content,
}

/// Encrypts bytes so that only the recipient's secret key opens them.
///
/// # Errors
/// The system gives no random numbers, or the public key is unusable.
pub fn seal(to: &Recipient, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut random = [0; FILE_KEY + 32 + payload::NONCE];
    getrandom::fill(&mut random).map_err(|error| SealError::Random(alloc::format!("{error}")))?;
    seal_with(to, plain, &random)
}

fn seal_with(
    to: &Recipient,
    plain: &[u8],
    random: &[u8; FILE_KEY + 32 + payload::NONCE],
) -> Result<Vec<u8>, SealError> {
    let Some((file_key, rest)) = random.split_first_chunk::<FILE_KEY>() else {
        return Err(SealError::WeakKey);
    };
    let Some((ephemeral, nonce)) = rest.split_first_chunk::<32>() else { return Err(SealError::WeakKey) };
    let mut out = header::write(to, file_key, *ephemeral)?;
    payload::write(file_key, nonce, plain, &mut out)?;
    Ok(out)
}

/// Decrypts an age file with whichever of the secret keys fits.
///
/// # Errors
/// [`SealError`]: another file, another key, or damage.
pub fn open(keys: &[Identity], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let header = header::read(sealed)?;
    let file_key = header.file_key(keys)?;
    payload::read(&file_key, header.payload)
}

/// True for what begins as an age file.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(header::VERSION)
}

/// A place as a record's `sealed` bytes.
///
/// # Errors
/// Those of [`seal`].
pub fn seal_place(to: &Recipient, place: &Place) -> Result<Vec<u8>, SealError> {
    let plain = postcard::to_allocvec(place).map_err(|_| SealError::Content)?;
    seal(to, &plain)
}

/// The place of a record's `sealed` bytes.
///
/// # Errors
/// Those of [`open`], and content that is no place.
pub fn open_place(keys: &[Identity], sealed: &[u8]) -> Result<Place, SealError> {
    postcard::from_bytes(&open(keys, sealed)?).map_err(|_| SealError::Content)
}

/// What a note begins with that is a sealed event.
const SEALED_EVENT: &str = "sealed:";

/// An event that names a place, as the text of a note: its kind, and the event encrypted, in base64.
///
/// # Errors
/// Those of [`seal`].
pub fn seal_event(to: &Recipient, event: &Event) -> Result<String, SealError> {
    let plain = postcard::to_allocvec(event).map_err(|_| SealError::Content)?;
    Ok(alloc::format!("{SEALED_EVENT}{}:{}", event.kind(), BASE64.encode(seal(to, &plain)?)))
}

/// The event of such a note; `None` for any other text.
pub fn open_event(keys: &[Identity], text: &str) -> Option<Result<Event, SealError>> {
    let (_, sealed) = text.strip_prefix(SEALED_EVENT)?.split_once(':')?;
    let sealed = BASE64.decode(sealed).ok()?;
    Some(open(keys, &sealed).and_then(|plain| postcard::from_bytes(&plain).map_err(|_| SealError::Content)))
}

/// Puts back what was sealed in an entry: its place, or the event. True when something was.
///
/// # Errors
/// Those of [`open`]; the entry stays as it is.
pub fn open_entry(keys: &[Identity], entry: &mut Entry) -> Result<bool, SealError> {
    let (place, sealed) = match entry {
        Entry::Prediction(record) => (&mut record.place, &mut record.sealed),
        Entry::Failure(record) => (&mut record.place, &mut record.sealed),
        Entry::Event(record) => {
            let Event::Note { text } = &record.event else { return Ok(false) };
            let Some(event) = open_event(keys, text) else { return Ok(false) };
            record.event = event?;
            return Ok(true);
        }
    };
    let Some(bytes) = sealed else { return Ok(false) };
    *place = Some(open_place(keys, bytes)?);
    *sealed = None;
    Ok(true)
}

#[cfg(test)]
mod tests;
