//! Augmentations: what happens to training images only, in the order of the file's `augment` list.

mod mixing;
pub mod pillow;

use crate::{
    error::Result,
    tensor::{Image, Key, Rng},
};

/// A batch after normalization: what mixing augmentations work on.
pub struct Batch<'a> {
    /// `(samples, height, width, channels)`, normalized.
    pub images: &'a mut [f32],
    /// `(samples, classes)`: one-hot, or already mixed.
    pub targets: &'a mut [f32],
    pub samples: usize,
    pub height: usize,
    pub width: usize,
    pub classes: usize,
}

impl Batch<'_> {
    /// Values of one pixel: three, or more where the input adds channels.
    pub fn channels(&self) -> usize {
        self.images.len() / (self.samples * self.height * self.width).max(1)
    }
}

/// Whether an augmentation changes one image at a time or a whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Before normalization, on the 8-bit image.
    Sample,
    /// After normalization, on the batch and its targets.
    Batch,
}

/// One augmentation. Implement the method of its scope; the other is never called.
pub trait Augment: Send + Sync {
    fn scope(&self) -> Scope {
        Scope::Sample
    }

    /// Changes one image; `rng` depends only on (seed, epoch, sample, place in the list).
    fn sample(&self, _image: &mut Image, _rng: &mut Rng) -> Result<()> {
        Ok(())
    }

    /// Changes one batch; `rng` depends only on (seed, step, place in the list).
    fn batch(&self, _batch: &mut Batch, _rng: &mut Rng) -> Result<()> {
        Ok(())
    }

    /// What is wrong with these parameters at this input size, beyond each parameter's own range.
    fn check(&self, _input_size: usize) -> std::result::Result<(), String> {
        Ok(())
    }
}

crate::components! {
    /// One entry of an `augment` list.
    pub enum AugmentSpec: Augment {
        random_horizontal_flip::RandomHorizontalFlip,
        random_vertical_flip::RandomVerticalFlip,
        color_jitter::ColorJitter,
        mixup::Mixup,
        cutmix::Cutmix,
        one_of::OneOf,
    }
}

/// Applies the list's sample-wise entries to one image. `key` is the sample's, by (seed, epoch, sample).
pub fn sample(list: &[AugmentSpec], image: &mut Image, key: Key) -> Result<()> {
    entries(list, Scope::Sample, key).try_for_each(|(augment, mut rng)| augment.sample(image, &mut rng))
}

/// Applies the list's batch-wise entries to one batch. `key` is the batch's, by (seed, epoch, batch).
pub fn batch(list: &[AugmentSpec], batch: &mut Batch, key: Key) -> Result<()> {
    entries(list, Scope::Batch, key).try_for_each(|(augment, mut rng)| augment.batch(batch, &mut rng))
}

/// The entries of one scope, each with the random numbers of its place.
fn entries(list: &[AugmentSpec], scope: Scope, key: Key) -> impl Iterator<Item = (&dyn Augment, Rng)> {
    let placed = list.iter().zip(0..).map(move |(augment, place)| (augment.as_dyn(), key.with(place).rng()));
    placed.filter(move |(augment, _)| augment.scope() == scope)
}

/// `(x / 255 - mean) / std` of RGB bytes, in f32 and in this order, as torchvision's `ToTensor` and `Normalize`.
/// `out` is as long as `pixels`.
pub fn normalize(pixels: &[u8], mean: [f32; 3], std: [f32; 3], out: &mut [f32]) {
    let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| {
        std::array::from_fn(|value| (value as f32 / 255.0 - mean[channel]) / std[channel])
    });
    let [red, green, blue] = &tables;
    for (out, &[r, g, b]) in out.as_chunks_mut::<3>().0.iter_mut().zip(pixels.as_chunks::<3>().0) {
        *out = [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]];
    }
}
