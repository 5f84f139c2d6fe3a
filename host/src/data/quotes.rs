//! Whether the quotes of a record are meant: one that was left open swallows the rows after it.

/// False where a cell reaches over a line break that it was not meant to hold: its quote is never closed,
/// or is closed in the midst of text, which is where the next stray quote stood, or it holds tabs in a
/// table that tabs part. `record` is the bytes of one record as the file has them.
pub(crate) fn are_sound(record: &[u8], delimiter: u8) -> bool {
    let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
    let mut bytes = record.iter().copied().skip_while(|byte| is_break(*byte)).peekable();
    loop {
        if bytes.next_if_eq(&b'"').is_some() {
            let (mut breaks, mut tabs) = (false, false);
            let after = loop {
                match bytes.next() {
                    None => return !breaks,
                    // a doubled quote is one of the text
                    Some(b'"') if bytes.next_if_eq(&b'"').is_none() => break bytes.peek().copied(),
                    Some(byte) => {
                        breaks |= is_break(byte);
                        tabs |= byte == b'\t' && delimiter == b'\t';
                    }
                }
            };
            let closed = after.is_none_or(|byte| byte == delimiter || is_break(byte));
            if breaks && (tabs || !closed) {
                return false;
            }
        }
        match bytes.find(|byte| *byte == delimiter || is_break(*byte)) {
            Some(byte) if byte == delimiter => {}
            _ => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_several_lines_is_told_from_a_stray_quote() {
        for (sound, record) in [
            (true, "a,\"two\nlines\",1\n"),
            (true, "\r\na,\"two\r\nlines, \"\"so\"\" it says\""),
            (true, "a,\"two\nlines\"\r\n"),
            (true, "a,\"North\" ridge,5\" pipe\n"),
            (true, "a,\"\",\"x\n\"\n"),
            (true, "a,\"left open at the very end"),
            (false, "a,\"left open\nb,1,2\n"),
            (false, "a,\"North ridge,1.5\nb,\"South ridge,2.5\n"),
            (false, "a,\"x\"\"\nb,1\n"),
        ] {
            assert_eq!(are_sound(record.as_bytes(), b','), sound, "{record}");
            let tabs = record.replace(", ", " ").replace(',', "\t");
            assert_eq!(are_sound(tabs.as_bytes(), b'\t'), sound, "{tabs}");
        }
        // closed where a cell ends, but over whole rows of a table that tabs part
        let rows = "fox\t\"North\t1.5\ndog\tSouth\"\t2.5\n";
        assert!(!are_sound(rows.as_bytes(), b'\t') && are_sound(rows.as_bytes(), b','));
    }
}
