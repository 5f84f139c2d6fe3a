use std::fs;

use csp_models::{
    record::{BoardState, FailureRecord},
    time::{TimeSource, Timestamp},
};
use tempfile::TempDir;

use super::*;

fn identity() -> Identity {
    Identity {
        device: "trap-1".to_string(),
        deployment: "ridge".to_string(),
        build: "test".to_string(),
        model_digest: [7; 32],
    }
}

fn entry(seq: u64, text: &str) -> Entry {
    Entry::Failure(FailureRecord {
        seq,
        time: Timestamp { millis: 1, source: TimeSource::Rtc },
        image: format!("{seq}.jpg"),
        image_sha256: Some([seq as u8; 32]),
        place: None,
        error: text.to_string(),
        board: BoardState::default(),
        sealed: None,
    })
}

fn fill(dir: &Path, count: u64) -> Recovery {
    let (mut store, recovery) = Store::open(dir, identity()).unwrap();
    for _ in 0..count {
        store.append(&entry(store.next_seq(), "damaged")).unwrap();
    }
    recovery
}

fn seqs(dir: &Path) -> Vec<u64> {
    read(dir).unwrap().iter().flat_map(|(_, segment)| segment.entries.iter().map(Entry::seq)).collect()
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn entries_survive_and_the_numbering_goes_on() {
    let dir = dir();
    assert_eq!(fill(dir.path(), 3).entries, 0);
    let recovery = fill(dir.path(), 2);
    assert_eq!((recovery.entries, recovery.torn_bytes), (3, 0));
    assert!(recovery.done.contains(&("2.jpg".to_string(), Some([2; 32]))));
    assert_eq!(seqs(dir.path()), [0, 1, 2, 3, 4]);
    assert_eq!(segments(dir.path()).unwrap().len(), 1, "the same trap goes on in the same segment");
}

#[test]
fn another_model_begins_a_segment() {
    let dir = dir();
    fill(dir.path(), 2);
    let (mut store, _) = Store::open(dir.path(), Identity { model_digest: [8; 32], ..identity() }).unwrap();
    store.append(&entry(2, "x")).unwrap();
    let segments = read(dir.path()).unwrap();
    let first: Vec<u64> = segments.iter().map(|(_, s)| s.header.as_ref().unwrap().first_seq).collect();
    assert_eq!(first, [0, 2]);
}

/// The promise of the store: cut the power at any byte of the last write.
#[test]
fn a_cut_at_every_byte_loses_at_most_the_last_entry() {
    let dir = dir();
    fill(dir.path(), 4);
    let path = dir.path().join("000001.seg");
    let whole = fs::read(&path).unwrap();
    let third = {
        let mut ends = whole.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at + 1);
        ends.nth(3).unwrap()
    };
    for cut in third..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(seqs(dir.path()), [0, 1, 2], "before recovery, cut at {cut}");
        let recovery = fill(dir.path(), 1);
        assert_eq!((recovery.entries, recovery.torn_bytes), (3, (cut - third) as u64));
        assert_eq!(seqs(dir.path()), [0, 1, 2, 3], "cut at {cut}");
        assert!(read(dir.path()).unwrap().iter().all(|(_, s)| s.torn_tail == 0 && s.damaged.is_empty()));
    }
    // within the header as well
    for cut in 0..8 {
        fs::write(&path, &whole[..cut]).unwrap();
        fill(dir.path(), 1);
        assert_eq!(seqs(dir.path()), [0], "header cut at {cut}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_damaged_entry_keeps_its_number() {
    let dir = dir();
    fill(dir.path(), 3);
    let path = dir.path().join("000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 0x55;
    fs::write(&path, &bytes).unwrap();
    let recovery = fill(dir.path(), 1);
    assert_eq!((recovery.entries, recovery.damaged), (2, 1));
    assert_eq!(seqs(dir.path()), [0, 1, 3]);
}

#[test]
fn one_writer_at_a_time() {
    let dir = dir();
    let held = Store::open(dir.path(), identity()).unwrap();
    assert!(matches!(Store::open(dir.path(), identity()), Err(StoreError::InUse { .. })));
    drop(held);
    assert!(Store::open(dir.path(), identity()).is_ok());
}

#[test]
fn segments_are_closed_at_their_size() {
    let dir = dir();
    let text = "x".repeat(600_000);
    let (mut store, _) = Store::open(dir.path(), identity()).unwrap();
    (0..15).for_each(|seq| store.append(&entry(seq, &text)).unwrap());
    assert_eq!(seqs(dir.path()), (0..15).collect::<Vec<_>>());
    let sizes: Vec<u64> =
        segments(dir.path()).unwrap().iter().map(|(_, path)| fs::metadata(path).unwrap().len()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|&size| size <= SEGMENT_SIZE), "{sizes:?}");
    let huge = "x".repeat(MAX_FRAME);
    assert!(matches!(store.append(&entry(15, &huge)), Err(StoreError::TooLarge { .. })));
    store.append(&entry(15, "small")).unwrap();
}

#[test]
fn a_foreign_file_is_left_alone() {
    let dir = dir();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::write(dir.path().join("x.seg"), vec![1, 2, 3]).unwrap();
    fill(dir.path(), 1);
    assert_eq!(seqs(dir.path()), [0]);
    assert_eq!(fs::read(dir.path().join("notes.txt")).unwrap(), b"mine");
}
