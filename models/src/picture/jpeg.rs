//! The outline of a JPEG file: its segments, its frame header and whether it is whole.

/// Start of image, scan and end of image; application data 0 and 1.
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
/// Huffman tables.
const DHT: u8 = 0xc4;
/// The tables a motion-JPEG stream means, as libjpeg writes them (`tools/picture_fixtures.py`).
const STANDARD_TABLES: &[u8] = include_bytes!("data/standard.dht");
pub(super) const APP0: u8 = 0xe0;
pub(super) const APP1: u8 = 0xe1;
/// What begins the EXIF data of an [`APP1`] segment.
pub(super) const EXIF: &[u8] = b"Exif\0\0";

/// One segment before the first scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    /// Second byte of its marker.
    pub marker: u8,
    /// Offset of the marker in the file.
    pub start: usize,
    /// Offset of the next segment.
    pub end: usize,
    /// What follows the length.
    pub body: &'a [u8],
}

/// What a frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Kind: 0 baseline, 1 extended sequential, 2 progressive.
    pub kind: u8,
    /// Bits a sample.
    pub precision: u8,
    /// Pixels across, as stored.
    pub width: u32,
    /// Pixels down, as stored; 0 where the file says it only after the scan.
    pub height: u32,
    /// Colour components.
    pub components: u8,
}

/// True for a file that begins as a JPEG.
pub(super) fn is_jpeg(file: &[u8]) -> bool {
    file.starts_with(&[0xff, SOI])
}

/// The segments up to the first scan, or to where the file makes no sense.
pub(super) fn segments(jpeg: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 2;
    let mut ended = !is_jpeg(jpeg);
    core::iter::from_fn(move || {
        if ended {
            return None;
        }
        // any number of 0xff may stand before a marker
        while jpeg.get(at) == Some(&0xff) && jpeg.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let (&[0xff, marker], length) = (jpeg.get(at..at + 2)?, jpeg.get(at + 2..at + 4)?) else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*length.first()?, *length.get(1)?]));
        let (start, end) = (at, at + 2 + length);
        let body = jpeg.get(at + 4..end)?;
        ended = marker == SOS || marker == EOI;
        at = end;
        Some(Segment { marker, start, end, body })
    })
}

/// The frame header, if the file reaches it.
pub(super) fn frame(jpeg: &[u8]) -> Option<Frame> {
    let found = segments(jpeg)
        .find(|s| matches!(s.marker, 0xc0..=0xcf) && !matches!(s.marker, 0xc4 | 0xc8 | 0xcc))?;
    let &[precision, h1, h0, w1, w0, components, ..] = found.body else { return None };
    Some(Frame {
        kind: found.marker - 0xc0,
        precision,
        width: u32::from(u16::from_be_bytes([w1, w0])),
        height: u32::from(u16::from_be_bytes([h1, h0])),
        components,
    })
}

impl Frame {
    /// Why no decoder here takes such a file; `None` for what can be decoded.
    pub fn unsupported(&self) -> Option<String> {
        let kind = match self.kind {
            0..=2 => None,
            3 => Some("lossless"),
            5..=7 => Some("hierarchical"),
            _ => Some("arithmetic-coded"),
        };
        match kind {
            Some(kind) => Some(format!("a {kind} JPEG; baseline and progressive ones are read")),
            None if self.precision != 8 => {
                Some(format!("a JPEG of {} bits a sample; 8 are read", self.precision))
            }
            None => None,
        }
    }
}

/// The EXIF data, from its TIFF header on.
pub(super) fn exif(jpeg: &[u8]) -> Option<&[u8]> {
    segments(jpeg).filter(|s| s.marker == APP1).find_map(|s| s.body.strip_prefix(EXIF))
}

/// True when a JPEG reaches its end-of-image marker.
pub(super) fn ends_whole(jpeg: &[u8]) -> bool {
    end(jpeg).is_some()
}

/// Offset behind the end-of-image marker, if the file reaches it: segments are walked by their lengths, so
/// the marker of a thumbnail inside the EXIF data does not count.
fn end(jpeg: &[u8]) -> Option<usize> {
    let mut at = 2;
    let mut in_scan = false;
    while let (Some(&byte), Some(&marker)) = (jpeg.get(at), jpeg.get(at + 1)) {
        match (byte, marker) {
            (0xff, EOI) => return Some(at + 2),
            (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
            (0xff, _) => {
                let length = jpeg.get(at + 2..at + 4)?.try_into().ok()?;
                in_scan = marker == SOS;
                at += 2 + usize::from(u16::from_be_bytes(length)).max(2);
            }
            _ if in_scan => at += 1,
            _ => return None,
        }
    }
    None
}

/// A frame of a motion-JPEG stream as a file of its own: what stands behind its end is cut off, and the
/// standard Huffman tables (ITU-T T.81, annex K.3), which such streams leave out, are put in.
///
/// # Errors
/// Why it is no whole JPEG.
pub(super) fn complete(stream: &[u8]) -> Result<Vec<u8>, String> {
    if !is_jpeg(stream) {
        return Err("it does not begin as a JPEG".into());
    }
    let end = end(stream).ok_or("it is cut: no end-of-image marker")?;
    let scan = segments(stream).find(|segment| segment.marker == SOS).ok_or("it has no scan")?;
    let frame = frame(stream).ok_or("it has no frame header")?;
    if let Some(problem) = frame.unsupported() {
        return Err(problem);
    }
    let stream = stream.get(..end).unwrap_or(stream);
    if segments(stream).any(|segment| segment.marker == DHT) {
        return Ok(stream.to_vec());
    }
    let (before, after) = stream.split_at(scan.start);
    Ok([before, STANDARD_TABLES, after].concat())
}
