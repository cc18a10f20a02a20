use super::{
    Item, Listing, Source,
    synth::{self, Forgery},
};
use crate::{
    error::{Error, Result},
    event::Split,
    tensor::Key,
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Procedural faces, real and fake, made on the fly: no files, no downloads.
///
/// A fake is a real portrait with one forgery trace: a pasted face, a local warp, a resampled region, another noise
/// level, or a checkerboard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Synthetic {
    /// Training images.
    #[garde(range(min = 2))]
    #[schemars(range(min = 2))]
    pub train: usize,
    /// Validation images.
    #[garde(range(min = 2))]
    #[schemars(range(min = 2))]
    pub val: usize,
    /// Width and height, in pixels.
    #[garde(range(min = 16, max = 1024))]
    #[schemars(range(min = 16, max = 1024))]
    pub size: usize,
    /// The share of forged images.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub fakes: f64,
    /// 2: real and fake. More: real, and one class for each kind of forgery.
    #[garde(range(min = 2, max = 6))]
    #[schemars(range(min = 2, max = 6))]
    pub classes: usize,
    /// How plain the forgeries are: 1 needs looking, 2 is seen at a glance.
    #[garde(range(min = 0.1, max = 4.0))]
    #[schemars(range(min = 0.1, max = 4.0))]
    pub strength: f64,
    /// Another seed gives other images.
    #[garde(skip)]
    pub seed: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self { train: 400, val: 200, size: 64, fakes: 0.5, classes: 2, strength: 1.0, seed: 0 }
    }
}

impl Synthetic {
    fn key(&self, split: Split) -> Key {
        Key::new(self.seed).named("synthetic").named(split.as_str())
    }

    fn class_names(&self) -> Vec<String> {
        let kinds = Forgery::ALL.iter().map(|kind| kind.name()).take(self.classes - 1);
        let fakes: Vec<&str> = if self.classes == 2 { vec!["fake"] } else { kinds.collect() };
        std::iter::once("real").chain(fakes).map(str::to_string).collect()
    }

    /// The images of one split: the exact share of fakes, in random order.
    fn items(&self, split: Split, count: usize) -> Vec<Item> {
        let fakes = (count as f64 * self.fakes).round() as usize;
        let order = self.key(split).named("order").rng().permutation(count);
        let target = |rank: usize| if rank < fakes { 1 + (rank % (self.classes - 1)) as u32 } else { 0 };
        let name = |index: usize| format!("{}_{index:06}.jpg", split.as_str());
        order
            .iter()
            .enumerate()
            .map(|(index, &rank)| Item { name: name(index), target: target(rank), group: None })
            .collect()
    }

    fn forgery(&self, target: u32, key: Key) -> Option<Forgery> {
        match (target, self.classes) {
            (0, _) => None,
            (_, 2) => Some(Forgery::ALL[key.named("kind").rng().below(Forgery::ALL.len())]),
            (target, _) => Forgery::ALL.get(target as usize - 1).copied(),
        }
    }
}

impl Source for Synthetic {
    fn list(&self) -> Result<Listing> {
        Ok(Listing {
            classes: self.class_names(),
            train: self.items(Split::Train, self.train),
            val: self.items(Split::Val, self.val),
            warnings: Vec::new(),
        })
    }

    fn path(&self, _item: &Item, _split: Split) -> Option<PathBuf> {
        None
    }

    fn bytes(&self, item: &Item, split: Split) -> Result<Vec<u8>> {
        let index = item.name.rsplit_once('_').and_then(|(_, rest)| rest.strip_suffix(".jpg"));
        let index: u64 = index.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
            Error::user(format!("`{}` is not the name of a synthetic image (such as train_000000.jpg)", item.name))
        })?;
        let key = self.key(split).with(index);
        let forgery = self.forgery(item.target, key).map(|kind| (kind, self.strength as f32));
        synth::portrait(key, self.size, forgery)
    }

    fn recipe(&self) -> Option<String> {
        Some(format!("synthetic {} {self:?}", synth::VERSION))
    }
}
