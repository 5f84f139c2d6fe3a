//! The board's root file system: a cpio archive (newc) that the kernel unpacks into memory. Nothing in it can be
//! worn out or torn.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// An archive under way.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

impl Archive {
    pub fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, &[]);
    }

    pub fn program(&mut self, name: &str, bytes: &[u8]) {
        self.entry(name, PROGRAM, bytes);
    }

    pub fn file(&mut self, name: &str, bytes: &[u8]) {
        self.entry(name, FILE, bytes);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode == FOLDER { 2 } else { 1 };
        // inode, mode, user, group, links, time, size, device (2), device it stands for (2), name, checksum
        let fields =
            [self.entries, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A 64-bit ELF program without its sections: all that is loaded, none of the debug information.
///
/// # Errors
/// Not a static aarch64 Linux program.
pub(super) fn bare(path: &Path, elf: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize, width: usize| -> Result<u64> {
        let bytes = elf.get(at..at + width).context("the file is cut")?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    const AARCH64: u64 = 183;
    ensure!(
        elf.starts_with(b"\x7fELF\x02\x01") && word(18, 2)? == AARCH64,
        "{}: not a program for aarch64; build it: cargo build --release -p csp-device --target \
         aarch64-unknown-linux-gnu",
        path.display()
    );
    const INTERPRETER: u64 = 3;
    let (table, entry, count) = (word(32, 8)? as usize, word(54, 2)? as usize, word(56, 2)? as usize);
    let mut end = table + entry * count;
    for header in (0..count).map(|index| table + index * entry) {
        ensure!(
            word(header, 4)? != INTERPRETER,
            "{}: not linked statically; build it in this repository, whose .cargo/config.toml says so",
            path.display()
        );
        end = end.max((word(header + 8, 8)? + word(header + 32, 8)?) as usize);
    }
    let mut bare = elf.get(..end).context("the file is cut")?.to_vec();
    // where sections are, how many, and which names them
    for (at, width) in [(40, 8), (60, 2), (62, 2)] {
        bare.get_mut(at..at + width).context("the file is cut")?.fill(0);
    }
    Ok(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_named() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.file("bin/a", b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        // the header of "bin": 110 bytes and a name of 4, then the next begins
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        assert_eq!(bytes.get(116..122), Some(&b"070701"[..]));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("bin/a\0hello") || text.contains("bin/a\0\0hello"), "{text:?}");
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }

    #[test]
    fn only_a_static_arm_program_is_taken() {
        let mut elf = vec![0; 200];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 183;
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        // one segment of 100 bytes from the start, then sections
        (elf[64], elf[64 + 32], elf[40], elf[60]) = (1, 130, 150, 1);
        let bare = |elf: &[u8]| bare(Path::new("x"), elf);
        let cut = bare(&elf).unwrap();
        assert_eq!((cut.len(), cut[40], cut[60]), (130, 0, 0));
        elf[64] = 3;
        assert!(bare(&elf).unwrap_err().to_string().contains("statically"));
        elf[18] = 62;
        assert!(bare(&elf).unwrap_err().to_string().contains("aarch64"));
        assert!(bare(&elf[..20]).is_err());
    }
}
