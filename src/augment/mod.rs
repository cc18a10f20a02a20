//! Augmentations: what happens to training images only, in the order of the file's `augment` list.

mod auto_augment_policies;
pub mod change;
pub mod encode;
pub mod filters;
pub mod frame;
pub mod gpu;
mod limits;
pub mod mixing;
mod nested;
pub mod pillow;
pub mod pillow_levels;
pub mod policy;
pub mod policy_timm;
pub mod span;
pub mod warp;

use crate::{
    error::Result,
    tensor::{Image, Key, Rng},
};
use change::Change;
use mixing::Mixing;

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

/// What an augmentation may know beside the image.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The image's class, by its place in `classes`.
    pub class: usize,
    /// The names of the data set's classes.
    pub classes: &'a [String],
    /// `input.size`: the width and height that the list is to leave.
    pub size: usize,
    /// `input.mean` and `input.std`.
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Context<'_> {
    /// The 8-bit colour that is nearest to these values after normalization.
    fn colour(&self, normalized: [f64; 3]) -> [u8; 3] {
        byte_colour(normalized, self.mean, self.std)
    }
}

fn byte_colour(normalized: [f64; 3], mean: [f32; 3], std: [f32; 3]) -> [u8; 3] {
    std::array::from_fn(|channel| {
        let value = normalized[channel] * f64::from(std[channel]) + f64::from(mean[channel]);
        (value * 255.0).round() as u8
    })
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

/// One augmentation. Implement the method of its scope; what else is here follows from it.
pub trait Augment: Send + Sync {
    fn scope(&self) -> Scope {
        Scope::Sample
    }

    /// The changes to an image of this width and height, whatever device makes them; `rng` depends only on (seed, epoch,
    /// sample, place in the list).
    fn changes(&self, _size: [usize; 2], _context: &Context, _rng: &mut Rng) -> Vec<Change> {
        Vec::new()
    }

    /// How a batch's images of this width and height are mixed with each other, one way after the other; `rng` depends
    /// only on (seed, epoch, batch, place in the list).
    fn mixes(&self, _samples: usize, _size: [usize; 2], _rng: &mut Rng) -> Vec<Mixing> {
        Vec::new()
    }

    /// Changes one image that belongs to no class and no list.
    ///
    /// # Errors
    /// Where a codec fails.
    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        let nothing = Context { class: 0, classes: &[], size: image.width, mean: [0.0; 3], std: [1.0; 3] };
        self.sample_in(image, &nothing, rng)
    }

    /// Changes one image on the CPU.
    ///
    /// # Errors
    /// Where a codec fails.
    fn sample_in(&self, image: &mut Image, context: &Context, rng: &mut Rng) -> Result<()> {
        let changes = self.changes([image.width, image.height], context, rng);
        changes.iter().try_for_each(|change| change.apply(image))
    }

    /// Changes one batch on the CPU.
    fn batch(&self, batch: &mut Batch, rng: &mut Rng) {
        let mixes = self.mixes(batch.samples, [batch.width, batch.height], rng);
        mixes.iter().for_each(|(pairing, mixes)| batch.mix(*pairing, mixes));
    }

    /// The width and height that are left of images of `size`, or why it cannot work on them. `target` is `input.size`.
    fn output_size(&self, size: [usize; 2], _target: usize) -> std::result::Result<[usize; 2], String> {
        Ok(size)
    }

    /// What is wrong with these parameters at this input size, beyond each parameter's own range.
    fn check(&self, _input_size: usize) -> std::result::Result<(), String> {
        Ok(())
    }

    /// What is wrong with these parameters where the data set has these classes.
    fn check_classes(&self, _classes: &[String]) -> std::result::Result<(), String> {
        Ok(())
    }
}

crate::components! {
    /// One entry of an `augment` list.
    pub enum AugmentSpec: Augment {
        random_horizontal_flip::RandomHorizontalFlip,
        random_vertical_flip::RandomVerticalFlip,
        color_jitter::ColorJitter,
        random_photometric_distort::RandomPhotometricDistort,
        random_grayscale::RandomGrayscale,
        gaussian_blur::GaussianBlur,
        sharpness::Sharpness,
        autocontrast::Autocontrast,
        equalize::Equalize,
        posterize::Posterize,
        solarize::Solarize,
        invert::Invert,
        gaussian_noise::GaussianNoise,
        jpeg_compression::JpegCompression,
        webp_compression::WebpCompression,
        downscale::Downscale,
        rand_augment::RandAugment,
        auto_augment::AutoAugment,
        trivial_augment_wide::TrivialAugmentWide,
        aug_mix::AugMix,
        mixup::Mixup,
        cutmix::Cutmix,
        one_of::OneOf,
        apply::Apply,
        only_class::OnlyClass,
        center_crop::CenterCrop,
        random_crop::RandomCrop,
        random_resized_crop::RandomResizedCrop,
        pad::Pad,
        random_rotation::RandomRotation,
        random_affine::RandomAffine,
        random_perspective::RandomPerspective,
        elastic::Elastic,
        random_erasing::RandomErasing,
        cutout::Cutout,
        grid_mask::GridMask,
        mixup_cutmix::MixupCutmix,
        resizemix::Resizemix,
    }
}

/// Applies the list's sample-wise entries to one image. `key` is the sample's, by (seed, epoch, sample).
pub fn sample(list: &[AugmentSpec], image: &mut Image, context: &Context, key: Key) -> Result<()> {
    entries(list, Scope::Sample, key).try_for_each(|(augment, mut rng)| augment.sample_in(image, context, &mut rng))
}

/// What [`sample`] does to an image of this width and height.
pub fn changes(list: &[AugmentSpec], size: [usize; 2], context: &Context, key: Key) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    for (augment, mut rng) in entries(list, Scope::Sample, key) {
        let left = change::size_after(&all, size);
        all.extend(augment.changes(left, context, &mut rng));
    }
    all
}

/// What [`batch`] does to images of this width and height, one way after the other.
pub fn mixes(list: &[AugmentSpec], samples: usize, size: [usize; 2], key: Key) -> Vec<Mixing> {
    entries(list, Scope::Batch, key).flat_map(|(augment, mut rng)| augment.mixes(samples, size, &mut rng)).collect()
}

/// Applies the list's batch-wise entries to one batch. `key` is the batch's, by (seed, epoch, batch).
pub fn batch(list: &[AugmentSpec], batch: &mut Batch, key: Key) {
    entries(list, Scope::Batch, key).for_each(|(augment, mut rng)| augment.batch(batch, &mut rng));
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
