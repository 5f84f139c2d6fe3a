//! The GNU build id of a program: a digest that the linker writes into it, which stripping leaves.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

/// Most bytes of notes looked at; a build id takes 36.
const MAX_NOTES: u64 = 1 << 16;
const PT_NOTE: u64 = 4;
const NT_GNU_BUILD_ID: u64 = 3;

/// The build id of an ELF file as hexadecimal digits; `None` for a file that has none or is no
/// little-endian ELF.
///
/// # Errors
/// The file cannot be read.
pub fn build_id(file: &mut (impl Read + Seek)) -> io::Result<Option<String>> {
    let head = bytes_at(file, 0, 64)?;
    let wide = match head.get(..6) {
        Some([0x7f, b'E', b'L', b'F', 2, 1]) => true,
        Some([0x7f, b'E', b'L', b'F', 1, 1]) => false,
        _ => return Ok(None),
    };
    // offsets and widths of the fields of Elf64 and Elf32
    let (table, size, count) = if wide {
        (number(&head, 32, 8), number(&head, 54, 2), number(&head, 56, 2))
    } else {
        (number(&head, 28, 4), number(&head, 42, 2), number(&head, 44, 2))
    };
    for index in 0..count {
        let entry = bytes_at(file, table.saturating_add(index * size), size)?;
        if number(&entry, 0, 4) != PT_NOTE {
            continue;
        }
        let (offset, length) = if wide {
            (number(&entry, 8, 8), number(&entry, 32, 8))
        } else {
            (number(&entry, 4, 4), number(&entry, 16, 4))
        };
        let notes = bytes_at(file, offset, length.min(MAX_NOTES))?;
        if let Some(id) = in_notes(&notes) {
            return Ok(Some(id.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
    }
    Ok(None)
}

/// The build id of this very program; empty where it has none.
pub fn own_build_id() -> String {
    let id = File::open("/proc/self/exe").and_then(|mut exe| build_id(&mut exe));
    id.ok().flatten().unwrap_or_default()
}

fn in_notes(mut notes: &[u8]) -> Option<&[u8]> {
    while notes.len() >= 12 {
        let length = |at| usize::try_from(number(notes, at, 4)).ok();
        let (name, content) = (length(0)?, length(4)?);
        let begin = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = begin.checked_add(content)?;
        let text = notes.get(12..12usize.checked_add(name)?)?;
        if number(notes, 8, 4) == NT_GNU_BUILD_ID && text == b"GNU\0" {
            return notes.get(begin..end);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
    None
}

/// Up to that many bytes from there; fewer at the file's end.
fn bytes_at(file: &mut (impl Read + Seek), at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A little-endian number; 0 beyond the bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let field = bytes.get(at..at + width).unwrap_or_default();
    field.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// An Elf64 of a header, one program header and its notes.
    fn elf(notes: &[u8]) -> Vec<u8> {
        let mut elf = vec![0; 120];
        elf[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        (elf[64], elf[64 + 8], elf[64 + 32]) = (4, 120, notes.len() as u8);
        elf.extend_from_slice(notes);
        elf
    }

    #[test]
    fn the_id_is_found_behind_other_notes() {
        let other = [5, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, b'o', b't', b'h', b'e', 0, 0, 0, 0, 9, 9, 9, 0];
        let id = [4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0, 0xab, 0x01];
        let file = elf(&[&other[..], &id].concat());
        assert_eq!(build_id(&mut Cursor::new(&file)).unwrap().as_deref(), Some("ab01"));
        for cut in 0..file.len() {
            assert_eq!(build_id(&mut Cursor::new(&file[..cut])).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(build_id(&mut Cursor::new(elf(&other))).unwrap(), None);
        assert_eq!(build_id(&mut Cursor::new("#!/bin/sh\n")).unwrap(), None);
    }
}
