//! A data set ready for training.

use super::{
    DataSpec, Decode, Fold, Item, Listing, Over, Progress, Subset,
    appended::Appended,
    batches,
    cache::{Images, Wanted},
    contents, folds, labels,
    resident::Kept,
};
use crate::{
    error::{Cause, Error, Result},
    tensor::Key,
};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

/// A data set ready for training, shared by every run.
pub struct Dataset {
    pub classes: Vec<String>,
    pub train: Split,
    pub val: Split,
    /// Hash of names, targets and contents: what enters a run's identity.
    pub fingerprint: String,
    /// What a user should know of the source: images left out, a cache that had to be rebuilt.
    pub warnings: Vec<String>,
    /// The first bytes of the hash of each file of `train` and of `val`; nothing of images that are made on the fly.
    pub contents: [Vec<u64>; 2],
}

/// One split, decoded and resized.
pub struct Split {
    pub items: Vec<Item>,
    /// Every image is `size x size` RGB, 8 bits.
    pub size: usize,
    images: Pixels,
    /// Where each image stands among those it was taken from; as listed, where none was left out.
    places: Option<Vec<Place>>,
    made: Option<Made>,
    /// All of them, on a GPU.
    pub(super) kept: Kept,
}

/// Made images behind the real ones.
struct Made {
    images: Appended,
    /// How many of them an epoch shows.
    per_epoch: usize,
}

/// A number of an image in memory, or in a file.
type Place = u32;

enum Pixels {
    Memory(Vec<u8>),
    /// Place 0 is number `first` of the file.
    Mapped {
        file: Arc<Images>,
        first: usize,
    },
}

impl Split {
    /// A split of images in memory, one after the other.
    pub fn in_memory(items: Vec<Item>, size: usize, pixels: Vec<u8>) -> Self {
        Self::new(items, size, Pixels::Memory(pixels), None)
    }

    fn new(items: Vec<Item>, size: usize, images: Pixels, places: Option<Vec<Place>>) -> Self {
        Self { items, size, images, places, made: None, kept: Kept::default() }
    }

    /// Appends made images, of which every epoch shows `per_epoch`, all in turn.
    pub fn append(&mut self, items: Vec<Item>, images: Appended, per_epoch: usize) {
        self.items.truncate(self.real());
        self.items.extend(items);
        self.made = Some(Made { images, per_epoch });
        self.kept = Kept::default();
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
        let place = self.place(index);
        match &self.images {
            Pixels::Memory(pixels) => {
                let bytes = self.size * self.size * 3;
                pixels.get(place * bytes..(place + 1) * bytes).unwrap_or_default()
            }
            Pixels::Mapped { file, first } => file.get(first + place),
        }
    }

    /// Image `index`, which must be there.
    ///
    /// # Errors
    /// When the decoded cache was damaged while in use. It is thrown away: the next attempt builds it anew.
    pub fn pixels(&self, index: usize) -> Result<&[u8]> {
        match (self.image(index), &self.images, self.items.get(index)) {
            ([], Pixels::Mapped { file, .. }, Some(item)) => {
                file.discard();
                let what =
                    "its pixels in the decoded cache have changed since they were written; the cache is built again";
                Err(Error::new(Cause::Environment, format!("image {}: {what}", item.name)))
            }
            ([], ..) => Err(Error::bug(format!("there is no image {index}"))),
            (pixels, ..) => Ok(pixels),
        }
    }

    fn place(&self, index: usize) -> usize {
        self.places.as_ref().and_then(|places| places.get(index)).map_or(index, |&place| place as usize)
    }

    /// The part of a file that begins at `first`, without the images that were left out.
    fn mapped(items: Vec<Item>, size: usize, file: &Arc<Images>, first: usize) -> Self {
        let images = Pixels::Mapped { file: file.clone(), first };
        if (0..items.len()).all(|index| file.has(first + index)) {
            return Self::new(items, size, images, None);
        }
        let kept = items.into_iter().enumerate().filter(|(index, _)| file.has(first + index));
        let (places, items) = kept.map(|(index, item)| (index as Place, item)).unzip();
        Self::new(items, size, images, Some(places))
    }
}

impl Dataset {
    /// The data set of one run: what a fold and a subset leave of it, before images are made of that. The images
    /// themselves are shared.
    ///
    /// # Errors
    /// Those of [`folds::cut`].
    pub fn cut(&self, fold: Option<&Fold>, subset: Option<&Subset>) -> Result<Self> {
        let cut = folds::cut([&self.train.items, &self.val.items], &self.classes, fold, subset)?;
        let names: HashSet<&str> = self.train.items.iter().map(|item| item.name.as_str()).collect();
        let mixed = fold.is_some_and(|fold| fold.over == Over::All);
        let clash = mixed && self.val.items.iter().any(|item| names.contains(item.name.as_str()));
        let contents = self.contents.concat();
        let contents_of = |places: &[usize]| places.iter().filter_map(|place| contents.get(*place).copied()).collect();
        Ok(Self {
            classes: self.classes.clone(),
            train: self.gather(&cut.train, clash),
            val: self.gather(&cut.val, clash),
            fingerprint: self.fingerprint.clone(),
            warnings: self.warnings.clone(),
            contents: [contents_of(&cut.train), contents_of(&cut.val)],
        })
    }

    /// What a user should know of the source and of these splits.
    pub fn notices(&self) -> Vec<String> {
        self.warnings.iter().cloned().chain(self.leak()).collect()
    }

    /// Validation images that are training images as well, byte for byte.
    fn leak(&self) -> Option<String> {
        let [train, val] = &self.contents;
        let known: HashMap<u64, usize> = train.iter().enumerate().map(|(place, content)| (*content, place)).collect();
        let both = val.iter().enumerate().filter_map(|(place, content)| Some((place, *known.get(content)?)));
        let pairs: Vec<(usize, usize)> = both.collect();
        let (at, from) = pairs.first()?;
        let (own, other) = (&self.val.items.get(*at)?.name, &self.train.items.get(*from)?.name);
        Some(format!(
            "{} of {} validation images are training images as well, byte for byte ({own} = {other}, ..): numbers on them \
             are too good; `runner data check` lists them",
            pairs.len(),
            val.len()
        ))
    }

    /// The images at `places`, training images first, then validation images, whose names `clash` with the others'.
    fn gather(&self, places: &[usize], clash: bool) -> Split {
        let side = |place: usize| match place.checked_sub(self.train.items.len()) {
            None => (&self.train, place),
            Some(place) => (&self.val, place),
        };
        let item = |&place: &usize| {
            let (split, index) = side(place);
            let mut item = split.items[index].clone();
            if clash && place >= self.train.items.len() {
                item.name = format!("val/{}", item.name);
            }
            item
        };
        let place = |&place: &usize| {
            let (split, index) = side(place);
            let first = if let Pixels::Mapped { first, .. } = split.images { first } else { 0 };
            (first + split.place(index)) as Place
        };
        let (images, places_in) = match &self.train.images {
            Pixels::Mapped { file, .. } => {
                (Pixels::Mapped { file: file.clone(), first: 0 }, Some(places.iter().map(place).collect()))
            }
            Pixels::Memory(_) => {
                let pixels = places.iter().flat_map(|&place| side(place).0.image(side(place).1)).copied().collect();
                (Pixels::Memory(pixels), None)
            }
        };
        Split::new(places.iter().map(item).collect(), self.train.size, images, places_in)
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
    let (fingerprint, contents) = fingerprint_of(source, &listing, cache, progress)?;
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
    let kept = contents.iter().enumerate().filter(|(place, _)| file.has(*place));
    let (of_train, of_val) = kept.partition::<Vec<_>, _>(|(place, _)| *place < first);
    let contents = [of_train, of_val].map(|part| part.into_iter().map(|(_, content)| start_of(content)).collect());
    let train = Split::mapped(train, settings.size, &file, 0);
    let val = Split::mapped(val, settings.size, &file, first);
    Ok(Dataset { classes, train, val, fingerprint, warnings, contents })
}

/// Enough of a hash to tell files apart.
fn start_of(content: &contents::Content) -> u64 {
    content.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The fingerprint [`open`] would give, without decoding. `cache` keeps the contents' hashes.
pub fn fingerprint(source: &DataSpec, cache: &Path) -> Result<String> {
    fingerprint_of(source, &source.as_dyn().list()?, cache, &|_| ()).map(|(fingerprint, _)| fingerprint)
}

/// The fingerprint, and the hash of each file it was made of.
fn fingerprint_of(
    source: &DataSpec,
    listing: &Listing,
    cache: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(String, Vec<contents::Content>)> {
    let source = source.as_dyn();
    let (hash, contents) = match source.recipe() {
        Some(recipe) => (Sha256::digest(recipe.as_bytes()), Vec::new()),
        None => {
            let contents = contents::hash(source, listing, cache, progress)?;
            (digest(listing, &contents), contents)
        }
    };
    Ok((hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect(), contents))
}

/// Hash of classes, names, targets, contents and groups where there are any, each with its length, so that nothing can
/// stand for another.
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
    for (place, item) in listing.train.iter().chain(&listing.val).enumerate() {
        if let Some(group) = &item.group {
            hash.update((place as u64).to_le_bytes());
            text(&mut hash, group);
        }
    }
    hash.finalize()
}
