//! The audit of a data set: what is in it, what is broken or stands twice, and whether something other than the pictures'
//! content gives the classes away.

mod shortcuts;
mod show;
mod twins;

pub use shortcuts::{SUSPICIOUS, Shortcut};
pub use twins::{Duplicate, Look, NEAR};

use super::{
    DataSpec, Item, OnBadImage, Source,
    decode::{Format, decode, jpeg_quality},
};
use crate::{error::Result, event::Split, tensor::Image};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use twins::Placed;

/// What [`audit`] found.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Audit {
    pub classes: Vec<String>,
    pub splits: Vec<SplitAudit>,
    /// Images whose bytes equal an earlier one's: within a split, or across the two.
    pub duplicates: Vec<Duplicate>,
    /// Images that look like an earlier one, though their bytes differ: perceptual hashes within [`NEAR`] bits.
    pub near_duplicates: Vec<Duplicate>,
    /// How well the class can be told from something that is not the picture.
    pub shortcuts: Vec<Shortcut>,
    /// What to know before believing a number, and what to do about it.
    pub warnings: Vec<String>,
    /// Whether nothing starts on these data: images are unreadable, and `on_bad_image` is `error`.
    pub unusable: bool,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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

/// What is known of one image.
#[derive(Clone)]
struct Facts {
    target: u32,
    bytes: usize,
    size: Option<(usize, usize)>,
    format: Option<Format>,
    quality: Option<u8>,
    /// Mean of each channel.
    mean: [f64; 3],
    look: Option<Look>,
    content: [u8; 32],
    problem: Option<String>,
}

/// Reads and decodes every image once.
pub fn audit(spec: &DataSpec) -> Result<Audit> {
    let source = spec.as_dyn();
    let listing = source.list()?;
    let examine =
        |split| -> Vec<Facts> { listing.split(split).par_iter().map(|item| facts(source, item, split)).collect() };
    let [train, val] = [Split::Train, Split::Val].map(examine);
    let splits = [(Split::Train, &train), (Split::Val, &val)];
    let images: Vec<Placed> = splits
        .into_iter()
        .flat_map(|(split, facts)| {
            listing.split(split).iter().zip(facts).map(move |(item, facts)| (split, item, facts))
        })
        .map(|(split, item, facts)| Placed { split, item, facts })
        .collect();
    let mut audit = Audit {
        duplicates: twins::exact(&images),
        near_duplicates: twins::near(&images),
        shortcuts: shortcuts::shortcuts(&listing.classes, &train, &val),
        splits: splits
            .into_iter()
            .map(|(split, facts)| summary(split, listing.classes.len(), listing.split(split), facts))
            .collect(),
        classes: listing.classes.clone(),
        warnings: listing.warnings.clone(),
        unusable: false,
    };
    audit.unusable = audit.has_unreadable() && source.on_bad_image() == OnBadImage::Error;
    audit.warn();
    Ok(audit)
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
        mean: decoded.as_ref().map(mean).unwrap_or_default(),
        look: decoded.as_ref().ok().and_then(|image| Look::of(image).ok()),
        content: Sha256::digest(bytes).into(),
        problem: decoded.err().map(|error| error.to_string()),
    }
}

fn mean(image: &Image) -> [f64; 3] {
    let pixels = image.pixels.as_chunks::<3>().0;
    let sums = pixels.iter().fold([0u64; 3], |sums, pixel| [0, 1, 2].map(|c| sums[c] + u64::from(pixel[c])));
    sums.map(|sum| sum as f64 / pixels.len().max(1) as f64)
}

fn summary(split: Split, classes: usize, items: &[Item], facts: &[Facts]) -> SplitAudit {
    let mut counts = vec![0; classes];
    items.iter().for_each(|item| counts[item.target as usize] += 1);
    let mut formats = BTreeMap::new();
    for format in facts.iter().filter_map(|fact| fact.format) {
        *formats.entry(format.as_str()).or_default() += 1;
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

impl Audit {
    /// Whether some image cannot be used.
    pub fn has_unreadable(&self) -> bool {
        self.splits.iter().any(|split| !split.unreadable.is_empty())
    }

    /// Says in words what the numbers mean for an experiment.
    fn warn(&mut self) {
        let mut warnings = Vec::new();
        let unreadable: usize = self.splits.iter().map(|split| split.unreadable.len()).sum();
        if self.unusable {
            let what = "replace them, or leave them out with on_bad_image = \"skip\"";
            warnings.push(format!("nothing starts on {unreadable} unreadable images: {what}"));
        }
        let twins = || self.duplicates.iter().chain(&self.near_duplicates);
        let leaked = twins().filter(|twin| twin.first.0 != twin.second.0).count();
        if leaked > 0 {
            let what = "validation numbers are too good; take these images out of one split";
            warnings.push(format!("{leaked} images stand in both splits: {what}"));
        }
        let contradictions = twins().filter(|twin| twin.contradiction).count();
        if contradictions > 0 {
            warnings.push(format!("{contradictions} images stand twice with different classes: correct their labels"));
        }
        for Shortcut { feature, class, auc, .. } in self.shortcuts.iter().filter(|shortcut| shortcut.is_suspicious()) {
            let what = match *feature {
                "mean colour" => "color_jitter makes it worth less",
                "width" | "height" => "crop or resize all images alike before anything else",
                _ => "encode all images alike, or augment with JPEG compression",
            };
            warnings.push(format!(
                "{feature} alone tells `{class}` with an AUC of {auc:.3}: a model may learn this instead of the picture; \
                 {what}"
            ));
        }
        warnings.extend(self.shift());
        self.warnings.extend(warnings);
    }

    /// A class whose share differs between the splits by more than a tenth.
    fn shift(&self) -> Option<String> {
        let [train, val] = &self.splits[..] else { return None };
        let share = |split: &SplitAudit, class: usize| {
            split.counts[class] as f64 / split.counts.iter().sum::<usize>().max(1) as f64
        };
        let moved = |class: &usize| (share(train, *class) - share(val, *class)).abs() > 0.1;
        let class = (0..self.classes.len()).rev().find(moved)?;
        Some(format!(
            "`{}` is {:.0} % of train and {:.0} % of val: compare by auc, as accuracy at one half moves with the share",
            self.classes[class],
            100.0 * share(train, class),
            100.0 * share(val, class)
        ))
    }
}
