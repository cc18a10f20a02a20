//! Batches as training sees them: ordered, augmented, normalized, mixed.

use super::{Job, image_tensor};
use crate::{
    augment::{self, AugmentSpec, Scope},
    data::{self, Split, resize::resize, sampler},
    error::{Error, Result},
    spec::RunSpec,
    tensor::{Image, Key, Tensor},
};
use candle_core::Device;
use rayon::prelude::*;

/// One forward pass's images and what they should come out as.
pub struct Batch {
    /// `(N, size, size, 3)`.
    pub images: Tensor,
    /// `(N, classes)` probabilities.
    pub targets: Tensor,
    /// The class of each image, where no augmentation mixed them.
    pub classes: Option<Vec<u32>>,
}

/// The images of one forward pass, and the share of the step's loss they carry.
pub struct Chunk<'o> {
    pub samples: &'o [usize],
    pub weight: f64,
    /// Which batch of the epoch this is; chunks of a split batch share it.
    batch: u64,
    part: u64,
    /// Where its first sample stands in the epoch's order.
    first: usize,
}

/// Normalization: `(x / 255 - mean) / std`.
#[derive(Clone, Copy, Debug)]
pub struct Normalize {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Normalize {
    /// Bytes to normalized values.
    pub fn apply(&self, pixels: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; pixels.len()];
        augment::normalize(pixels, self.mean, self.std, &mut out);
        out
    }
}

/// How images become tensors.
#[derive(Clone, Debug)]
pub struct Images {
    pub size: usize,
    pub normalize: Normalize,
    pub device: Device,
}

impl Images {
    pub fn new(spec: &RunSpec, device: &Device) -> Result<Self> {
        let (Some(mean), Some(std)) = (spec.input.mean, spec.input.std) else {
            return Err(Error::bug("a resolved specification must hold input.mean and input.std"));
        };
        Ok(Self { size: spec.input.size, normalize: Normalize { mean, std }, device: device.clone() })
    }

    /// Images of a split as they are, normalized: `(N, size, size, 3)`.
    pub fn plain(&self, split: &Split, samples: std::ops::Range<usize>) -> Result<Tensor> {
        let count = samples.len();
        let mut pixels = vec![0.0; count * self.bytes()];
        pixels.par_chunks_exact_mut(self.bytes()).zip(samples).for_each(|(out, sample)| {
            augment::normalize(split.image(sample), self.normalize.mean, self.normalize.std, out);
        });
        image_tensor(pixels, count, self.size, &self.device)
    }

    fn bytes(&self) -> usize {
        self.size * self.size * 3
    }
}

pub struct Batches<'a> {
    spec: &'a RunSpec,
    split: &'a Split,
    classes: usize,
    key: Key,
    pub images: Images,
    /// The most images of one forward pass.
    pub micro_batch: usize,
}

impl<'a> Batches<'a> {
    pub fn new(job: &'a Job<'a>, key: Key) -> Result<Self> {
        let batches = Self {
            spec: job.spec,
            split: &job.data.train,
            classes: job.data.classes.len(),
            key,
            images: Images::new(job.spec, &job.device)?,
            micro_batch: job.micro_batch.unwrap_or(job.spec.batch_size).clamp(1, job.spec.batch_size),
        };
        match batches.per_epoch() {
            0 => Err(Error::user(format!(
                "drop_last leaves no batch: {} training images, batch_size = {}",
                batches.split.items.len(),
                job.spec.batch_size
            ))),
            _ => Ok(batches),
        }
    }

    /// The order of the training images in this epoch.
    pub fn order(&self, epoch: u32) -> Vec<usize> {
        let key = self.key.named("order").with(epoch.into());
        match &self.spec.sampler {
            None => data::batches::epoch_order(self.split.items.len(), self.spec.shuffle, key),
            Some(sampler) => {
                let targets: Vec<u32> = self.split.items.iter().map(|item| item.target).collect();
                sampler::draw(sampler.as_dyn(), &targets, self.classes, key)
            }
        }
    }

    /// Samples of one epoch.
    fn samples(&self) -> usize {
        let images = self.split.items.len();
        self.spec.sampler.as_ref().map_or(images, |sampler| sampler.as_dyn().draws(images))
    }

    /// The side of the training images in this epoch, in pixels.
    fn size(&self, epoch: u32) -> usize {
        let full = self.images.size;
        self.spec.progressive.as_ref().map_or(full, |sizes| sizes.size(epoch, self.spec.epochs, full))
    }

    /// Optimizer steps of one epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.per_epoch().div_ceil(self.spec.accumulate) as u64
    }

    fn per_epoch(&self) -> usize {
        let (images, batch) = (self.samples(), self.spec.batch_size);
        if self.spec.drop_last { images / batch } else { images.div_ceil(batch) }
    }

    /// The forward passes of one optimizer step: `accumulate` batches, each split where memory forces it.
    pub fn chunks<'o>(&self, order: &'o [usize], step: u64) -> Vec<Chunk<'o>> {
        let first = step as usize * self.spec.accumulate;
        let last = (first + self.spec.accumulate).min(self.per_epoch());
        let mut chunks = Vec::new();
        for batch in first..last {
            let begin = batch * self.spec.batch_size;
            let samples = &order[begin..(begin + self.spec.batch_size).min(order.len())];
            let share = 1.0 / (samples.len() * (last - first)) as f64;
            // Even parts: a last one of a single image would have no batch statistics.
            let parts = samples.len().div_ceil(self.micro_batch);
            let size = samples.len().div_ceil(parts);
            for (part, samples) in samples.chunks(size).enumerate() {
                let weight = samples.len() as f64 * share;
                let first = begin + part * size;
                chunks.push(Chunk { samples, weight, batch: batch as u64, part: part as u64, first });
            }
        }
        chunks
    }

    /// Reads, augments, normalizes and mixes one chunk. What happens to a sample depends on (seed, epoch, sample) alone,
    /// and on which draw it is where a sampler draws it.
    pub fn load(&self, chunk: &Chunk, epoch: u32) -> Result<Batch> {
        let (count, size, epoch) = (chunk.samples.len(), self.size(epoch), u64::from(epoch));
        let mut pixels = vec![0.0; count * size * size * 3];
        let key = self.key.named("augment").with(epoch);
        pixels.par_chunks_exact_mut(size * size * 3).zip(chunk.samples).enumerate().try_for_each(
            |(place, (out, &sample))| {
                let key = key.with(sample as u64);
                // A sampler draws an image several times in an epoch: each time it is changed anew.
                let key = if self.spec.sampler.is_some() { key.with((chunk.first + place) as u64) } else { key };
                self.augmented(sample, size, key, out)
            },
        )?;
        let classes: Vec<u32> = chunk.samples.iter().map(|&sample| self.split.items[sample].target).collect();
        let mut targets = one_hot(&classes, self.classes);
        let mixes = self.spec.augment.iter().any(|augment| augment.as_dyn().scope() == Scope::Batch);
        if mixes {
            let mut batch = augment::Batch {
                images: &mut pixels,
                targets: &mut targets,
                samples: count,
                height: size,
                width: size,
                classes: self.classes,
            };
            let key = self.key.named("mix").with(epoch).with(chunk.batch).with(chunk.part);
            augment::batch(&self.spec.augment, &mut batch, key)?;
        }
        Ok(Batch {
            images: image_tensor(pixels, count, size, &self.images.device)?,
            targets: Tensor::from_vec(targets, (count, self.classes), &self.images.device)?,
            classes: (!mixes).then_some(classes),
        })
    }

    /// One training image at `size`, augmented and normalized.
    fn augmented(&self, sample: usize, size: usize, key: Key, out: &mut [f32]) -> Result<()> {
        let (pixels, full) = (self.split.image(sample), self.images.size);
        let Normalize { mean, std } = self.images.normalize;
        if size == full
            && self.spec.augment.iter().all(|augment: &AugmentSpec| augment.as_dyn().scope() == Scope::Batch)
        {
            augment::normalize(pixels, mean, std, out);
            return Ok(());
        }
        let mut image = Image { width: full, height: full, pixels: pixels.to_vec() };
        if size != full {
            image = resize(&image, size, size, self.spec.input.interpolation)?;
        }
        augment::sample(&self.spec.augment, &mut image, key)?;
        augment::normalize(&image.pixels, mean, std, out);
        Ok(())
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
