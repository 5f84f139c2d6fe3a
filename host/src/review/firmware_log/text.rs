//! What a frame says: its index, its time, and the values of its statement's text, one after the other.

use std::{fmt::Write, ops::Range};

use defmt_parser::{DisplayHint, Fragment, ParserMode, TimePrecision, Type, parse};

use super::table::Table;

/// Values within values that are followed; damaged frames could nest without end.
const MAX_DEPTH: u32 = 16;
/// Elements of a slice that are read.
const MAX_ELEMENTS: usize = 4096;

/// A frame, read.
pub(super) struct Said<'t> {
    pub level: &'static str,
    pub uptime_us: Option<u64>,
    pub message: String,
    pub at: Option<&'t str>,
}

/// Reads a frame; `None` when it is damaged.
pub(super) fn read<'t>(table: &'t Table, frame: &[u8]) -> Option<Said<'t>> {
    let mut bytes = Bytes { rest: frame, table, depth: 0 };
    let statement = table.get(bytes.number(2)? as u16)?;
    let level = ["error", "warn", "info", "debug", "trace", "println"]
        .into_iter()
        .find(|level| *level == statement.tag)?;
    let uptime_us = match table.timestamp.as_deref() {
        None => None,
        Some("{=u64:us}") => Some(u64::try_from(bytes.number(8)?).ok()?),
        // another program's time: its value is read past
        Some(format) => bytes.said(format).map(|_| None)?,
    };
    let message = bytes.said(&statement.text)?;
    // The last group is filled up with zeros; anything else that is left over is another statement's.
    bytes.rest.iter().all(|&byte| byte == 0).then_some(())?;
    Some(Said { level, uptime_us, message, at: statement.at.as_deref() })
}

/// The values of a frame that are not read yet.
struct Bytes<'b, 't> {
    rest: &'b [u8],
    table: &'t Table,
    depth: u32,
}

impl<'b, 't> Bytes<'b, 't> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// A little-endian number of up to 16 bytes.
    fn number(&mut self, width: usize) -> Option<u128> {
        Some(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u128::from(byte)))
    }

    fn signed(&mut self, width: usize) -> Option<i128> {
        let unused = 128 - 8 * u32::try_from(width).ok()?;
        Some((self.number(width)? << unused) as i128 >> unused)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number(4)?).ok()
    }

    fn string(&mut self, count: usize) -> Option<&'b str> {
        std::str::from_utf8(self.take(count)?).ok()
    }

    /// A text with its values in place.
    fn said(&mut self, format: &str) -> Option<String> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let fragments = parse(format, ParserMode::ForwardsCompatible).ok()?;
        // Values stand in the order of their indices, each once however often the text shows it.
        let mut kinds: Vec<Option<Type>> = Vec::new();
        for fragment in &fragments {
            let Fragment::Parameter(parameter) = fragment else { continue };
            if kinds.len() <= parameter.index {
                kinds.resize(parameter.index + 1, None);
            }
            let kind = kinds.get_mut(parameter.index)?;
            *kind = Some(match (kind.take(), &parameter.ty) {
                // parts of one bit field: the value covers them all
                (Some(Type::BitField(a)), Type::BitField(b)) => {
                    Type::BitField(a.start.min(b.start)..a.end.max(b.end))
                }
                (_, kind) => kind.clone(),
            });
        }
        let mut values = Vec::new();
        for kind in kinds {
            values.push(self.value(&kind?)?);
        }
        let mut said = String::new();
        for fragment in &fragments {
            match fragment {
                Fragment::Literal(text) => said.push_str(text),
                Fragment::Parameter(parameter) => {
                    let value = values.get(parameter.index)?;
                    value.show(&mut said, &parameter.ty, parameter.hint.as_ref()).ok()?;
                }
            }
        }
        self.depth -= 1;
        Some(said)
    }

    fn value(&mut self, kind: &Type) -> Option<Value> {
        Some(match kind {
            Type::U8 => Value::Unsigned(self.number(1)?),
            Type::U16 => Value::Unsigned(self.number(2)?),
            Type::U32 | Type::Usize => Value::Unsigned(self.number(4)?),
            Type::U64 => Value::Unsigned(self.number(8)?),
            Type::U128 => Value::Unsigned(self.number(16)?),
            Type::I8 => Value::Signed(self.signed(1)?),
            Type::I16 => Value::Signed(self.signed(2)?),
            Type::I32 | Type::Isize => Value::Signed(self.signed(4)?),
            Type::I64 => Value::Signed(self.signed(8)?),
            Type::I128 => Value::Signed(self.signed(16)?),
            Type::F32 => Value::Text(f32::from_bits(self.number(4)? as u32).to_string()),
            Type::F64 => Value::Text(f64::from_bits(self.number(8)? as u64).to_string()),
            Type::Bool => match self.number(1)? {
                0 => Value::Text("false".into()),
                1 => Value::Text("true".into()),
                _ => return None,
            },
            Type::Char => Value::Text(char::from_u32(self.number(4)? as u32)?.to_string()),
            Type::BitField(bits) => self.bit_field(bits)?,
            Type::Str => {
                let count = self.count()?;
                Value::Text(self.string(count)?.to_string())
            }
            Type::IStr => Value::Text(self.table.get(self.number(2)? as u16)?.text.clone()),
            Type::U8Slice => {
                let count = self.count()?;
                Value::Bytes(self.take(count)?.to_vec())
            }
            Type::U8Array(count) => Value::Bytes(self.take(*count)?.to_vec()),
            Type::Debug | Type::Display => {
                let end = self.rest.iter().position(|&byte| byte == 0xff)?;
                let text = self.string(end)?.to_string();
                self.take(1)?;
                Value::Text(text)
            }
            Type::Format => {
                let format = self.format()?;
                Value::Text(self.formatted(format)?)
            }
            Type::FormatSlice => {
                let count = self.count()?;
                self.slice(count)?
            }
            Type::FormatArray(count) => self.slice(*count)?,
            Type::FormatSequence => {
                let mut text = String::new();
                loop {
                    let index = self.number(2)? as u16;
                    if index == 0 {
                        break;
                    }
                    let format = &self.table.get(index)?.text;
                    text.push_str(&self.said(format)?);
                }
                Value::Text(text)
            }
        })
    }

    fn format(&mut self) -> Option<&'t str> {
        Some(&self.table.get(self.number(2)? as u16)?.text)
    }

    /// A value of a type that says how it is shown; an enum's text lists its variants.
    fn formatted(&mut self, format: &str) -> Option<String> {
        if !format.contains('|') {
            return self.said(format);
        }
        let variants = format.split('|').count() - 1;
        let width = if u8::try_from(variants).is_ok() { 1 } else { 2 };
        let chosen = usize::try_from(self.number(width)?).ok()?;
        self.said(format.split('|').nth(chosen)?)
    }

    fn slice(&mut self, count: usize) -> Option<Value> {
        let format = self.format()?;
        let elements: Option<Vec<String>> =
            (0..count.min(MAX_ELEMENTS)).map(|_| self.formatted(format)).collect();
        Some(Value::Text(format!("[{}]", elements?.join(", "))))
    }

    /// Only the bytes that hold the bits are sent, in the narrowest number that takes them.
    fn bit_field(&mut self, bits: &Range<u8>) -> Option<Value> {
        let first = bits.start / 8;
        let width = usize::from((bits.end - 1) / 8 - first + 1).next_power_of_two();
        Some(Value::Unsigned(self.number(width)? << (8 * first)))
    }
}

/// A value before it is shown.
enum Value {
    Unsigned(u128),
    Signed(i128),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    fn show(&self, out: &mut String, kind: &Type, hint: Option<&DisplayHint>) -> std::fmt::Result {
        match (self, kind) {
            (Self::Unsigned(value), Type::BitField(bits)) => {
                let width = u32::from(bits.end - bits.start);
                let mask = 1u128.checked_shl(width).map_or(u128::MAX, |bit| bit - 1);
                show_number(out, *value >> bits.start & mask, hint)
            }
            (Self::Unsigned(value), _) => show_number(out, *value, hint),
            (Self::Signed(value), _) => write!(out, "{value}"),
            (Self::Text(text), _) => match hint {
                Some(DisplayHint::Debug) if matches!(kind, Type::Str | Type::IStr) => write!(out, "{text:?}"),
                _ => out.write_str(text),
            },
            (Self::Bytes(bytes), _) => match hint {
                Some(DisplayHint::Hexadecimal { .. }) => {
                    bytes.iter().try_for_each(|b| write!(out, "{b:02x}"))
                }
                Some(DisplayHint::Ascii) => write!(out, "b\"{}\"", bytes.escape_ascii()),
                _ => write!(out, "{bytes:?}"),
            },
        }
    }
}

fn show_number(out: &mut String, value: u128, hint: Option<&DisplayHint>) -> std::fmt::Result {
    match hint {
        Some(DisplayHint::NoHint { zero_pad }) => write!(out, "{value:0zero_pad$}"),
        Some(DisplayHint::Hexadecimal { alternate, uppercase, zero_pad }) => match (alternate, uppercase) {
            (false, false) => write!(out, "{value:0zero_pad$x}"),
            (false, true) => write!(out, "{value:0zero_pad$X}"),
            (true, false) => write!(out, "{value:#0zero_pad$x}"),
            (true, true) => write!(out, "{value:#0zero_pad$X}"),
        },
        Some(DisplayHint::Binary { zero_pad, .. }) => write!(out, "{value:0zero_pad$b}"),
        Some(DisplayHint::Seconds(TimePrecision::Micros)) => {
            write!(out, "{}.{:06}", value / 1_000_000, value % 1_000_000)
        }
        Some(DisplayHint::Seconds(TimePrecision::Millis)) => {
            write!(out, "{}.{:03}", value / 1000, value % 1000)
        }
        _ => write!(out, "{value}"),
    }
}
