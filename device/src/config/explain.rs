//! The configuration as a file that teaches. Its comments are the doc comments of the structs, read
//! from their source, so that there is one place to write them.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::TrapConfig;

const SOURCES: [&str; 3] = [include_str!("mod.rs"), include_str!("sections.rs"), include_str!("privacy.rs")];

/// A field of a struct, or a choice of an enum.
struct Member {
    name: String,
    /// Its type; empty for a choice.
    of: String,
    doc: Vec<String>,
}

pub(super) fn explained(config: &TrapConfig) -> Result<String, toml::ser::Error> {
    let declared: BTreeMap<String, Vec<Member>> = SOURCES.into_iter().flat_map(declarations).collect();
    let values = Table::try_from(config)?;
    let mut out = String::from(
        "# The configuration of a trap: csp-device run --config trap.toml\n\
         # Every key may be left out and then has the value shown here; a key that is commented out has none.\n",
    );
    for section in declared.get("TrapConfig").into_iter().flatten() {
        out.push('\n');
        comment(&mut out, &section.doc);
        out += &format!("[{}]\n", section.name);
        let inner = values.get(&section.name).and_then(Value::as_table);
        for member in declared.get(&section.of).into_iter().flatten() {
            comment(&mut out, &member.doc);
            let of = member.of.trim_start_matches("Option<").trim_end_matches('>');
            for choice in declared.get(of).into_iter().flatten().filter(|choice| choice.of.is_empty()) {
                comment(&mut out, &[format!("  \"{}\": {}", choice.name, choice.doc.join(" "))]);
            }
            match inner.and_then(|inner| inner.get(&member.name)) {
                Some(value) => out += &format!("{} = {}\n", member.name, rounded(value)),
                None => out += &format!("# {} = {}\n", member.name, example(of)),
            }
        }
    }
    Ok(out)
}

fn comment(out: &mut String, lines: &[String]) {
    for line in lines {
        *out += format!("# {line}").trim_end();
        out.push('\n');
    }
}

/// What a value of that type looks like.
fn example(of: &str) -> &'static str {
    match of {
        "PathBuf" | "String" => "\"…\"",
        "f64" | "f32" => "0.0",
        _ => "0",
    }
}

/// A value as a person would write it: f32 0.4 is not 0.4000000059604645.
fn rounded(value: &Value) -> String {
    match value {
        Value::Float(float) if f64::from(*float as f32) == *float => format!("{:?}", *float as f32),
        Value::Array(values) => format!("[{}]", values.iter().map(rounded).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Structs and enums of a source file as rustfmt writes them: members indented by four spaces.
fn declarations(source: &str) -> Vec<(String, Vec<Member>)> {
    let mut found = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "));
        let Some(name) = rest.and_then(|rest| rest.strip_suffix(" {")) else { continue };
        let (mut doc, mut members) = (Vec::new(), Vec::new());
        for line in lines.by_ref().take_while(|line| *line != "}") {
            let line = line.trim();
            if let Some(text) = line.strip_prefix("///") {
                doc.push(text.trim().replace('`', ""));
            } else if !line.starts_with('#') {
                let line = line.trim_end_matches(',');
                let field = line.strip_prefix("pub ").and_then(|field| field.split_once(": "));
                let (name, of) =
                    field.map_or_else(|| (line.to_lowercase(), ""), |(name, of)| (name.into(), of));
                members.push(Member { name, of: of.into(), doc: std::mem::take(&mut doc) });
            }
        }
        found.push((name.into(), members));
    }
    found
}
