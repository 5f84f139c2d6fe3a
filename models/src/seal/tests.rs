//! Against itself, against damage, and against files of the stock `age` 1.1.1.

use alloc::{string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::place::LatLon;

fn key() -> Identity {
    Identity::from_key_file(include_str!("data/key.txt")).unwrap().remove(0)
}

#[test]
fn keys_read_as_text_and_as_a_file() {
    let key = Identity::generate().unwrap();
    let again = Identity::from_key_file(&key.key_file()).unwrap();
    assert_eq!(again[0].recipient(), key.recipient());
    let public = key.recipient().to_string();
    assert!(public.starts_with("age1") && public.len() == 62, "{public}");
    assert_eq!(public.parse(), Ok(key.recipient()));
    assert!(key.secret_text().starts_with("AGE-SECRET-KEY-1"));
    assert!(!alloc::format!("{key:?}").contains(&key.secret_text()));
    assert_eq!(key.secret_text().parse::<Recipient>(), Err(KeyError::SecretGiven));
    assert_eq!("age1qqqq".parse::<Recipient>(), Err(KeyError::Public(8)));
    assert_eq!(Identity::from_key_file("# nothing\n").unwrap_err(), KeyError::None);
    assert_eq!(Identity::from_key_file("# x\nAGE-SECRET").unwrap_err(), KeyError::Secret { line: 2 });
    // age-keygen's own file names the public key in a comment
    assert!(include_str!("data/key.txt").contains(&super::tests::key().recipient().to_string()));
}

#[test]
fn opens_what_the_stock_tool_sealed() {
    assert_eq!(open(&[key()], include_bytes!("data/stock.age")).unwrap(), b"sealed by the stock tool\n");
    // of two recipients ours is the second
    assert_eq!(open(&[key()], include_bytes!("data/two.age")).unwrap(), b"");
}

#[test]
fn long_content_is_chunked() {
    let key = key();
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let plain: Vec<u8> = (0..length).map(|i: u32| (i * 7) as u8).collect();
        let sealed = seal(&key.recipient(), &plain).unwrap();
        assert!(is_sealed(&sealed));
        assert_eq!(open(&[Identity::generate().unwrap(), key.clone()], &sealed).unwrap(), plain);
    }
}

#[test]
fn a_chunk_cannot_be_cut_or_reordered() {
    let key = key();
    let plain = vec![5; 3 * 65_536];
    let sealed = seal(&key.recipient(), &plain).unwrap();
    let chunk = 65_536 + 16;
    assert_eq!(open(core::slice::from_ref(&key), &sealed[..sealed.len() - chunk]), Err(SealError::Damaged));
    let mut swapped = sealed.clone();
    let start = sealed.len() - 3 * chunk;
    let (a, b) = swapped[start..].split_at_mut(chunk);
    a.swap_with_slice(&mut b[..chunk]);
    assert_eq!(open(&[key], &swapped), Err(SealError::Damaged));
}

#[test]
fn refuses_other_keys_other_files_and_weak_keys() {
    let sealed = seal(&key().recipient(), b"x").unwrap();
    assert_eq!(open(&[Identity::generate().unwrap()], &sealed), Err(SealError::NoKey));
    assert_eq!(open(&[], &sealed), Err(SealError::NoKey));
    assert!(matches!(open(&[key()], b"\xff\xd8 a picture"), Err(SealError::Format(_))));
    assert!(matches!(open(&[key()], b"-----BEGIN AGE ENCRYPTED FILE-----"), Err(SealError::Format(_))));
    let weak = Recipient(x25519_dalek::PublicKey::from([0; 32]));
    assert_eq!(seal(&weak, b"x"), Err(SealError::WeakKey));
}

#[test]
fn a_place_is_sealed_and_opened() {
    let place = Place { uncertainty_m: 12.5, ..Place::configured(LatLon::new(-1.29, 36.82).unwrap()) };
    let sealed = seal_place(&key().recipient(), &place).unwrap();
    assert_eq!(open_place(&[key()], &sealed), Ok(place));
    let other = seal(&key().recipient(), b"\xff").unwrap();
    assert_eq!(open_place(&[key()], &other), Err(SealError::Content));
}

proptest! {
    #[test]
    fn any_changed_byte_is_seen(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let sealed = seal(&key().recipient(), b"a small secret").unwrap();
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= flip;
        prop_assert!(open(&[key()], &changed).is_err());
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut file = b"age-encryption.org/v1\n".to_vec();
        file.extend(noise);
        prop_assert!(open(&[key()], &file).is_err());
    }
}
