//! The groups that a source says its classes belong to.

use std::collections::HashMap;

use csp_models::labels::Taxon;

/// Ranks as sources name them, broadest first.
pub(crate) const RANKS: [&str; 7] =
    ["kingdom", "phylum", "class", "order", "family", "genus", "supercategory"];

/// The groups above each class by the class's name, broadest first.
pub(crate) type Lineages = HashMap<String, Vec<Taxon>>;

/// The lineage of (rank, name) pairs. A supercategory only counts where there is nothing better: in
/// iNaturalist it repeats one of the others. A name equal to the class's own is no group above it.
pub(crate) fn of<'a>(class: &str, groups: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Taxon> {
    let mut taxa: Vec<(usize, Taxon)> = groups
        .filter_map(|(rank, name)| {
            let order = RANKS.iter().position(|known| *known == rank)?;
            let name = name.trim();
            let says = !name.is_empty() && name != class;
            says.then(|| (order, Taxon { rank: rank.into(), name: name.into() }))
        })
        .collect();
    taxa.sort_by_key(|(order, _)| *order);
    if taxa.len() > 1 {
        taxa.retain(|(_, taxon)| taxon.rank != "supercategory");
    }
    taxa.into_iter().map(|(_, taxon)| taxon).collect()
}
