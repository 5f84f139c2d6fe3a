//! The board's card: an ext4 image, made and read with e2fsprogs, neither mounted nor by root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::guest::program;

/// Size of a card, bytes: room for some hundred pictures of the test camera.
pub(super) const BYTES: u64 = 96 << 20;

/// The programs of e2fsprogs.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    mke2fs: PathBuf,
    e2fsck: PathBuf,
    debugfs: PathBuf,
}

impl Tools {
    /// # Errors
    /// [`Missing`](super::guest::Missing) where they are not installed.
    pub fn find() -> Result<Self> {
        let tool = |name| program(name, "e2fsprogs");
        Ok(Self { mke2fs: tool("mke2fs")?, e2fsck: tool("e2fsck")?, debugfs: tool("debugfs")? })
    }

    /// Makes an empty card with a journal.
    ///
    /// # Errors
    /// No room, or mke2fs fails.
    pub fn format(&self, image: &Path) -> Result<()> {
        fs::File::create(image)?.set_len(BYTES)?;
        let mut make = Command::new(&self.mke2fs);
        run(make.args(["-q", "-t", "ext4", "-O", "metadata_csum", "-F"]).arg(image), &[0])
    }

    /// What a board would find on the card after a cut: a copy is checked as at boot (its journal is replayed)
    /// and its `/store` written to `into`.
    ///
    /// # Errors
    /// The file system cannot be repaired without asking, or has no store.
    pub fn read_out(&self, image: &Path, into: &Path) -> Result<PathBuf> {
        let _ = fs::remove_dir_all(into);
        fs::create_dir_all(into)?;
        let copy = into.join("card.img");
        fs::copy(image, &copy)?;
        // 1: errors corrected, as after a cut
        run(Command::new(&self.e2fsck).args(["-f", "-p"]).arg(&copy), &[0, 1])?;
        let dump = format!("rdump /store {}", into.display());
        run(Command::new(&self.debugfs).args(["-R", &dump]).arg(&copy), &[0])?;
        fs::remove_file(&copy)?;
        let store = into.join("store");
        ensure!(store.is_dir(), "{}: no store on the card", image.display());
        Ok(store)
    }
}

fn run(command: &mut Command, good: &[i32]) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().with_context(|| name.clone())?;
    let code = done.status.code().unwrap_or(-1);
    let said = [&done.stdout[..], &done.stderr[..]].concat();
    ensure!(good.contains(&code), "{name} ends with {code}: {}", String::from_utf8_lossy(&said).trim());
    Ok(())
}
