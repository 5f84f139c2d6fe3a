//! The header of an age file: the file's key, wrapped for each recipient, and a MAC over all of it.

use alloc::{format, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead};
use x25519_dalek::{PublicKey, StaticSecret};

use super::{
    FILE_KEY, Identity, Recipient, SealError,
    hkdf::{derive, hmac},
};

/// The first line.
pub(super) const VERSION: &[u8] = b"age-encryption.org/v1\n";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";
/// A wrapped file key: the key and its tag.
const WRAPPED: usize = FILE_KEY + 16;
/// Longest header read, bytes; one recipient takes 150.
const MAX_HEADER: usize = 64 << 10;

/// A header as read.
#[derive(Debug)]
pub(super) struct Header<'a> {
    /// Ephemeral public key and wrapped file key of each X25519 recipient.
    stanzas: Vec<([u8; 32], [u8; WRAPPED])>,
    /// What the MAC covers.
    covered: &'a [u8],
    mac: Vec<u8>,
    /// Everything after the header.
    pub payload: &'a [u8],
}

/// The header for one recipient.
pub(super) fn write(
    to: &Recipient,
    file_key: &[u8; FILE_KEY],
    ephemeral: [u8; 32],
) -> Result<Vec<u8>, SealError> {
    let secret = StaticSecret::from(ephemeral);
    let share = PublicKey::from(&secret);
    let wrap = wrap_key(&secret, &to.0, &share, &to.0)?;
    // every wrap key is used once, so age fixes the nonce at zero
    let body = wrap.encrypt(&[0; 12].into(), &file_key[..]).map_err(|_| SealError::WeakKey)?;
    let mut out = VERSION.to_vec();
    out.extend_from_slice(
        format!("-> X25519 {}\n{}\n---", BASE64.encode(share.as_bytes()), BASE64.encode(body)).as_bytes(),
    );
    let mac = mac(file_key, &out);
    out.extend_from_slice(format!(" {}\n", BASE64.encode(mac)).as_bytes());
    Ok(out)
}

/// Reads a header; recipients of other kinds are passed over.
pub(super) fn read(file: &[u8]) -> Result<Header<'_>, SealError> {
    if file.starts_with(b"-----BEGIN AGE") {
        return Err(SealError::Format("it is armored text; `age -d` reads it"));
    }
    if !file.starts_with(VERSION) {
        return Err(SealError::Format("it does not begin with age-encryption.org/v1"));
    }
    let mut at = VERSION.len();
    let mut stanzas = Vec::new();
    let mut share: Option<[u8; 32]> = None;
    let within = file.get(..file.len().min(MAX_HEADER)).unwrap_or(file);
    loop {
        let rest = within.get(at..).unwrap_or_default();
        let end =
            rest.iter().position(|&byte| byte == b'\n').ok_or(SealError::Format("its header is cut"))?;
        let line = core::str::from_utf8(rest.get(..end).unwrap_or_default())
            .map_err(|_| SealError::Format("its header is not text"))?;
        if let Some(mac) = line.strip_prefix("--- ") {
            let mac = BASE64.decode(mac).map_err(|_| SealError::Format("its MAC is not base64"))?;
            let covered = file.get(..at + 3).unwrap_or_default();
            return Ok(Header {
                stanzas,
                covered,
                mac,
                payload: file.get(at + end + 1..).unwrap_or_default(),
            });
        }
        if let Some(stanza) = line.strip_prefix("-> ") {
            let mut words = stanza.split(' ');
            share = match (words.next(), words.next(), words.next()) {
                (Some("X25519"), Some(share), None) => {
                    BASE64.decode(share).ok().and_then(|s| s.try_into().ok())
                }
                _ => None,
            };
        } else if let Some(share) = share.take()
            && let Some(body) = BASE64.decode(line).ok().and_then(|body| body.try_into().ok())
        {
            stanzas.push((share, body));
        }
        at += end + 1;
    }
}

impl Header<'_> {
    /// The file's key, unwrapped with one of `keys`, the header proved by it.
    pub fn file_key(&self, keys: &[Identity]) -> Result<[u8; FILE_KEY], SealError> {
        let unwrapped = keys.iter().find_map(|key| {
            self.stanzas.iter().find_map(|(share, body)| {
                let share = PublicKey::from(*share);
                let wrap = wrap_key(&key.0, &share, &share, &key.recipient().0).ok()?;
                let file_key = wrap.decrypt(&[0; 12].into(), &body[..]).ok()?;
                file_key.try_into().ok()
            })
        });
        let file_key: [u8; FILE_KEY] = unwrapped.ok_or(SealError::NoKey)?;
        // no secret is guessed by timing here: whoever asks holds the key
        if mac(&file_key, self.covered) == self.mac[..] { Ok(file_key) } else { Err(SealError::Damaged) }
    }
}

fn wrap_key(
    secret: &StaticSecret,
    public: &PublicKey,
    share: &PublicKey,
    recipient: &PublicKey,
) -> Result<ChaCha20Poly1305, SealError> {
    let shared = secret.diffie_hellman(public);
    if !shared.was_contributory() {
        return Err(SealError::WeakKey);
    }
    let salt = [*share.as_bytes(), *recipient.as_bytes()].concat();
    let key = derive(shared.as_bytes(), &salt, INFO);
    Ok(ChaCha20Poly1305::new(&key.into()))
}

fn mac(file_key: &[u8; FILE_KEY], covered: &[u8]) -> [u8; 32] {
    hmac(&derive(file_key, &[], b"header"), &[covered])
}
