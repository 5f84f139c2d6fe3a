//! A panic's message, on disk before the program ends and in the diary after the next start.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    panic,
    path::{Path, PathBuf},
};

/// Bytes of a message that are kept: a panic may quote a whole file.
const MOST: usize = 2000;

/// From here on a panic of any thread writes its message to `path`, besides what the program did before.
/// What is written is on the disk before the program goes on dying.
pub fn install(path: PathBuf) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // A hook that panics would end the program without a word.
        let _ = write(&path, &info.to_string());
        before(info);
    }));
}

/// What was written, if anything; it is not asked again once [`forget`] was called.
pub fn read(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok().filter(|bytes| !bytes.is_empty())?;
    let end = bytes.len().min(MOST);
    Some(String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).trim().replace('\n', " "))
}

/// The words are in the diary.
pub fn forget(path: &Path) {
    // What stays is told again at the next start: twice is better than never.
    let _ = fs::remove_file(path);
}

fn write(path: &Path, message: &str) -> io::Result<()> {
    let mut end = message.len().min(MOST);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    file.write_all(message.get(..end).unwrap_or_default().as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_whole_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last-words");
        assert_eq!(read(&path), None);
        write(&path, "panicked at x.rs:1:2:\nno camera").unwrap();
        assert_eq!(read(&path).unwrap(), "panicked at x.rs:1:2: no camera");
        write(&path, &"ä".repeat(MOST)).unwrap();
        assert_eq!(read(&path).unwrap().chars().count(), MOST / 2);
        forget(&path);
        assert_eq!(read(&path), None);
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(&path).is_some());
    }
}
