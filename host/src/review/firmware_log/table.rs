//! What a program's log statements say, from its symbols, and where they stand, from its debug information.

use std::{borrow::Cow, collections::HashMap};

use gimli::{AttributeValue, DwarfSections, EndianSlice, LittleEndian, constants};
use object::{Object, ObjectSection, ObjectSymbol};
use serde::Deserialize;

/// defmt's wire format that [`text`](super::text) reads.
const WIRE_FORMAT: &str = "4";

/// The log statements and interned strings of a program, by index.
#[derive(Debug, Default)]
pub(super) struct Table {
    strings: HashMap<u16, Text>,
    /// Format of the time every frame carries.
    pub timestamp: Option<String>,
}

/// A string that a program carries.
#[derive(Debug)]
pub(super) struct Text {
    /// `info`, `warn`, … for a log statement; another tag for what statements are made of.
    pub tag: String,
    /// The string, as `defmt_parser` reads it.
    pub text: String,
    /// File and line of a log statement.
    pub at: Option<String>,
}

/// defmt's symbols carry their content in their names.
#[derive(Deserialize)]
struct Symbol<'a> {
    #[serde(borrow)]
    tag: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

impl Table {
    pub fn read(program: &[u8]) -> Result<Self, String> {
        let file = object::File::parse(program).map_err(|error| format!("not a program: {error}"))?;
        let mut version = None;
        for symbol in file.symbols() {
            let name = symbol.name().unwrap_or_default().trim_matches('"');
            version = version.or_else(|| name.strip_prefix("_defmt_version_ = "));
        }
        match version {
            Some(WIRE_FORMAT) => {}
            Some(other) => return Err(format!("it logs in defmt's wire format {other}, not {WIRE_FORMAT}")),
            None => return Err("it has no symbols of a log (stripped?)".to_string()),
        }
        let section = file.section_by_name(".defmt").ok_or("its log statements are not in one section")?;
        let lines = lines(&file).unwrap_or_default();
        let mut table = Self::default();
        for symbol in file.symbols() {
            let Ok(name) = symbol.name() else { continue };
            if symbol.section_index() != Some(section.index()) || !name.starts_with('{') {
                continue;
            }
            let Ok(parsed) = serde_json::from_str::<Symbol<'_>>(name) else { continue };
            let Some(tag) = parsed.tag.strip_prefix("defmt_") else { continue };
            if tag == "timestamp" {
                table.timestamp = Some(parsed.data.into_owned());
            } else if let Ok(index) = u16::try_from(symbol.address()) {
                let at = lines.get(name).cloned();
                table
                    .strings
                    .insert(index, Text { tag: tag.to_string(), text: parsed.data.into_owned(), at });
            }
        }
        if table.strings.is_empty() {
            return Err("it has no log statements".to_string());
        }
        Ok(table)
    }

    #[cfg(test)]
    pub fn of(strings: &[(u16, &str, &str)]) -> Self {
        let text = |tag: &str, text: &str| Text { tag: tag.into(), text: text.into(), at: None };
        let strings = strings.iter().map(|(index, tag, string)| (*index, text(tag, string))).collect();
        Self { strings, timestamp: Some("{=u64:us}".to_string()) }
    }

    pub fn get(&self, index: u16) -> Option<&Text> {
        self.strings.get(&index)
    }
}

/// File and line of every log statement by the name of its symbol. A program without debug information has
/// none: the log reads without them.
fn lines(file: &object::File<'_>) -> gimli::Result<HashMap<String, String>> {
    let load = |id: gimli::SectionId| -> gimli::Result<Cow<'_, [u8]>> {
        let section = file.section_by_name(id.name());
        Ok(section.and_then(|section| section.uncompressed_data().ok()).unwrap_or_default())
    };
    let sections = DwarfSections::load(load)?;
    let dwarf = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
    let mut found = HashMap::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            if entry.tag() != constants::DW_TAG_variable {
                continue;
            }
            let text = |attribute| -> Option<String> {
                let value = dwarf.attr_string(&unit, entry.attr_value(attribute)?).ok()?;
                Some(value.to_string_lossy().into_owned())
            };
            if text(constants::DW_AT_name).as_deref() != Some("DEFMT_LOG_STATEMENT") {
                continue;
            }
            let line = entry.attr_value(constants::DW_AT_decl_line).and_then(|line| line.udata_value());
            let Some(AttributeValue::FileIndex(index)) = entry.attr_value(constants::DW_AT_decl_file) else {
                continue;
            };
            let name = unit.line_program.as_ref().and_then(|program| {
                let header = program.header();
                let file = header.file(index)?;
                let text = |value| Some(dwarf.attr_string(&unit, value).ok()?.to_string_lossy().into_owned());
                let name: String = text(file.path_name())?;
                let folder = file.directory(header).and_then(text).unwrap_or_default();
                Some(if folder.is_empty() { name } else { format!("{folder}/{name}") })
            });
            if let (Some(symbol), Some(line), Some(name)) = (text(constants::DW_AT_linkage_name), line, name)
            {
                found.insert(symbol, format!("{name}:{line}"));
            }
        }
    }
    Ok(found)
}
