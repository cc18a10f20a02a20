//! A data set ready for training.

use super::{
    DataSpec, Decode, Item, Listing, Progress,
    appended::Appended,
    batches,
    cache::{Images, Wanted},
    contents, labels,
};
use crate::{error::Result, tensor::Key};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};

/// A data set ready for training, shared by every run.
pub struct Dataset {
    pub classes: Vec<String>,
    pub train: Split,
    pub val: Split,
    /// Hash of names, targets and contents: what enters a run's identity.
    pub fingerprint: String,
    /// What a user should know: images left out, a cache that had to be rebuilt.
    pub warnings: Vec<String>,
}

/// One split, decoded and resized.
pub struct Split {
    pub items: Vec<Item>,
    /// Every image is `size x size` RGB, 8 bits.
    pub size: usize,
    images: Pixels,
    made: Option<Made>,
}

/// Made images behind the real ones.
struct Made {
    images: Appended,
    /// How many of them an epoch shows.
    per_epoch: usize,
}

enum Pixels {
    Memory(Vec<u8>),
    /// Image `index` is number `first + index` of the file, or `places[index]` where images were left out.
    Mapped {
        file: Arc<Images>,
        first: usize,
        places: Option<Vec<u32>>,
    },
}

impl Split {
    /// A split of images in memory, one after the other.
    pub fn in_memory(items: Vec<Item>, size: usize, pixels: Vec<u8>) -> Self {
        Self::new(items, size, Pixels::Memory(pixels))
    }

    fn new(items: Vec<Item>, size: usize, images: Pixels) -> Self {
        Self { items, size, images, made: None }
    }

    /// Appends made images, of which every epoch shows `per_epoch`, all in turn.
    pub fn append(&mut self, items: Vec<Item>, images: Appended, per_epoch: usize) {
        self.items.truncate(self.real());
        self.items.extend(items);
        self.made = Some(Made { images, per_epoch });
    }

    /// The number of images that were not made: they come first.
    pub fn real(&self) -> usize {
        self.items.len() - self.made.as_ref().map_or(0, |made| made.images.len())
    }

    /// The number of images that an epoch shows.
    pub fn per_epoch(&self) -> usize {
        self.real() + self.made.as_ref().map_or(0, |made| made.per_epoch)
    }

    /// The images of one epoch (from 0) in their order: every real one, and the made ones whose turn it is.
    pub fn order(&self, epoch: u32, shuffle: bool, key: Key) -> Vec<usize> {
        let order = batches::epoch_order(self.per_epoch(), shuffle, key.with(epoch.into()));
        let Some(Made { images, per_epoch }) = &self.made else { return order };
        let (real, first) = (self.real(), epoch as usize * per_epoch);
        let made = |place: usize| real + (first + place - real) % images.len().max(1);
        order.into_iter().map(|place| if place < real { place } else { made(place) }).collect()
    }

    /// Image `index`: `size * size * 3` bytes, row by row; empty where there is no such image.
    pub fn image(&self, index: usize) -> &[u8] {
        if index >= self.items.len() {
            return &[];
        }
        if let Some(made) = self.made.as_ref().filter(|_| index >= self.real()) {
            return made.images.image(index - self.real());
        }
        match &self.images {
            Pixels::Memory(pixels) => {
                let bytes = self.size * self.size * 3;
                pixels.get(index * bytes..(index + 1) * bytes).unwrap_or_default()
            }
            Pixels::Mapped { file, first, places: None } => file.get(first + index),
            Pixels::Mapped { file, places: Some(places), .. } => {
                places.get(index).map_or(&[], |&place| file.get(place as usize))
            }
        }
    }

    /// The part of a file that begins at `first`, without the images that were left out.
    fn mapped(items: Vec<Item>, size: usize, file: &Arc<Images>, first: usize) -> Self {
        let all = (0..items.len()).all(|index| file.has(first + index));
        if all {
            return Self::new(items, size, Pixels::Mapped { file: file.clone(), first, places: None });
        }
        let kept = items.into_iter().enumerate().filter(|(index, _)| file.has(first + index));
        let (places, items) = kept.map(|(index, item)| ((first + index) as u32, item)).unzip();
        Self::new(items, size, Pixels::Mapped { file: file.clone(), first, places: Some(places) })
    }
}

/// Opens a data set: lists it, decodes what the cache under `cache` does not hold yet, and maps it into memory.
/// `progress` is called while that takes time, from any thread.
pub fn open(
    source: &DataSpec,
    settings: Decode,
    cache: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Dataset> {
    let listing = source.as_dyn().list()?;
    let fingerprint = fingerprint_of(source, &listing, cache, progress)?;
    let wanted =
        Wanted { source: source.as_dyn(), listing: &listing, fingerprint: &fingerprint, settings, folder: cache };
    let (file, rebuilt) = wanted.open(progress)?;
    let mut warnings = listing.warnings.clone();
    warnings.extend(rebuilt);
    let bad = wanted.describe(&file.notes());
    if !bad.is_empty() {
        warnings.push(format!("left out: {}", labels::some_of("unusable image", &bad)));
    }
    let Listing { classes, train, val, .. } = listing;
    let first = train.len();
    let train = Split::mapped(train, settings.size, &file, 0);
    let val = Split::mapped(val, settings.size, &file, first);
    Ok(Dataset { classes, train, val, fingerprint, warnings })
}

/// The fingerprint [`open`] would give, without decoding. `cache` keeps the contents' hashes.
pub fn fingerprint(source: &DataSpec, cache: &Path) -> Result<String> {
    fingerprint_of(source, &source.as_dyn().list()?, cache, &|_| ())
}

fn fingerprint_of(
    source: &DataSpec,
    listing: &Listing,
    cache: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<String> {
    let source = source.as_dyn();
    let hash = match source.recipe() {
        Some(recipe) => Sha256::digest(recipe.as_bytes()),
        None => digest(listing, &contents::hash(source, listing, cache, progress)?),
    };
    Ok(hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// Hash of classes, names, targets and contents, each with its length, so that nothing can stand for another.
fn digest(listing: &Listing, contents: &[contents::Content]) -> sha2::digest::Output<Sha256> {
    let mut hash = Sha256::new();
    let text = |hash: &mut Sha256, text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    hash.update((listing.classes.len() as u64).to_le_bytes());
    listing.classes.iter().for_each(|class| text(&mut hash, class));
    hash.update((listing.train.len() as u64).to_le_bytes());
    for (item, content) in listing.train.iter().chain(&listing.val).zip(contents) {
        text(&mut hash, &item.name);
        hash.update(item.target.to_le_bytes());
        hash.update(content);
    }
    hash.finalize()
}
