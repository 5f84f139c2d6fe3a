//! A folder as the camera: every picture that appears in it is a trigger.
//!
//! A file counts as there once its size and time have not changed between two looks. Each content is
//! handled once: name and SHA-256 are compared with what the store has, so a restart repeats
//! nothing, and a file that is replaced under the same name is a new picture.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use csp_models::picture::{self, PictureError};
use sha2::{Digest, Sha256};

use crate::trap::{Camera, PictureFile, Trigger};

/// Time between two looks at the folder.
pub const LOOK_EVERY: Duration = Duration::from_millis(150);

/// Size and time of a file: when they change, its content may have.
type Signature = (u64, Option<SystemTime>);

/// The folder, as trigger and as camera: clones look at the same one.
#[derive(Clone, Debug)]
pub struct Desk(Rc<RefCell<Folder>>);

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    done: HashSet<(String, Option<[u8; 32]>)>,
    seen: HashMap<OsString, Seen>,
    ready: VecDeque<OsString>,
    last_look: Option<Instant>,
    looks: u64,
    fault: Option<String>,
    /// Triggered and not yet asked for.
    pending: Option<(String, Result<PictureFile, PictureError>)>,
    /// Name of what was asked for last.
    name: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    signature: Signature,
    /// Its trigger was given, or is in `ready`.
    taken: bool,
}

impl Desk {
    /// Watches `dir`. `done` names what earlier runs handled.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn open(dir: &Path, done: HashSet<(String, Option<[u8; 32]>)>) -> io::Result<Self> {
        fs::read_dir(dir)?;
        Ok(Self(Rc::new(RefCell::new(Folder {
            dir: dir.into(),
            done,
            seen: HashMap::new(),
            ready: VecDeque::new(),
            last_look: None,
            looks: 0,
            fault: None,
            pending: None,
            name: None,
        }))))
    }

    /// True when every picture in the folder was given.
    pub fn is_settled(&self) -> bool {
        let folder = self.0.borrow();
        folder.looks > 1 && folder.ready.is_empty() && folder.seen.values().all(|seen| seen.taken)
    }

    /// Why the folder could not be listed at the last look, once.
    pub fn take_fault(&self) -> Option<String> {
        self.0.borrow_mut().fault.take()
    }
}

impl Folder {
    fn look(&mut self) {
        self.last_look = Some(Instant::now());
        self.looks += 1;
        let listed = match self.list() {
            Ok(listed) => listed,
            Err(error) => {
                #[cfg(target_os = "linux")]
                defmt::warn!("no pictures from the folder: {}", defmt::Display2Format(&error));
                self.fault = Some(format!("{}: {error}", self.dir.display()));
                return;
            }
        };
        self.seen.retain(|name, _| listed.iter().any(|(listed, _)| listed == name));
        for (name, signature) in listed {
            match self.seen.get_mut(&name) {
                Some(seen) if seen.signature == signature => {
                    if !seen.taken {
                        seen.taken = true;
                        self.ready.push_back(name);
                    }
                }
                _ => {
                    self.seen.insert(name, Seen { signature, taken: false });
                }
            }
        }
    }

    /// Pictures in the folder by name.
    fn list(&self) -> io::Result<Vec<(OsString, Signature)>> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !is_picture(Path::new(&name)) {
                continue;
            }
            // It may be gone again, or a link to nowhere.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_file() {
                listed.push((name, (metadata.len(), metadata.modified().ok())));
            }
        }
        listed.sort();
        Ok(listed)
    }
}

impl Folder {
    /// The next picture: its name, and its file or why it cannot be read.
    fn next(&mut self) -> Option<(String, Result<PictureFile, PictureError>)> {
        if self.ready.is_empty() && self.last_look.is_none_or(|last| last.elapsed() >= LOOK_EVERY) {
            self.look();
        }
        while let Some(name) = self.ready.pop_front() {
            let path = self.dir.join(&name);
            let image = name.to_string_lossy().to_string();
            let file = picture::read(&path).map(|bytes| {
                let sha256 = Sha256::digest(&bytes).into();
                PictureFile { bytes, sha256 }
            });
            // Deleted between look and read: no picture, no trigger.
            if matches!(&file, Err(PictureError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
            {
                continue;
            }
            let key = (image.clone(), file.as_ref().ok().map(|file| file.sha256));
            if self.done.insert(key) {
                return Some((image, file));
            }
        }
        None
    }
}

impl Trigger for Desk {
    type Error = Infallible;

    fn poll(&mut self, _: u64) -> Result<bool, Infallible> {
        let mut folder = self.0.borrow_mut();
        folder.pending = folder.next();
        Ok(folder.pending.is_some())
    }

    fn waits(&self) -> bool {
        true
    }
}

impl Camera for Desk {
    type Error = PictureError;

    /// The file that triggered, or, for a time-lapse, the next one there is.
    fn capture(&mut self, _: u8) -> Result<PictureFile, PictureError> {
        let mut folder = self.0.borrow_mut();
        let pending = folder.pending.take().or_else(|| folder.next());
        let (name, file) = pending.unzip();
        folder.name = name;
        file.unwrap_or_else(|| {
            let source = io::Error::new(io::ErrorKind::NotFound, "no new picture in the folder");
            Err(PictureError::Io { path: folder.dir.clone(), source })
        })
    }

    fn name(&self) -> Option<String> {
        self.0.borrow().name.clone()
    }
}

/// By extension, as cameras write them. Hidden files are somebody's temporaries.
pub(crate) fn is_picture(name: &Path) -> bool {
    let hidden = name.to_string_lossy().starts_with('.');
    let extension = name.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    !hidden && matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Names given until the folder is settled.
    fn drain(desk: &mut Desk) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            match desk.poll(0) {
                Ok(true) => {
                    let _ = desk.capture(0);
                    names.push(desk.name().unwrap());
                }
                Ok(false) if desk.is_settled() => return names,
                Ok(false) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    #[test]
    fn each_content_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("b.jpg", "1"), ("a.PNG", "2"), (".hidden.jpg", "3"), ("notes.txt", "4")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        fs::create_dir(dir.path().join("folder.jpg")).unwrap();
        let mut desk = Desk::open(dir.path(), HashSet::new()).unwrap();
        assert_eq!(drain(&mut desk), ["a.PNG", "b.jpg"]);
        assert_eq!(drain(&mut desk), [""; 0]);
        // replaced, and the same again
        fs::write(dir.path().join("b.jpg"), "other").unwrap();
        thread::sleep(LOOK_EVERY);
        desk.poll(0).unwrap();
        assert!(!desk.is_settled());
        assert_eq!(drain(&mut desk), ["b.jpg"]);

        // after a restart only what the store does not have
        let done = HashSet::from([("a.PNG".to_string(), Some(Sha256::digest("2").into()))]);
        let mut desk = Desk::open(dir.path(), done).unwrap();
        assert_eq!(drain(&mut desk), ["b.jpg"]);
    }

    #[test]
    fn a_file_that_grows_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        let mut desk = Desk::open(dir.path(), HashSet::new()).unwrap();
        for length in 1..6 {
            fs::write(&path, "x".repeat(length)).unwrap();
            assert!(!desk.poll(0).unwrap(), "length {length}");
            thread::sleep(LOOK_EVERY);
        }
        assert_eq!(drain(&mut desk), ["a.jpg"]);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        assert!(Desk::open(Path::new("/nonexistent/desk"), HashSet::new()).is_err());
    }
}
