//! The audit of a data set: what is in it, what is broken, and whether something other than the pictures' content gives
//! the classes away.

use super::{
    DataSpec, Item, Source,
    decode::{Format, decode, jpeg_quality},
};
use crate::{error::Result, event::Split};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

/// What [`audit`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    pub classes: Vec<String>,
    pub splits: Vec<SplitAudit>,
    /// Images whose bytes equal an earlier one's: within a split, or across the two.
    pub duplicates: Vec<Duplicate>,
    /// How well the class can be told from something that is not the picture.
    pub shortcuts: Vec<Shortcut>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SplitAudit {
    pub split: Split,
    /// Images of each class.
    pub counts: Vec<usize>,
    /// Images of each format.
    pub formats: BTreeMap<&'static str, usize>,
    /// The smallest, median and largest width and height.
    pub widths: [usize; 3],
    pub heights: [usize; 3],
    /// Images that cannot be used, and why.
    pub unreadable: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub first: (Split, String),
    pub second: (Split, String),
    /// Whether the two carry different classes.
    pub contradiction: bool,
}

/// The AUC of one class against the rest from one number, whichever direction is better: 0.5 tells nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortcut {
    pub split: Split,
    /// `file size`, `width`, `height`, `JPEG quality` or `format`.
    pub feature: &'static str,
    pub class: String,
    pub auc: f64,
}

/// From this AUC on a shortcut is worth a warning.
pub const SUSPICIOUS: f64 = 0.65;

/// What is known of one image.
struct Facts {
    target: u32,
    bytes: usize,
    size: Option<(usize, usize)>,
    format: Option<Format>,
    quality: Option<u8>,
    content: [u8; 32],
    problem: Option<String>,
}

/// Reads and decodes every image once.
pub fn audit(spec: &DataSpec) -> Result<Audit> {
    let source = spec.as_dyn();
    let listing = source.list()?;
    let examine = |split| listing.split(split).par_iter().map(|item| facts(source, item, split)).collect();
    let splits: [(Split, &[Item], Vec<Facts>); 2] =
        [Split::Train, Split::Val].map(|split| (split, listing.split(split), examine(split)));
    Ok(Audit {
        duplicates: duplicates(&splits),
        shortcuts: splits.iter().flat_map(|(split, _, facts)| shortcuts(*split, &listing.classes, facts)).collect(),
        splits: splits
            .iter()
            .map(|(split, items, facts)| summary(*split, listing.classes.len(), items, facts))
            .collect(),
        classes: listing.classes.clone(),
        warnings: listing.warnings.clone(),
    })
}

fn facts(source: &dyn Source, item: &Item, split: Split) -> Facts {
    let read = source.bytes(item, split);
    let bytes = read.as_deref().unwrap_or_default();
    let decoded = read.clone().and_then(|bytes| decode(&bytes));
    let format = Format::of(bytes);
    Facts {
        target: item.target,
        bytes: bytes.len(),
        size: decoded.as_ref().ok().map(|image| (image.width, image.height)),
        format,
        quality: (format == Some(Format::Jpeg)).then(|| jpeg_quality(bytes)).flatten(),
        content: Sha256::digest(bytes).into(),
        problem: decoded.err().map(|error| error.to_string()),
    }
}

fn summary(split: Split, classes: usize, items: &[Item], facts: &[Facts]) -> SplitAudit {
    let mut counts = vec![0; classes];
    facts.iter().filter_map(|fact| fact.target.try_into().ok()).for_each(|target: usize| counts[target] += 1);
    let mut formats = BTreeMap::new();
    for format in facts.iter().filter_map(|fact| fact.format) {
        *formats.entry(format.as_str()).or_insert(0) += 1;
    }
    let problem = |(item, fact): (&Item, &Facts)| Some((item.name.clone(), fact.problem.clone()?));
    SplitAudit {
        split,
        counts,
        formats,
        widths: spread(facts.iter().filter_map(|fact| fact.size).map(|size| size.0)),
        heights: spread(facts.iter().filter_map(|fact| fact.size).map(|size| size.1)),
        unreadable: items.iter().zip(facts).filter_map(problem).collect(),
    }
}

/// Smallest, median, largest; zeros of nothing.
fn spread(values: impl Iterator<Item = usize>) -> [usize; 3] {
    let mut values: Vec<usize> = values.collect();
    values.sort_unstable();
    let at = |index: usize| values.get(index).copied().unwrap_or(0);
    [at(0), at(values.len() / 2), at(values.len().saturating_sub(1))]
}

fn duplicates(splits: &[(Split, &[Item], Vec<Facts>)]) -> Vec<Duplicate> {
    let mut first = std::collections::HashMap::new();
    let mut found = Vec::new();
    for (split, items, facts) in splits {
        for (item, fact) in items.iter().zip(facts).filter(|(_, fact)| fact.bytes > 0) {
            let here = (*split, item);
            match first.get(&fact.content) {
                None => drop(first.insert(fact.content, here)),
                Some((at, earlier)) => found.push(Duplicate {
                    first: (*at, earlier.name.clone()),
                    second: (*split, item.name.clone()),
                    contradiction: earlier.target != item.target,
                }),
            }
        }
    }
    found
}

/// Every feature that is not the same for all images, against every class (of two classes, the second).
fn shortcuts(split: Split, classes: &[String], facts: &[Facts]) -> Vec<Shortcut> {
    let usable: Vec<&Facts> = facts.iter().filter(|fact| fact.problem.is_none()).collect();
    let first = usize::from(classes.len() == 2);
    let mut found = Vec::new();
    for (index, class) in classes.iter().enumerate().skip(first) {
        let labels: Vec<bool> = usable.iter().map(|fact| fact.target as usize == index).collect();
        let size = |fact: &Facts| fact.size.unwrap_or_default();
        let features: [(&str, Vec<f64>); 5] = [
            ("file size", usable.iter().map(|fact| fact.bytes as f64).collect()),
            ("width", usable.iter().map(|fact| size(fact).0 as f64).collect()),
            ("height", usable.iter().map(|fact| size(fact).1 as f64).collect()),
            ("JPEG quality", usable.iter().map(|fact| f64::from(fact.quality.unwrap_or(0))).collect()),
            ("format", share_by_format(&usable, &labels)),
        ];
        for (feature, values) in features {
            if let Some(auc) = auc(&values, &labels) {
                found.push(Shortcut { split, feature, class: class.clone(), auc: auc.max(1.0 - auc) });
            }
        }
    }
    found
}

/// Each image's format as a number: the class's share among the images of that format.
fn share_by_format(facts: &[&Facts], labels: &[bool]) -> Vec<f64> {
    let mut counts: BTreeMap<Option<Format>, (f64, f64)> = BTreeMap::new();
    for (fact, &label) in facts.iter().zip(labels) {
        let count = counts.entry(fact.format).or_default();
        count.0 += f64::from(label);
        count.1 += 1.0;
    }
    facts.iter().map(|fact| counts.get(&fact.format).map_or(0.0, |(hits, all)| hits / all)).collect()
}

/// Area under the ROC curve by ranks, ties shared (Mann & Whitney 1947); `None` where one side is empty.
fn auc(values: &[f64], labels: &[bool]) -> Option<f64> {
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    let negatives = labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut rank, mut sum) = (0.0, 0.0);
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let size = tied.len() as f64;
        sum += tied.iter().filter(|&&index| labels[index]).count() as f64 * (rank + (size + 1.0) / 2.0);
        rank += size;
    }
    Some((sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

impl Audit {
    /// Whether some image cannot be used.
    pub fn has_unreadable(&self) -> bool {
        self.splits.iter().any(|split| !split.unreadable.is_empty())
    }
}

impl Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for split in &self.splits {
            split.show(&self.classes, f)?;
        }
        show_list(
            f,
            "unreadable images",
            self.splits.iter().flat_map(|split| split.unreadable.iter()),
            |(name, why)| format!("{name}: {why}"),
        )?;
        show_list(f, "exact duplicates", self.duplicates.iter(), Duplicate::line)?;
        writeln!(f, "Can the class be told without looking at the picture? (AUC; 0.5 is no)")?;
        for Shortcut { split, feature, class, auc } in &self.shortcuts {
            let mark = if *auc >= SUSPICIOUS { "  <- a model may learn this instead of the picture" } else { "" };
            writeln!(f, "  {:<6}{feature:<14}{class:<14}{auc:.3}{mark}", split.as_str())?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "Warning: {warning}"))
    }
}

impl SplitAudit {
    fn show(&self, classes: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.counts.iter().sum();
        writeln!(f, "{}: {total} images", self.split.as_str())?;
        for (class, count) in classes.iter().zip(&self.counts) {
            writeln!(f, "  {class:<20}{count:>8}  {:>5.1} %", 100.0 * *count as f64 / total.max(1) as f64)?;
        }
        let formats: Vec<String> = self.formats.iter().map(|(format, count)| format!("{format} {count}")).collect();
        writeln!(f, "  {:<20}{}", "formats", formats.join(", "))?;
        for (name, [low, middle, high]) in [("width", self.widths), ("height", self.heights)] {
            writeln!(f, "  {name:<20}{low} to {high}, median {middle}")?;
        }
        Ok(())
    }
}

impl Duplicate {
    fn line(&self) -> String {
        let (first, second) = (&self.first, &self.second);
        let note = if self.contradiction { "  <- with different classes" } else { "" };
        format!("{}/{} = {}/{}{note}", first.0.as_str(), first.1, second.0.as_str(), second.1)
    }
}

/// A heading with the count, and the first ten.
fn show_list<T>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    all: impl Iterator<Item = T>,
    line: impl Fn(T) -> String,
) -> fmt::Result {
    let lines: Vec<String> = all.map(line).collect();
    writeln!(f, "{what}: {}", if lines.is_empty() { "none".to_string() } else { lines.len().to_string() })?;
    lines.iter().take(10).try_for_each(|line| writeln!(f, "  {line}"))?;
    if lines.len() > 10 { writeln!(f, "  and {} more", lines.len() - 10) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::auc;

    #[test]
    fn auc_by_ranks() {
        let labels = [false, false, true, true];
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &labels), Some(0.75));
        assert_eq!(auc(&[1.0; 4], &labels), Some(0.5));
        assert_eq!(auc(&[4.0, 3.0, 2.0, 1.0], &labels), Some(0.0));
        assert_eq!(auc(&[1.0], &[true]), None);
    }
}
