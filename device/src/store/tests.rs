use std::fs;

use csp_models::{
    record::{BoardState, Event, EventRecord, FailureRecord},
    time::{TimeSource, Timestamp},
};
use tempfile::TempDir;

use super::{
    simulated::{Chance, Simulated},
    *,
};

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

const SMALL: Limits =
    Limits { picture_bytes: Some(1000), min_free_bytes: 0, reserve_bytes: 4096, segment_bytes: 4096 };

fn on_disk(disk: &Simulated, limits: Limits) -> (Store<Simulated>, Recovery) {
    Store::open_with(disk.clone(), Path::new("/data/store"), identity(), limits).unwrap()
}

fn failure_of(seq: u64, image: &str) -> Entry {
    let Entry::Failure(record) = entry(seq, "x") else { unreachable!() };
    Entry::Failure(FailureRecord { image: image.to_string(), ..record })
}

#[test]
fn the_oldest_pictures_make_room_and_their_records_stay() {
    let disk = Simulated::new(None);
    let (mut store, _) = on_disk(&disk, SMALL);
    for seq in 0..6 {
        let name = format!("{seq}.jpg");
        assert_eq!(store.keep(&name, &[7; 300]).unwrap(), Picture::Kept);
        store.append(&failure_of(seq, &name)).unwrap();
    }
    assert_eq!(store.pictures(), (3, 900));
    let removed = store.take_removed().unwrap();
    assert_eq!(removed, Removed { count: 3, bytes: 900, up_to: "2.jpg".to_string() });
    assert_eq!(store.take_removed(), None);
    assert!(matches!(store.keep("big.jpg", &[0; 1001]), Err(StoreError::OverQuota { .. })));
    assert_eq!(store.keep("x.jpg.age", &[1]).unwrap(), Picture::Sealed);
    drop(store);
    let (store, recovery) = on_disk(&disk, SMALL);
    assert_eq!((store.next_seq(), recovery.entries, recovery.pictures.kept), (6, 6, 4));
}

#[test]
fn names_are_plain_and_used_once() {
    let disk = Simulated::new(None);
    let (mut store, _) = on_disk(&disk, SMALL);
    for name in ["", "../a.jpg", "a/b.jpg", ".a.jpg", "orphan-1.jpg", "c:a.jpg", &"x".repeat(201)] {
        assert!(matches!(store.keep(name, b"1"), Err(StoreError::BadName { .. })), "{name}");
    }
    store.keep("a.jpg", b"1").unwrap();
    assert_eq!(store.keep("a.jpg", b"1").unwrap(), Picture::Kept, "asked again");
    assert!(matches!(store.keep("a.jpg", b"2"), Err(StoreError::NameTaken { .. })));
}

#[test]
fn a_picture_without_its_record_is_set_aside() {
    let disk = Simulated::new(None);
    let (mut store, _) = on_disk(&disk, SMALL);
    store.keep("0.jpg", b"before the cut").unwrap();
    drop(store);
    let (mut store, recovery) = on_disk(&disk, SMALL);
    assert_eq!((recovery.pictures.orphans, recovery.pictures.kept), (1, 1));
    store.keep("0.jpg", b"after it").unwrap();
    let there = disk.read(Path::new("/data/store/pictures/orphan-0-0.jpg")).unwrap();
    assert_eq!(there, b"before the cut");
}

#[test]
fn records_go_in_on_a_full_disk() {
    let disk = Simulated::new(Some(40_000));
    let limits = Limits { picture_bytes: None, min_free_bytes: 0, ..SMALL };
    let (mut store, _) = on_disk(&disk, limits);
    // pictures fill it to the last byte, and leave the reserve alone
    let mut kept = 0;
    while store.free_bytes().unwrap() > 1200 {
        let name = format!("{kept}.jpg");
        store.keep(&name, &[7; 1000]).unwrap();
        store.append(&failure_of(store.next_seq(), &name)).unwrap();
        kept += 1;
    }
    assert!(kept > 20 && store.take_removed().is_none());
    for _ in 0..150 {
        store.append(&entry(store.next_seq(), "one more")).unwrap();
    }
    let removed = store.take_removed().unwrap();
    assert!(removed.count > 0 && removed.up_to.len() < 10);
    drop(store);
    let (store, recovery) = on_disk(&disk, limits);
    assert_eq!((store.next_seq(), recovery.entries), (kept + 150, kept + 150), "no record was removed");
    assert_eq!(store.pictures().0, kept - u64::from(removed.count));
}

#[test]
fn what_is_deferred_goes_with_the_next_or_is_lost_whole() {
    let note = |seq| {
        let time = Timestamp { millis: 1, source: TimeSource::Rtc };
        let event = Event::Note { text: "hm".to_string() };
        Entry::Event(EventRecord { seq, time, board: BoardState::default(), event })
    };
    let disk = Simulated::new(None);
    let (mut store, _) = on_disk(&disk, SMALL);
    store.append(&note(0)).unwrap();
    let before = disk.operations();
    store.defer(&note(1)).unwrap();
    store.defer(&note(2)).unwrap();
    assert_eq!(disk.operations(), before, "nothing is written yet");
    store.append(&note(3)).unwrap();
    assert_eq!(disk.operations(), before + 2, "one write, one sync");
    store.defer(&note(4)).unwrap();
    disk.cut_after(0);
    drop(store);
    disk.restart(&mut Chance::new(3));
    assert_eq!(on_disk(&disk, SMALL).0.next_seq(), 4);
}

#[test]
fn any_bytes_can_be_read() {
    let dir = dir();
    fill(dir.path(), 3);
    let bytes = fs::read(dir.path().join("000001.seg")).unwrap();
    fuzz(&bytes).unwrap();
    let mut chance = Chance::new(5);
    for _ in 0..2000 {
        let mut bytes = bytes.clone();
        for _ in 0..=chance.below(4) {
            let at = chance.below(bytes.len() as u64) as usize;
            bytes[at] = chance.bits() as u8;
        }
        bytes.truncate(chance.below(bytes.len() as u64 + 1) as usize);
        fuzz(&bytes).unwrap();
    }
}
