//! Batches as training sees them: ordered, augmented, normalized, mixed.

use super::{
    Job,
    images::{Images, Normalize},
    maker::{self, Maker, Plan, Recipe},
};
use crate::{
    augment::{self, AugmentSpec, Context, Scope},
    data::{Split, one_hot, resize::resize, sampler},
    error::{Error, Result},
    spec::RunSpec,
    tensor::{
        Image, Key, Tensor,
        gpu::{self, Queue},
    },
};
use rayon::prelude::*;
use std::sync::Arc;

/// One forward pass's images and what they should come out as.
pub struct Batch {
    /// `(N, size, size, channels)`.
    pub images: Tensor,
    /// `(N, classes)` probabilities.
    pub targets: Tensor,
    /// The class of each image, where no augmentation mixed them.
    pub classes: Option<Vec<u32>>,
}

/// A batch as the host has prepared it.
pub struct HostBatch {
    images: HostImages,
    targets: Vec<f32>,
    count: usize,
    /// Side of the images, in pixels.
    size: usize,
    classes: Option<Vec<u32>>,
}

enum HostImages {
    /// Normalized and mixed.
    Values(Vec<f32>),
    /// To be made by the device.
    Planned(Plan),
}

/// A batch of a step, and the share of the step's loss that it carries.
pub struct Loaded {
    pub host: HostBatch,
    pub weight: f64,
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

/// Optimizer steps of one epoch.
pub fn steps_per_epoch(spec: &RunSpec, split: &Split) -> u64 {
    per_epoch(spec, split).div_ceil(spec.accumulate) as u64
}

/// Batches of one epoch.
fn per_epoch(spec: &RunSpec, split: &Split) -> usize {
    let (images, batch) = (samples(spec, split), spec.batch_size);
    if spec.drop_last { images / batch } else { images.div_ceil(batch) }
}

/// Samples of one epoch.
fn samples(spec: &RunSpec, split: &Split) -> usize {
    let images = split.per_epoch();
    spec.sampler.as_ref().map_or(images, |sampler| sampler.as_dyn().draws(images))
}

/// The batches of a run's training images.
#[derive(Clone)]
pub struct Batches<'a> {
    spec: &'a RunSpec,
    split: &'a Split,
    classes: &'a [String],
    key: Key,
    pub images: Images,
    /// Makes batches on the device, where it is a GPU.
    maker: Option<Arc<Maker>>,
    /// All validation images on the device, where they lie there.
    pub val: Option<Tensor>,
    /// The most images of one forward pass.
    pub micro_batch: usize,
}

impl<'a> Batches<'a> {
    /// With the images on the device where they fit.
    ///
    /// # Errors
    /// The user's, where `drop_last` leaves no batch.
    pub fn new(job: &'a Job<'a>, key: Key) -> Result<Self> {
        let images = Images::new(job.spec, &job.device)?;
        let [train, val] = on_device(job)?;
        let batches = Self {
            spec: job.spec,
            split: &job.data.train,
            classes: &job.data.classes,
            key,
            maker: Maker::new(&job.device, &job.data.train, train, &images.normalize)?.map(Arc::new),
            images,
            val,
            micro_batch: job.micro_batch.unwrap_or(job.spec.batch_size).clamp(1, job.spec.batch_size),
        };
        match batches.per_epoch() {
            0 => Err(Error::user(format!(
                "drop_last leaves no batch: {} training images, batch_size = {}",
                samples(job.spec, &job.data.train),
                job.spec.batch_size
            ))),
            _ => Ok(batches),
        }
    }

    /// The order of the training images in this epoch.
    pub fn order(&self, epoch: u32) -> Vec<usize> {
        let key = self.key.named("order");
        let Some(sampler) = &self.spec.sampler else { return self.split.order(epoch, self.spec.shuffle, key) };
        let shown = self.split.order(epoch, false, key);
        let targets: Vec<u32> = shown.iter().map(|&image| self.split.items[image].target).collect();
        let drawn = sampler::draw(sampler.as_dyn(), &targets, self.classes.len(), key.with(epoch.into()));
        drawn.into_iter().map(|place| shown[place]).collect()
    }

    /// The side of the training images in this epoch, in pixels.
    fn size(&self, epoch: u32) -> usize {
        let full = self.images.size;
        self.spec.progressive.as_ref().map_or(full, |sizes| sizes.size(epoch, self.spec.epochs, full))
    }

    /// Optimizer steps of one epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        steps_per_epoch(self.spec, self.split)
    }

    fn per_epoch(&self) -> usize {
        per_epoch(self.spec, self.split)
    }

    /// The forward passes of one optimizer step: `accumulate` batches, each split where memory forces it.
    pub fn chunks<'o>(&self, order: &'o [usize], step: u64) -> Vec<Chunk<'o>> {
        let first = step as usize * self.spec.accumulate;
        let last = (first + self.spec.accumulate).min(self.per_epoch());
        let mut chunks = Vec::new();
        for batch in first..last {
            let begin = batch * self.spec.batch_size;
            let samples = &order[begin..(begin + self.spec.batch_size).min(order.len())];
            let all = (samples.len() * (last - first)) as f64;
            // Even parts: a last one of a single image would have no batch statistics.
            let parts = samples.len().div_ceil(self.micro_batch);
            let size = samples.len().div_ceil(parts);
            for (part, samples) in samples.chunks(size).enumerate() {
                let weight = samples.len() as f64 / all;
                let first = begin + part * size;
                chunks.push(Chunk { samples, weight, batch: batch as u64, part: part as u64, first });
            }
        }
        chunks
    }

    /// What one optimizer step sees, on the host.
    pub fn step(&self, order: &[usize], step: u64, epoch: u32) -> Result<Vec<Loaded>> {
        let load = |chunk: &Chunk| Ok(Loaded { host: self.prepare(chunk, epoch)?, weight: chunk.weight });
        self.chunks(order, step).iter().map(load).collect()
    }

    /// Reads, augments, normalizes and mixes one chunk. What happens to a sample depends on (seed, epoch, sample) alone,
    /// and on which draw it is where a sampler draws it.
    pub fn prepare(&self, chunk: &Chunk, epoch: u32) -> Result<HostBatch> {
        let (count, size) = (chunk.samples.len(), self.size(epoch));
        let classes: Vec<u32> = chunk.samples.iter().map(|&sample| self.split.items[sample].target).collect();
        let mut targets = one_hot(&classes, self.classes.len());
        let images = match self.plan(chunk, size, epoch)? {
            Some(plan) => {
                plan.mix_targets(&mut targets, self.classes.len());
                HostImages::Planned(plan)
            }
            None => HostImages::Values(self.values(chunk, size, epoch, &mut targets)?),
        };
        let mixes = maker::mixes(&self.spec.augment);
        Ok(HostBatch { images, targets, count, size, classes: (!mixes).then_some(classes) })
    }

    /// What the device is to make of its images; `None` where the host has to.
    fn plan(&self, chunk: &Chunk, size: usize, epoch: u32) -> Result<Option<Plan>> {
        let Some(maker) = &self.maker else { return Ok(None) };
        let each = |place: usize| {
            let sample = chunk.samples[place];
            (self.context(sample, size), self.sample_key(chunk, place, epoch))
        };
        let input = &self.spec.input;
        let recipe = Recipe {
            list: &self.spec.augment,
            samples: chunk.samples,
            size,
            resized: (size != self.images.size).then(|| (input.loaded_for(size), input.interpolation)),
            key: self.mix_key(chunk, epoch),
        };
        let mut plan = maker.plan(&recipe, each);
        plan.as_mut().map_or(Ok(()), |plan| maker.bring(plan, self.split))?;
        Ok(plan)
    }

    /// What decides how the sample at a place of a chunk is changed.
    fn sample_key(&self, chunk: &Chunk, place: usize, epoch: u32) -> Key {
        let key = self.key.named("augment").with(epoch.into()).with(chunk.samples[place] as u64);
        // A sampler draws an image several times in an epoch: each time it is changed anew.
        if self.spec.sampler.is_some() { key.with((chunk.first + place) as u64) } else { key }
    }

    fn mix_key(&self, chunk: &Chunk, epoch: u32) -> Key {
        self.key.named("mix").with(epoch.into()).with(chunk.batch).with(chunk.part)
    }

    /// What augmentations may know about a sample.
    fn context(&self, sample: usize, size: usize) -> Context<'a> {
        let Normalize { mean, std, .. } = self.images.normalize;
        Context { class: self.split.items[sample].target as usize, classes: self.classes, size, mean, std }
    }

    /// The chunk's images, augmented, normalized and mixed on the CPU, and its targets mixed with them.
    fn values(&self, chunk: &Chunk, size: usize, epoch: u32, targets: &mut [f32]) -> Result<Vec<f32>> {
        let (count, values) = (chunk.samples.len(), self.images.values(size));
        let mut pixels = vec![0.0; count * values];
        pixels.par_chunks_exact_mut(values).zip(chunk.samples).enumerate().try_for_each(
            |(place, (out, &sample))| self.augmented(sample, size, self.sample_key(chunk, place, epoch), out),
        )?;
        if maker::mixes(&self.spec.augment) {
            let mut batch = augment::Batch {
                images: &mut pixels,
                targets,
                samples: count,
                height: size,
                width: size,
                classes: self.classes.len(),
            };
            augment::batch(&self.spec.augment, &mut batch, self.mix_key(chunk, epoch));
        }
        Ok(pixels)
    }

    /// A batch on the device.
    pub fn upload(&self, host: &HostBatch) -> Result<Batch> {
        let HostBatch { images, targets, count, size, classes } = host;
        let images = match (images, &self.maker) {
            (HostImages::Values(pixels), _) => self.images.tensor(pixels, *count, *size)?,
            (HostImages::Planned(plan), Some(maker)) => maker.batch(plan, self.images.dtype)?,
            (HostImages::Planned(_), None) => return Err(Error::bug("a batch was planned for no device")),
        };
        Ok(Batch {
            images,
            targets: gpu::upload(targets, (*count, self.classes.len()), &self.images.device)?,
            classes: classes.clone(),
        })
    }

    /// One training image at `size`, augmented and normalized.
    fn augmented(&self, sample: usize, size: usize, key: Key, out: &mut [f32]) -> Result<()> {
        let (pixels, side, full) = (self.split.pixels(sample)?, self.split.size, self.images.size);
        let plain = self.spec.augment.iter().all(|augment: &AugmentSpec| augment.as_dyn().scope() == Scope::Batch);
        if plain && size == full {
            self.images.normalize.write(&self.images.middle(pixels, side), out);
            return Ok(());
        }
        let mut image = Image { width: side, height: side, pixels: pixels.to_vec() };
        if size != full {
            let side = self.spec.input.loaded_for(size);
            image = resize(&image, side, side, self.spec.input.interpolation)?;
        }
        augment::sample(&self.spec.augment, &mut image, &self.context(sample, size), key)?;
        image.center_crop(size);
        if (image.width, image.height) != (size, size) {
            let left = format!("{} x {}", image.width, image.height);
            return Err(Error::user(format!("the augment list leaves images of {left} px, the model sees {size}")));
        }
        self.images.normalize.write(&image.pixels, out);
        Ok(())
    }
}

/// All images of training and of validation on the device, where it is a GPU with room for them. Training comes first: it
/// reads more.
fn on_device(job: &Job) -> Result<[Option<Tensor>; 2]> {
    let Some(queue) = Queue::of_device(&job.device)? else { return Ok([None, None]) };
    // The other half is for what is computed.
    let most = queue.free_memory()?.map_or(usize::MAX, |free| free / 2);
    let train = job.data.train.on_device(&job.device, most)?;
    let taken = train.as_ref().map_or(0, Tensor::elem_count);
    Ok([train, job.data.val.on_device(&job.device, most.saturating_sub(taken))?])
}
