//! Decodes every photograph of a data set once: which cannot be read, which are the same.

use std::collections::BTreeMap;

use csp_models::picture;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Dataset, Row,
    problem::{Kind, Problems, quoted},
};

/// What decoding every photograph found.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// Photographs that exist.
    pub photographs: usize,
    /// Those that cannot be decoded.
    pub unreadable: usize,
    /// Files that repeat the bytes of an earlier one.
    pub identical: usize,
    /// Of these, with another class than the earlier one.
    pub identical_other_class: usize,
    /// Of these, in another split than the earlier one.
    pub identical_other_split: usize,
    /// Size of all files, bytes.
    pub bytes: u64,
    /// The commonest `width × height`, with how many photographs have it, at most five.
    pub sizes: Vec<(String, usize)>,
}

struct Decoded {
    sha256: [u8; 32],
    bytes: u64,
    size: Result<(u32, u32), String>,
}

/// Decodes the photographs on all cores; `done` is called once each.
pub(crate) fn check(dataset: &Dataset, problems: &mut Problems, done: &(dyn Fn() + Sync)) -> ImageReport {
    let decoded: Vec<(&Row, Decoded)> =
        dataset.rows.par_iter().filter_map(|row| decode(row, done).map(|decoded| (row, decoded))).collect();
    let mut report = ImageReport {
        photographs: decoded.len(),
        unreadable: 0,
        identical: 0,
        identical_other_class: 0,
        identical_other_split: 0,
        bytes: decoded.iter().map(|(_, d)| d.bytes).sum(),
        sizes: Vec::new(),
    };
    let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    let mut first: BTreeMap<[u8; 32], &Row> = BTreeMap::new();
    let mut copies = Vec::new();
    for (row, decoded) in &decoded {
        match &decoded.size {
            Ok(size) => *sizes.entry(*size).or_default() += 1,
            Err(reason) => {
                report.unreadable += 1;
                problems.add(Kind::UnreadableImage, || reason.clone());
            }
        }
        let original = *first.entry(decoded.sha256).or_insert(row);
        if !std::ptr::eq(original, *row) {
            let (class, split) = (original.class != row.class, original.split != row.split);
            report.identical += 1;
            report.identical_other_class += usize::from(class);
            report.identical_other_split += usize::from(split);
            copies.push((!class, !split, original, row));
        }
    }
    // the worst first: another class, then another split
    copies.sort_by_key(|(same_class, same_split, ..)| (*same_class, *same_split));
    for (_, _, original, row) in copies {
        problems.add(Kind::IdenticalImages, || {
            format!("{} = {}", describe(dataset, original), describe(dataset, row))
        });
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    report.sizes = sizes.into_iter().take(5).map(|((w, h), n)| (format!("{w}×{h}"), n)).collect();
    report
}

/// `None` for rows without a photograph, and for missing ones, which are reported already.
fn decode(row: &Row, done: &(dyn Fn() + Sync)) -> Option<Decoded> {
    let path = row.image.as_deref().filter(|path| path.is_file())?;
    let decoded = match picture::read(path) {
        Ok(bytes) => Decoded {
            sha256: Sha256::digest(&bytes).into(),
            bytes: bytes.len() as u64,
            size: picture::decode(path, &bytes).map(|p| p.dimensions()).map_err(|e| e.to_string()),
        },
        // told apart from others by its name, since there are no bytes
        Err(error) => Decoded {
            sha256: Sha256::digest(path.as_os_str().as_encoded_bytes()).into(),
            bytes: 0,
            size: Err(error.to_string()),
        },
    };
    done();
    Some(decoded)
}

fn describe(dataset: &Dataset, row: &Row) -> String {
    let class = row.class.map_or("no class".into(), |class| quoted(dataset.labels.name(class)));
    let split = row.split.map_or(String::new(), |split| format!(", {split}"));
    format!("{} ({class}{split})", quoted(&row.name.text()))
}
