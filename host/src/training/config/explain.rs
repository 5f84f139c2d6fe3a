//! The settings as a TOML file that explains itself: the comments are the doc comments of the
//! settings' own structs, read from their source, so that there is one place to write them.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::TrainConfig;

/// The files that declare settings.
const SOURCES: [&str; 17] = [
    include_str!("mod.rs"),
    include_str!("augment.rs"),
    include_str!("backbone.rs"),
    include_str!("checkpoint.rs"),
    include_str!("finetune.rs"),
    include_str!("image.rs"),
    include_str!("input.rs"),
    include_str!("joint.rs"),
    include_str!("location.rs"),
    include_str!("modulation.rs"),
    include_str!("pretrain.rs"),
    include_str!("../losses/mc.rs"),
    include_str!("../losses/nce.rs"),
    include_str!("../losses/presence.rs"),
    include_str!("../sampler.rs"),
    include_str!("../../data/split.rs"),
    include_str!("../../../../models/src/nn/head/mod.rs"),
];

/// A field of a struct, or a variant of an enum.
#[derive(Debug)]
struct Entry {
    /// As it stands in a file.
    name: String,
    /// Its type; of a variant empty.
    of: String,
    doc: Vec<String>,
}

/// Structs and enums by name.
type Declared = BTreeMap<String, Vec<Entry>>;

impl TrainConfig {
    /// The settings as TOML with an explanation of each; reads back as the same settings.
    ///
    /// # Errors
    /// A value that TOML cannot hold.
    pub fn explained(&self) -> Result<String, toml::ser::Error> {
        let mut out =
            "# Settings of csp-host train. Every key may be left out; these are the values then.\n".into();
        let declared = SOURCES.into_iter().flat_map(declarations).collect();
        let mut table = Table::try_from(self)?;
        // a run leaves out the section that changes nothing; here it is to be seen
        table.insert("split".into(), Table::try_from(&self.split)?.into());
        section(&declared, "", "TrainConfig", &table, &mut out)?;
        Ok(out)
    }
}

fn section(
    declared: &Declared,
    path: &str,
    name: &str,
    table: &Table,
    out: &mut String,
) -> Result<(), toml::ser::Error> {
    let entries = declared.get(name).map_or(&[][..], |entries| entries);
    let comment = |out: &mut String, line: &str| *out += format!("# {line}").trim_end().to_string().as_str();
    let explain = |out: &mut String, entry: &Entry| {
        for line in &entry.doc {
            comment(out, line);
            out.push('\n');
        }
        for choice in choices(declared, &entry.of) {
            comment(out, &choice);
            out.push('\n');
        }
    };
    for entry in entries.iter().filter(|entry| !matches!(table.get(&entry.name), Some(Value::Table(_)))) {
        explain(out, entry);
        match table.get(&entry.name) {
            Some(value) => *out += &format!("{} = {value}\n", entry.name),
            None => *out += &format!("# {} =\n", entry.name),
        }
    }
    for entry in entries {
        let Some(Value::Table(inner)) = table.get(&entry.name) else { continue };
        let path = if path.is_empty() { entry.name.clone() } else { format!("{path}.{}", entry.name) };
        out.push('\n');
        explain(out, entry);
        *out += &format!("[{path}]\n");
        if declared.contains_key(&entry.of) {
            section(declared, &path, &entry.of, inner, out)?;
        } else {
            *out += &toml::to_string(inner)?;
        }
    }
    Ok(())
}

/// What an enumerated setting can be, a line each.
fn choices(declared: &Declared, of: &str) -> Vec<String> {
    let entries = declared.get(of).map_or(&[][..], |entries| entries);
    let variants = entries.iter().filter(|entry| entry.of.is_empty());
    variants.map(|entry| format!("  \"{}\": {}", entry.name, entry.doc.join(" ")).trim_end().into()).collect()
}

/// The structs and enums of a source file, as rustfmt writes them: members indented by four spaces.
fn declarations(source: &str) -> Declared {
    let mut declared = Declared::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let kind = ["pub struct ", "pub enum "].into_iter().find_map(|kind| line.strip_prefix(kind));
        let Some(name) = kind.and_then(|rest| rest.strip_suffix(" {")) else { continue };
        let (mut doc, mut renamed, mut entries) = (Vec::new(), None, Vec::new());
        for line in lines.by_ref().take_while(|line| *line != "}") {
            let Some(member) = line.strip_prefix("    ").filter(|member| !member.starts_with(' ')) else {
                continue;
            };
            if let Some(text) = member.strip_prefix("///") {
                doc.push(plain(text.trim()));
            } else if let Some(rest) = member.strip_prefix("#[serde(rename = \"") {
                renamed = rest.split('"').next().map(String::from);
            } else if !member.starts_with(['#', '}']) {
                // of a variant with fields its name alone
                let member = member.trim_end_matches(',').trim_end_matches(" {");
                let (member, of) =
                    member.strip_prefix("pub ").and_then(|m| m.split_once(": ")).unwrap_or((member, ""));
                let of = of.rsplit("::").next().unwrap_or(of).to_string();
                let spelled = if of.is_empty() { kebab(member) } else { member.to_string() };
                let name = renamed.take().unwrap_or(spelled);
                entries.push(Entry { name, of, doc: std::mem::take(&mut doc) });
            }
        }
        declared.insert(name.into(), entries);
    }
    declared
}

/// Documentation without its links: [`a::B`](c) is B.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((target, after)) = link.split_once("`]") else { break };
        out += before;
        out += target.rsplit("::").next().unwrap_or(target);
        rest = match after.strip_prefix('(').and_then(|after| after.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    (out + rest).replace('`', "")
}

fn kebab(camel: &str) -> String {
    let mut out = String::new();
    for c in camel.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_as_what_it_explains() {
        let mut config = TrainConfig::default();
        assert_eq!(toml::from_str::<TrainConfig>(&config.explained().unwrap()).unwrap(), config);
        config.pretrain.queue = 7;
        config.input.size = Some(64);
        assert_eq!(toml::from_str::<TrainConfig>(&config.explained().unwrap()).unwrap(), config);
        config.split = toml::from_str("by = \"block:50\"\nval = 0.3\nseed = 4").unwrap();
        assert_eq!(toml::from_str::<TrainConfig>(&config.explained().unwrap()).unwrap(), config);
    }

    #[test]
    fn the_split_is_a_section_to_fill_in() {
        let text = TrainConfig::default().explained().unwrap();
        assert!(text.contains("\n[split]\n") && text.contains("\nby = \"given\"\n"), "{text}");
        assert!(!text.contains("# split ="), "{text}");
        let filled = text.replace("by = \"given\"", "by = \"block:100\"");
        let config: TrainConfig = toml::from_str(&filled).unwrap();
        assert_eq!(config.split.by.to_string(), "block:100");
        for way in ["random", "block", "camera"] {
            assert!(text.contains(&format!("#   \"{way}\": ")), "{way} is not explained in\n{text}");
        }
    }

    #[test]
    fn every_setting_is_there_and_explained() {
        let text = TrainConfig::default().explained().unwrap();
        let (mut at, mut before, mut missing, mut seen) = (String::new(), "", Vec::new(), Vec::new());
        for line in text.lines() {
            if let Some(header) = line.strip_prefix('[') {
                at = header.trim_end_matches(']').to_string();
            }
            let key = line.trim_start_matches("# ").split_once(" =").map_or(line, |(key, _)| key);
            let setting = line.contains(" =") && key.chars().all(|c| c.is_alphanumeric() || c == '_');
            if (setting || line.starts_with('[')) && !before.starts_with('#') && at != "location.encoder" {
                missing.push(format!("{at} {line}"));
            }
            if setting || line.starts_with('[') {
                seen.push(format!("{at}.{key}"));
            }
            before = if setting { "" } else { line };
        }
        assert_eq!(missing, Vec::<String>::new(), "add the file that declares it to SOURCES");
        for key in ["input.size", "pretrain.queue", "pretrain.mc.tau_batch", "finetune.loss.users"] {
            assert!(seen.iter().any(|seen| seen == key), "{key} is not in\n{text}");
        }
        assert!(text.contains("\"land\": Uniform on the land"), "{text}");
        assert!(text.contains("\"mobilenet-v2\""), "{text}");
    }
}
