use super::{
    Item, Listing, OnBadImage, Source,
    labels::{self, Row, some_of},
};
use crate::{
    error::{Context, Error, Result},
    event::Split,
};
use garde::Validate;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
};

/// The layout of the multi-ffdi competition: folders `trainset` and `valset`, label files `trainset_label.txt` and
/// `valset_label.txt` with the header `img_name,target` (or `img_path,target`). Targets are class numbers from 0; of two
/// classes 0 is real and 1 is fake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Ffdi {
    /// The folder that holds the image folders and the label files.
    #[garde(skip)]
    pub root: PathBuf,
    /// Only the first so many rows of each split.
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Another label file of the training images, relative to `root`.
    #[garde(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_labels: Option<PathBuf>,
    /// Another label file of the validation images, relative to `root`.
    #[garde(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_labels: Option<PathBuf>,
    /// The column of the label files that says which video or identity an image belongs to: images that share it never
    /// stand on both sides of a fold.
    #[garde(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What becomes of images that are missing or cannot be decoded.
    #[garde(skip)]
    pub on_bad_image: OnBadImage,
}

/// The names one split goes by.
struct Names {
    folder: &'static str,
    labels: [&'static str; 2],
}

fn names(split: Split) -> Names {
    match split {
        Split::Train => Names { folder: "trainset", labels: ["trainset_label.txt", "train_label.txt"] },
        _ => Names { folder: "valset", labels: ["valset_label.txt", "val_label.txt"] },
    }
}

impl Ffdi {
    fn label_file(&self, split: Split) -> Result<PathBuf> {
        let given = if split == Split::Train { &self.train_labels } else { &self.val_labels };
        let candidates: Vec<PathBuf> = match given {
            Some(file) => vec![self.root.join(file)],
            None => names(split).labels.iter().map(|name| self.root.join(name)).collect(),
        };
        candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
            let wanted: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
            Error::user(format!("no label file {}; {}", wanted.join(" or "), found_in(&self.root)))
        })
    }

    /// One split's rows, checked against the folder, and how many of how many were missing.
    fn split(&self, split: Split, warnings: &mut Vec<String>) -> Result<Rows> {
        let file = self.label_file(split)?;
        let place = || file.display().to_string();
        let mut rows = labels::read(&file, self.group.as_deref())?;
        if rows.first().is_some_and(|row| row.target.is_none()) {
            return Err(Error::user(format!("{}: no column target in the header", place())));
        }
        if rows.is_empty() {
            return Err(Error::user(format!("{}: no images below the header", place())));
        }
        let counts = class_counts(&rows).context(place)?;
        rows.truncate(self.limit.unwrap_or(usize::MAX));
        let folder = self.root.join(names(split).folder);
        for row in &mut rows {
            row.name = inside(&row.name, names(split).folder).context(|| format!("{}:{}", place(), row.line))?;
        }
        no_duplicates(&rows).context(place)?;
        let items = self.existing(rows, &folder, &file, warnings)?;
        Ok(Rows { items, counts })
    }

    /// Leaves out, or reports together, the images that are not there.
    fn existing(&self, rows: Vec<Row>, folder: &Path, file: &Path, warnings: &mut Vec<String>) -> Result<Vec<Item>> {
        if !folder.is_dir() {
            return Err(Error::user(format!("no image folder {}; {}", folder.display(), found_in(&self.root))));
        }
        // Links are followed: sets are made of them, one pool of images for many splits.
        let there: Vec<bool> = rows.par_iter().map(|row| folder.join(&row.name).is_file()).collect();
        let missing: Vec<String> =
            rows.iter().zip(&there).filter(|(_, there)| !**there).map(|(row, _)| row.name.clone()).collect();
        if !missing.is_empty() {
            let what = format!("{} names images that {} does not hold: ", file.display(), folder.display());
            let text = what + &some_of("missing image", &missing);
            match self.on_bad_image {
                OnBadImage::Error => {
                    return Err(Error::user(text + "\n  (on_bad_image = \"skip\" leaves them out)"));
                }
                OnBadImage::Skip => warnings.push(format!("left out: {text}")),
            }
        }
        let kept = rows.into_iter().zip(there).filter(|(_, there)| *there);
        let item = |row: Row| Item { name: row.name, target: row.target.unwrap_or_default(), group: row.group };
        Ok(kept.map(|(row, _)| item(row)).collect())
    }
}

/// The images of one split, and how many the whole label file has of each class.
struct Rows {
    items: Vec<Item>,
    counts: Vec<usize>,
}

impl Source for Ffdi {
    fn list(&self) -> Result<Listing> {
        if self.root.as_os_str().is_empty() {
            return Err(Error::user("data.ffdi needs `root`, the folder with trainset/ and valset/"));
        }
        let mut warnings = Vec::new();
        let train = self.split(Split::Train, &mut warnings)?;
        let val = self.split(Split::Val, &mut warnings)?;
        let classes = class_names(&train.counts).context(|| self.root.display().to_string())?;
        if let Some(extra) = val.counts.iter().skip(classes.len()).position(|&count| count > 0) {
            let extra = extra + classes.len();
            return Err(Error::user(format!(
                "{}: target {extra} in the validation labels, but the training labels know only 0 to {}",
                self.root.display(),
                classes.len() - 1
            )));
        }
        Ok(Listing { classes, train: train.items, val: val.items, warnings })
    }

    fn path(&self, item: &Item, split: Split) -> Option<PathBuf> {
        Some(self.root.join(names(split).folder).join(&item.name))
    }

    fn on_bad_image(&self) -> OnBadImage {
        self.on_bad_image
    }
}

/// Images of each class number; refuses numbers far beyond the number of images.
fn class_counts(rows: &[Row]) -> Result<Vec<usize>> {
    let mut counts = Vec::new();
    for row in rows {
        let target = row.target.unwrap_or_default() as usize;
        if target >= rows.len().max(2) {
            return Err(Error::user(format!("line {}: class {target} among {} images", row.line, rows.len())));
        }
        if counts.len() <= target {
            counts.resize(target + 1, 0);
        }
        counts[target] += 1;
    }
    Ok(counts)
}

/// `real` and `fake` of two classes; otherwise the numbers. Every class up to the largest must have images.
fn class_names(counts: &[usize]) -> Result<Vec<String>> {
    if let Some(empty) = counts.iter().position(|&count| count == 0) {
        return Err(Error::user(format!(
            "the training labels reach to class {} but have no image of class {empty}",
            counts.len() - 1
        )));
    }
    match counts.len() {
        0 | 1 => Err(Error::user("the training labels have only class 0: nothing to tell apart")),
        2 => Ok(vec!["real".to_string(), "fake".to_string()]),
        n => Ok((0..n).map(|class| class.to_string()).collect()),
    }
}

/// The name below the image folder: no absolute paths, no `..`; the organisers' `trainset/x.jpg` loses its folder.
fn inside(name: &str, folder: &str) -> Result<String> {
    let mut parts = Vec::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => (),
            _ => return Err(Error::user(format!("`{name}` leaves the image folder"))),
        }
    }
    if parts.len() > 1 && parts[0] == folder {
        parts.remove(0);
    }
    match parts.is_empty() {
        true => Err(Error::user(format!("`{name}` is no file name"))),
        false => Ok(parts.join("/")),
    }
}

fn no_duplicates(rows: &[Row]) -> Result<()> {
    let mut first = HashMap::with_capacity(rows.len());
    let mut twice = Vec::new();
    for row in rows {
        if let Some(line) = first.insert(row.name.as_str(), row.line) {
            twice.push(format!("line {}: {} stands in line {line} already", row.line, row.name));
        }
    }
    match twice.is_empty() {
        true => Ok(()),
        false => Err(Error::user(some_of("image named twice", &twice))),
    }
}

/// What a folder holds, for messages about what it does not.
fn found_in(folder: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return format!("there is no folder {}", folder.display());
    };
    let mut names: Vec<String> =
        entries.flatten().take(1000).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.truncate(12);
    match names.is_empty() {
        true => format!("{} is empty", folder.display()),
        false => format!("{} holds {}", folder.display(), names.join(", ")),
    }
}
