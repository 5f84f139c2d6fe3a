//! Classes that are no animals: people, vehicles, empty frames. Privacy and the allow-list ask for them.
//!
//! A class belongs to a group by its name (`human`, `Person`, `homo sapiens`, a SpeciesNet label that
//! ends in `;human`), by its taxonomy (genus *Homo*), or because the owner lists it.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::labels::{Label, Labels};

/// What a class is, when it is no animal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// People.
    Human,
    /// What people drive or ride.
    Vehicle,
    /// Nothing there.
    Blank,
}

impl Group {
    /// `human`, `vehicle`, `blank`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Vehicle => "vehicle",
            Self::Blank => "blank",
        }
    }
}

/// A name that holds one of these words is of a person.
const HUMAN_WORDS: &[&str] = &["human", "humans", "person", "persons", "people", "pedestrian", "homo"];
/// Whole names: `van` is a word of too many animals' names.
const VEHICLES: &[&str] = &[
    "vehicle",
    "vehicles",
    "car",
    "truck",
    "van",
    "bus",
    "tractor",
    "motorcycle",
    "motorbike",
    "quad",
    "atv",
    "bicycle",
    "bike",
    "boat",
    "snowmobile",
];
const BLANKS: &[&str] = &["blank", "empty", "nothing", "none", "no animal", "background"];

/// Names the owner adds to the groups: of classes, or of taxa above them; case does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Groups {
    /// More people (`ranger`, `hiker`).
    pub human: Vec<String>,
    /// More vehicles.
    pub vehicle: Vec<String>,
    /// More names of empty frames.
    pub blank: Vec<String>,
}

impl Groups {
    /// The group of a class; what the owner lists comes first.
    pub fn of(&self, label: &Label) -> Option<Group> {
        let listed =
            [(&self.human, Group::Human), (&self.vehicle, Group::Vehicle), (&self.blank, Group::Blank)];
        let owners = listed.into_iter().find(|(names, _)| names.iter().any(|name| named(label, name)));
        owners.map(|(_, group)| group).or_else(|| built_in(label))
    }

    /// The group of each class, in the order of the labels.
    pub fn of_each(&self, labels: &Labels) -> Vec<Option<Group>> {
        labels.0.iter().map(|label| self.of(label)).collect()
    }

    /// The first listed name that stands for no class: a typo would leave people in view.
    pub fn unknown(&self, labels: &Labels) -> Option<&str> {
        let names = self.human.iter().chain(&self.vehicle).chain(&self.blank);
        names.map(String::as_str).find(|name| !labels.0.iter().any(|label| named(label, name)))
    }
}

/// True when a class or a taxon above it has that name; case does not matter.
pub fn named(label: &Label, name: &str) -> bool {
    let name = name.trim().to_lowercase();
    label.name.to_lowercase() == name || label.lineage.iter().any(|taxon| taxon.name.to_lowercase() == name)
}

fn built_in(label: &Label) -> Option<Group> {
    let name = plain(&label.name);
    let words: Vec<&str> = name.split(' ').collect();
    let person = words.iter().enumerate().any(|(at, word)| {
        let denied =
            at.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|word| *word == "non");
        HUMAN_WORDS.contains(word) && !denied
    });
    let homo =
        label.lineage.iter().any(|taxon| matches!(plain(&taxon.name).as_str(), "homo" | "homo sapiens"));
    if person || homo {
        return Some(Group::Human);
    }
    let whole = |names: &[&str]| names.contains(&name.as_str());
    if whole(VEHICLES) {
        return Some(Group::Vehicle);
    }
    whole(BLANKS).then_some(Group::Blank)
}

/// The last part of a `;`-separated name, lower case, words separated by one space.
fn plain(name: &str) -> String {
    let last = name.rsplit(';').next().unwrap_or(name);
    let spaced: String = last.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Taxon;
    use alloc::vec;

    #[test]
    fn people_and_vehicles_are_known_by_name_and_kinship() {
        let of = |name: &str| Groups::default().of(&Label::new(name));
        for name in [
            "human",
            "Person",
            "Homo sapiens",
            "homo_sapiens",
            "x;mammalia;primates;hominidae;homo;sapiens;human",
        ] {
            assert_eq!(of(name), Some(Group::Human), "{name}");
        }
        assert_eq!(of("Vehicle"), Some(Group::Vehicle));
        assert_eq!(of("no_animal"), Some(Group::Blank));
        for animal in ["lynx", "Van Dam's vanga", "non-human primate", "homogeneous snail", "carp"] {
            assert_eq!(of(animal), None, "{animal}");
        }
        let hunter = Label {
            name: "hunter".into(),
            lineage: vec![Taxon { rank: "genus".into(), name: "Homo".into() }],
            placed: true,
        };
        assert_eq!(Groups::default().of(&hunter), Some(Group::Human));
    }

    #[test]
    fn the_owner_adds_names_and_typos_are_found() {
        let labels = Labels(vec![Label::new("Ranger"), Label::new("lynx")]);
        let mut groups = Groups { human: vec!["ranger".into()], ..Groups::default() };
        assert_eq!(groups.of(&labels.0[0]), Some(Group::Human));
        assert_eq!(groups.unknown(&labels), None);
        groups.vehicle.push("jeeep".into());
        assert_eq!(groups.unknown(&labels), Some("jeeep"));
    }
}
