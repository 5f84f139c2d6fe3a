//! A file system in memory whose power can be cut after any operation.
//!
//! After a cut it may show any state that a disk is allowed to: of what was not synced, each write is
//! there, missing or torn at 512 bytes, a grown file may hold zeros or other files' old bytes where the
//! write did not arrive, and each new name, removed name or rename happened or not, whichever
//! order they were made in. What was synced is there.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::files::Files;

/// What a disk writes at once or not at all, bytes.
const SECTOR: usize = 512;

/// The file system; clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct Simulated(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
    pending_names: Vec<NameChange>,
    operations: u64,
    cut_at: Option<u64>,
    capacity: Option<u64>,
    forgetful: bool,
}

/// A file's content as programs see it, and as the medium has it.
#[derive(Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<DataChange>,
}

#[derive(Debug)]
enum DataChange {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

/// A change in one folder. A rename carries the file, so it can arrive although its creation did not.
#[derive(Clone, Debug)]
enum NameChange {
    Folder(PathBuf),
    Link { path: PathBuf, inode: u64 },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
}

/// Pseudo-random numbers (SplitMix64): a seed names a cut for good.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A sequence of its own for every seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits().checked_rem(bound).unwrap_or(0)
    }
}

/// How a cut treats what was not synced.
#[derive(Clone, Copy)]
enum Mercy {
    None,
    All,
    Some,
}

impl Mercy {
    fn draw(chance: &mut Chance) -> Self {
        match chance.below(4) {
            0 => Self::None,
            1 => Self::All,
            _ => Self::Some,
        }
    }

    fn spares(self, chance: &mut Chance) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some => chance.below(2) == 0,
        }
    }
}

impl Simulated {
    /// An empty disk with that much room; `None` for room without end.
    pub fn new(capacity: Option<u64>) -> Self {
        let disk = Self::default();
        disk.0.borrow_mut().capacity = capacity;
        disk
    }

    /// Cuts the power at the n-th operation from now that changes something: it and all later ones fail.
    pub fn cut_after(&self, operations: u64) {
        let mut state = self.0.borrow_mut();
        state.cut_at = Some(state.operations.saturating_add(operations));
    }

    /// Operations so far that changed something.
    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// True when the power is gone.
    pub fn is_cut(&self) -> bool {
        let state = self.0.borrow();
        state.cut_at.is_some_and(|cut| state.operations >= cut)
    }

    /// Makes every sync a lie, as a bad card or a forgotten `fsync` would.
    pub fn forget_syncs(&self) {
        self.0.borrow_mut().forgetful = true;
    }

    /// Restores the power: the disk holds what was synced and a part of the rest, drawn by chance.
    pub fn restart(&self, chance: &mut Chance) {
        let state = &mut *self.0.borrow_mut();
        let mercy = Mercy::draw(chance);
        for change in std::mem::take(&mut state.pending_names) {
            if mercy.spares(chance) {
                state.settle(change);
            }
        }
        let folders = state.durable_folders.clone();
        let reachable = |path: &Path| path.parent().is_none_or(|folder| folders.contains(folder));
        state.durable_names.retain(|path, _| reachable(path));
        state.folders = state.durable_folders.clone();
        state.names = state.durable_names.clone();
        let linked: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| linked.contains(inode));
        for inode in state.inodes.values_mut() {
            inode.restart(chance);
        }
        state.cut_at = None;
    }

    /// Lets a new process go on where one was killed: nothing is lost, and nothing more is durable.
    pub fn revive(&self) {
        self.0.borrow_mut().cut_at = None;
    }

    /// Flips one bit of a file, as a worn-out card would; nothing for an empty or missing one.
    pub fn damage(&self, path: &Path, chance: &mut Chance) {
        let state = &mut *self.0.borrow_mut();
        let Some(inode) = state.names.get(path).and_then(|inode| state.inodes.get_mut(inode)) else { return };
        let at = chance.below(inode.now.len() as u64) as usize;
        let bit = 1 << chance.below(8);
        for copy in [&mut inode.now, &mut inode.durable] {
            if let Some(byte) = copy.get_mut(at) {
                *byte ^= bit;
            }
        }
    }
}

impl Inode {
    fn restart(&mut self, chance: &mut Chance) {
        let mercy = Mercy::draw(chance);
        // What a sector holds that was never written: zeros, or what an earlier file left there.
        let stale = chance.below(3) == 0;
        for change in std::mem::take(&mut self.pending) {
            match change {
                DataChange::Length(length) => {
                    if mercy.spares(chance) {
                        self.durable.resize(length, 0);
                    }
                }
                DataChange::Write { at, bytes } => {
                    let end = at + bytes.len();
                    if !mercy.spares(chance) && !mercy.spares(chance) {
                        continue;
                    }
                    while self.durable.len() < end {
                        self.durable.push(if stale { chance.bits() as u8 } else { 0 });
                    }
                    let mut from = at;
                    while from < end {
                        let to = end.min((from / SECTOR + 1) * SECTOR);
                        let piece = bytes.get(from - at..to - at);
                        if let (true, Some(target), Some(piece)) =
                            (mercy.spares(chance), self.durable.get_mut(from..to), piece)
                        {
                            target.copy_from_slice(piece);
                        }
                        from = to;
                    }
                }
            }
        }
        self.now = self.durable.clone();
    }
}

impl State {
    /// Counts an operation that changes something; an error once the power is cut.
    fn operate(&mut self) -> io::Result<()> {
        if self.cut_at.is_some_and(|cut| self.operations >= cut) {
            return Err(io::Error::other("the power is cut"));
        }
        self.operations += 1;
        Ok(())
    }

    fn settle(&mut self, change: NameChange) {
        match change {
            NameChange::Folder(path) => {
                self.durable_folders.insert(path);
            }
            NameChange::Link { path, inode } => {
                self.durable_names.insert(path, inode);
            }
            NameChange::Unlink { path } => {
                self.durable_names.remove(&path);
            }
            NameChange::Rename { from, to, inode } => {
                self.durable_names.remove(&from);
                self.durable_names.insert(to, inode);
            }
        }
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|inode| self.inodes.get(inode))
            .map(|inode| inode.now.len() as u64)
            .sum()
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl NameChange {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path)
            | Self::Link { path, .. }
            | Self::Unlink { path }
            | Self::Rename { to: path, .. } => path.parent(),
        }
    }
}

impl Files for Simulated {
    type File = u64;
    type Lock = ();

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        for folder in folders {
            {
                let state = &mut *self.0.borrow_mut();
                if !state.folders.contains(folder) {
                    state.operate()?;
                    state.folders.insert(folder.into());
                    match folder.parent() {
                        // the root is always there
                        None => state.settle(NameChange::Folder(folder.into())),
                        Some(_) => state.pending_names.push(NameChange::Folder(folder.into())),
                    }
                }
            }
            if let Some(parent) = folder.parent() {
                self.sync_folder(parent)?;
            }
        }
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<()>> {
        Ok(Some(()))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let state = self.0.borrow();
        if !state.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let listed = state.names.iter().filter(|(path, _)| path.parent() == Some(folder));
        let size = |inode| state.inodes.get(inode).map_or(0, |inode| inode.now.len() as u64);
        Ok(listed.map(|(path, inode)| (path.clone(), size(inode))).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let inode = state.names.get(path).and_then(|inode| state.inodes.get(inode));
        inode.map(|inode| inode.now.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, path: &Path) -> io::Result<u64> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if path.parent().is_some_and(|folder| !state.folders.contains(folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.names.insert(path.into(), inode);
        state.pending_names.push(NameChange::Link { path: path.into(), inode });
        Ok(inode)
    }

    fn open(&self, path: &Path) -> io::Result<u64> {
        self.0.borrow().names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn append(&self, file: &mut u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        // As much as there is room for is written, then the error comes.
        let room = usize::try_from(state.room()).unwrap_or(usize::MAX).min(bytes.len());
        let written = bytes.get(..room).unwrap_or(bytes);
        let inode = state.inode(*file)?;
        inode.pending.push(DataChange::Write { at: inode.now.len(), bytes: written.to_vec() });
        inode.now.extend_from_slice(written);
        if room < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, file: &mut u64, length: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let inode = state.inode(*file)?;
        inode.now.resize(length, 0);
        inode.pending.push(DataChange::Length(length));
        Ok(())
    }

    fn preallocate(&self, file: &mut u64, length: u64) -> io::Result<()> {
        if self.0.borrow().room() < length {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.set_len(file, length)
    }

    fn sync(&self, file: &mut u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        if state.forgetful {
            return Ok(());
        }
        let inode = state.inode(*file)?;
        inode.pending.clear();
        inode.durable = inode.now.clone();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.into(), inode);
        state.pending_names.push(NameChange::Rename { from: from.into(), to: to.into(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.pending_names.push(NameChange::Unlink { path: path.into() });
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.operate()?;
        if state.forgetful {
            return Ok(());
        }
        let (synced, waiting) = std::mem::take(&mut state.pending_names)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.folder() == Some(folder));
        state.pending_names = waiting;
        synced.into_iter().for_each(|change| state.settle(change));
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> Option<u64> {
        let state = self.0.borrow();
        state.capacity.map(|_| state.room())
    }
}
