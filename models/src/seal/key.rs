//! Keys as text: `age1…` and `AGE-SECRET-KEY-1…`, and the file `age-keygen` writes.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use bech32::{Bech32, Hrp};
use x25519_dalek::{PublicKey, StaticSecret};

use super::SealError;

const PUBLIC: &str = "age";
const SECRET: &str = "age-secret-key-";

/// Text that is no key. It never repeats the text: that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a public key.
    #[error("not a public key: it begins with \"age1\" and has 62 characters, and this has {0}")]
    Public(usize),
    /// A secret key where a public one belongs.
    #[error("this is a secret key; a trap gets the public one, which begins with \"age1\"")]
    SecretGiven,
    /// Not a secret key.
    #[error("line {line}: not a secret key, which begins with \"AGE-SECRET-KEY-1\"")]
    Secret {
        /// Line of the key file, from 1.
        line: usize,
    },
    /// A key file without keys.
    #[error("no secret key in it")]
    None,
}

/// A public key: what a trap seals to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient(pub(super) PublicKey);

/// A secret key: what opens. It never leaves its owner's computer, and `Debug` does not show it.
#[derive(Clone)]
pub struct Identity(pub(super) StaticSecret);

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.to_ascii_lowercase().starts_with(SECRET) {
            return Err(KeyError::SecretGiven);
        }
        let bytes = decode(text, PUBLIC).ok_or_else(|| KeyError::Public(text.chars().count()))?;
        Ok(Self(PublicKey::from(bytes)))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(self.0.as_bytes(), PUBLIC))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.recipient())
    }
}

impl Identity {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| SealError::Random(error.to_string()))?;
        Ok(Self(StaticSecret::from(bytes)))
    }

    /// Its public key.
    pub fn recipient(&self) -> Recipient {
        Recipient(PublicKey::from(&self.0))
    }

    /// `AGE-SECRET-KEY-1…`: for the key file and nowhere else.
    pub fn secret_text(&self) -> String {
        encode(self.0.as_bytes(), SECRET).to_uppercase()
    }

    /// The content of a key file, as `age-keygen` writes it.
    pub fn key_file(&self) -> String {
        format!("# public key: {}\n{}\n", self.recipient(), self.secret_text())
    }

    /// Every key of a key file: one a line, `#` begins a comment.
    ///
    /// # Errors
    /// A line that is no key, or none at all.
    pub fn from_key_file(text: &str) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let bytes = decode(line, SECRET).ok_or(KeyError::Secret { line: at + 1 })?;
                keys.push(Self(StaticSecret::from(bytes)));
            }
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }
}

fn decode(text: &str, hrp: &str) -> Option<[u8; 32]> {
    let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32>(text).ok()?;
    if checked.hrp().to_lowercase() != hrp {
        return None;
    }
    checked.byte_iter().collect::<Vec<u8>>().try_into().ok()
}

fn encode(bytes: &[u8; 32], hrp: &str) -> String {
    // 32 bytes under a constant prefix always encode
    Hrp::parse(hrp).ok().and_then(|hrp| bech32::encode::<Bech32>(hrp, bytes).ok()).unwrap_or_default()
}
