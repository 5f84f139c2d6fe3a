//! HKDF and HMAC with SHA-256 (RFC 5869, RFC 2104): a dozen lines each, over the SHA-256 that is here anyway.

use sha2::{Digest, Sha256};

const BLOCK: usize = 64;

/// HMAC-SHA-256 of a message given in parts.
pub(super) fn hmac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let hash = |pad: u8, parts: &[&[u8]]| -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(block.map(|byte| byte ^ pad));
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into()
    };
    let inner = hash(0x36, message);
    hash(0x5c, &[&inner])
}

/// The first 32 bytes of HKDF-SHA-256.
pub(super) fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> [u8; 32] {
    let extracted = hmac(salt, &[secret]);
    hmac(&extracted, &[info, &[1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    /// RFC 5869, appendix A.1 and A.3: the first 32 of 42 bytes.
    #[test]
    fn derives_as_the_rfc_does() {
        let got = derive(&[0x0b; 22], &bytes("000102030405060708090a0b0c"), &bytes("f0f1f2f3f4f5f6f7f8f9"));
        assert_eq!(got[..], bytes("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
        let got = derive(&[0x0b; 22], &[], &[]);
        assert_eq!(got[..], bytes("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
    }

    /// RFC 4231, cases 1 and 6 (a key longer than a block).
    #[test]
    fn authenticates_as_the_rfc_does() {
        let got = hmac(&[0x0b; 20], &[b"Hi ", b"There"]);
        assert_eq!(got[..], bytes("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"));
        let long = vec![0xaa; 131];
        let got = hmac(&long, &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(got[..], bytes("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"));
    }
}
