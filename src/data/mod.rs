//! Data sets: where images and labels come from, decoding, the decoded cache, and the order of batches.

pub mod appended;
pub mod batches;
mod cache;
mod channels;
pub mod check;
mod contents;
mod dataset;
pub mod decode;
pub mod folds;
pub mod labels;
mod resident;
pub mod sampler;
mod seen;
pub mod synth;
pub mod views;

use crate::{
    error::{Context, Result},
    event,
};
use std::path::PathBuf;

pub use crate::tensor::{Interpolation, resize};
pub use channels::Channels;
pub use dataset::{Dataset, Split, fingerprint, open};
pub use folds::{Fold, Over, Subset};

/// One image of a split, not yet decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// How messages, predictions and reports call it; unique within its split.
    pub name: String,
    /// Index into [`Listing::classes`].
    pub target: u32,
    /// The identity or video it belongs to, where the source knows: folds keep a group together.
    pub group: Option<String>,
}

/// What a source holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub classes: Vec<String>,
    pub train: Vec<Item>,
    pub val: Vec<Item>,
    /// What was left out, and why.
    pub warnings: Vec<String>,
}

impl Listing {
    /// The images of one split; none of `Test`.
    pub fn split(&self, split: event::Split) -> &[Item] {
        match split {
            event::Split::Train => &self.train,
            event::Split::Val => &self.val,
            event::Split::Test => &[],
        }
    }
}

/// What becomes of an image that is missing or cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadImage {
    /// Nothing starts; all bad images are reported together.
    #[default]
    Error,
    /// It is left out, counted and reported.
    Skip,
}

/// Where a data set comes from.
pub trait Source: Send + Sync {
    /// Every image's name and class, without reading the images.
    fn list(&self) -> Result<Listing>;

    /// The file of one image; `None` where images are made on the fly.
    fn path(&self, item: &Item, split: event::Split) -> Option<PathBuf>;

    /// The encoded bytes (JPEG, PNG, ..) of one image.
    fn bytes(&self, item: &Item, split: event::Split) -> Result<Vec<u8>> {
        let path = self.path(item, split).unwrap_or_else(|| PathBuf::from(&item.name));
        std::fs::read(&path).context(|| path.display().to_string())
    }

    /// All that determines images that are made on the fly; `None` where only the files' contents tell.
    fn recipe(&self) -> Option<String> {
        None
    }

    fn on_bad_image(&self) -> OnBadImage {
        OnBadImage::Error
    }
}

/// How images are brought to size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    pub size: usize,
    pub interpolation: Interpolation,
}

/// What [`open`] is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Reading files to see whether their contents changed.
    Reading { done: usize, total: usize },
    /// Decoding and resizing what the cache does not hold yet.
    Decoding { done: usize, total: usize },
    /// Making images that are mixed into the training split.
    Synthesizing { done: usize, total: usize },
    /// Another process is building the same cache.
    Waiting,
}

crate::components! {
    /// The `data` of an experiment file.
    pub enum DataSpec: Source {
        ffdi::Ffdi,
        folder::Folder,
        synthetic::Synthetic,
    }
}

/// `(N, classes)` with a one at each sample's class.
pub fn one_hot(targets: &[u32], classes: usize) -> Vec<f32> {
    let mut rows = vec![0.0; targets.len() * classes];
    for (row, &class) in rows.chunks_exact_mut(classes).zip(targets) {
        row[class as usize] = 1.0;
    }
    rows
}
