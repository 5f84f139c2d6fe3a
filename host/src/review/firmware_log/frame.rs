//! rzCOBS, defmt's framing: a frame without zero bytes, read from its end.

/// The bytes of a frame, given without its 0x00; `None` when it is damaged.
///
/// A frame is groups of data bytes, each group followed by the byte that says what it was: below 0x80 seven
/// bytes of which the set bits were zero; from 0x80 to 0xfe that many and seven data bytes and a zero after them;
/// 0xff 134 data bytes and no zero.
pub(super) fn decode(frame: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(frame.len() + 8);
    let mut rest = frame.iter().rev().copied();
    while let Some(control) = rest.next() {
        match control {
            0 => return None,
            1..=0x7f => {
                for bit in (0..7).rev() {
                    bytes.push(if control >> bit & 1 == 1 { 0 } else { rest.next()? });
                }
            }
            _ => {
                let (count, zero) = if control == 0xff { (134, false) } else { (control - 0x80 + 7, true) };
                if zero {
                    bytes.push(0);
                }
                for _ in 0..count {
                    bytes.push(rest.next()?);
                }
            }
        }
    }
    bytes.reverse();
    Some(bytes)
}
