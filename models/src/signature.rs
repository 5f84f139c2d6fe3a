//! Who made a model: a minisign signature over `manifest.json`, which lists the digest of every other file.
//!
//! The format is that of the `minisign` tool (prehashed Ed25519), which verifies it as well:
//! `minisign -V -P KEY -m manifest.json`.

use std::{fmt, str::FromStr};

use minisign_verify::{Error, PublicKey, Signature};

/// A public key whose models are trusted: what stands in the second line of a minisign `.pub` file.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustedKey {
    text: String,
    key: PublicKey,
}

/// Why a model is not taken for a trusted maker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a public key.
    #[error("\"{text}\" is no minisign public key (RW…, the second line of the .pub file)")]
    Key {
        /// What was given.
        text: String,
    },
    /// No signature where there has to be one.
    #[error("the model is not signed; sign it with `csp-host model sign`")]
    Unsigned,
    /// The signature's file is no signature.
    #[error("manifest.json.minisig is no minisign signature")]
    Malformed,
    /// Signed, by somebody else.
    #[error("the model is signed by a key that is not among the trusted ones")]
    Foreign,
    /// Signed by a trusted key, and changed since.
    #[error("the signature does not fit the manifest: the model was altered after it was signed")]
    Altered,
}

impl FromStr for TrustedKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let text = text.trim().to_string();
        match PublicKey::from_base64(&text) {
            Ok(key) => Ok(Self { text, key }),
            Err(_) => Err(SignatureError::Key { text }),
        }
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedKey({})", self.text)
    }
}

/// The signature's trusted comment, if one of `keys` made it over these bytes of a manifest.
///
/// # Errors
/// [`SignatureError`]; a signature of the older kind, over the bytes themselves, is malformed here.
pub(crate) fn verify(
    manifest: &[u8],
    signature: Option<&str>,
    keys: &[TrustedKey],
) -> Result<String, SignatureError> {
    let signature = signature.ok_or(SignatureError::Unsigned)?;
    let signature = Signature::decode(signature).map_err(|_| SignatureError::Malformed)?;
    let mut why = SignatureError::Foreign;
    for trusted in keys {
        match trusted.key.verify(manifest, &signature, false) {
            Ok(()) => return Ok(signature.trusted_comment().into()),
            Err(Error::UnexpectedKeyId) => {}
            Err(Error::InvalidSignature) => why = SignatureError::Altered,
            Err(_) => why = SignatureError::Malformed,
        }
    }
    Err(why)
}
