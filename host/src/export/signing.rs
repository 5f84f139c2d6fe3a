//! Signing bundles with minisign keys.

use std::{
    fs,
    io::{self, Cursor},
    path::{Path, PathBuf},
};

use csp_models::bundle::{Bundle, hex};
use minisign::{KeyPair, PublicKey, SecretKeyBox};

use crate::secret_file;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The key's file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Not a secret key that can be used here.
    #[error("{path}: {reason}; a key of `csp-host keys new --sign FILE` is needed (one without a password)", path = .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Makes a secret key without a password in a new file that only its owner may read; gives the public key.
///
/// # Errors
/// The file exists already, or cannot be written.
pub fn new_key(path: &Path) -> Result<String, SigningError> {
    let refuse = |error: minisign::PError| SigningError::Key { path: path.into(), reason: error.to_string() };
    let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().map_err(refuse)?;
    let text = sk.to_box(Some("csp model signing key")).map_err(refuse)?.into_string();
    secret_file::write(path, &text).map_err(|source| SigningError::Io { path: path.into(), source })?;
    Ok(pk.to_base64())
}

/// The bundle with a signature of the key in `path`, and the public key that verifies it.
///
/// # Errors
/// [`SigningError`]: no key there, or one with a password.
pub fn sign(bundle: Bundle, path: &Path) -> Result<(Bundle, String), SigningError> {
    let refuse = |error: minisign::PError| SigningError::Key { path: path.into(), reason: error.to_string() };
    let text = fs::read_to_string(path).map_err(|source| SigningError::Io { path: path.into(), source })?;
    let boxed = SecretKeyBox::from_string(&text).map_err(refuse)?;
    let key = boxed.into_unencrypted_secret_key().map_err(refuse)?;
    let public = PublicKey::from_secret_key(&key).map_err(refuse)?;
    // no time: the same model and comment say the same, whenever they were signed
    let comment = format!("csp model {} sha256:{}", one_line(&bundle.manifest.name), hex(&bundle.digest));
    let json = Cursor::new(bundle.manifest_json());
    let signature =
        minisign::sign(Some(&public), &key, json, Some(&comment), Some("signature of a csp model"))
            .map_err(refuse)?;
    Ok((bundle.signed(signature.into_string()), public.to_base64()))
}

/// A name without what would end the comment's line.
fn one_line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use csp_models::{
        fusion::{Fusion, Thresholds},
        labels::{Label, Labels},
        manifest::{ImageInput, MANIFEST_SCHEMA, Manifest, ModelProvenance, NumberFormat, file},
        signature::{SignatureError, TrustedKey},
    };

    use super::*;

    fn bundle(name: &str) -> Bundle {
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA,
            name: name.into(),
            input: ImageInput { width: 8, height: 8, mean: [0.5; 3], std: [0.5; 3] },
            image_format: NumberFormat::F32,
            encoder: None,
            labels: Labels(vec![Label::new("a"), Label::new("b")]),
            fusion: Fusion::default(),
            thresholds: Thresholds::default(),
            quantization: None,
            provenance: ModelProvenance::default(),
            licences: Vec::new(),
            files: BTreeMap::new(),
        };
        Bundle::assemble(manifest, [(file::IMAGE.to_string(), vec![1, 2, 3])].into()).unwrap()
    }

    #[test]
    fn a_signed_bundle_is_its_makers_and_no_other_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let public = new_key(&path("key")).unwrap();
        assert!(matches!(new_key(&path("key")), Err(SigningError::Io { .. })), "a key is never written over");
        let other = new_key(&path("other")).unwrap();
        let [trusted, other]: [TrustedKey; 2] = [public.clone(), other].map(|text| text.parse().unwrap());

        let plain = bundle("two\nlines");
        assert_eq!(plain.verify(std::slice::from_ref(&trusted)), Err(SignatureError::Unsigned));
        let digest = plain.digest;
        let (signed, by) = sign(plain, &path("key")).unwrap();
        assert_eq!(by, public);
        signed.write(&path("m.cspm")).unwrap();
        let read = Bundle::open(&path("m.cspm")).unwrap();
        assert_eq!(read.digest, digest, "a signature does not change what the model is");
        let comment = read.verify(&[other.clone(), trusted.clone()]).unwrap();
        assert!(comment.starts_with("csp model two lines sha256:"), "{comment}");
        assert_eq!(read.verify(&[other]), Err(SignatureError::Foreign));
        assert_eq!(read.verify(&[]), Err(SignatureError::Foreign));

        // the signature of one model on another
        let forged = bundle("another").signed(read.signature().unwrap().into());
        assert_eq!(forged.verify(std::slice::from_ref(&trusted)), Err(SignatureError::Altered));
        let noise = bundle("a").signed("untrusted comment: x\nnoise\n".into());
        assert_eq!(noise.verify(&[trusted]), Err(SignatureError::Malformed));
    }

    #[test]
    fn what_is_no_key_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "untrusted comment: minisign\nRWQnonsense\n").unwrap();
        let error = sign(bundle("a"), &path).unwrap_err().to_string();
        assert!(error.contains("keys new --sign"), "{error}");
        assert!(matches!("RWQ".parse::<TrustedKey>(), Err(SignatureError::Key { .. })));
    }
}
