//! Batches of training images that a GPU makes.

use super::images::Normalize;
use crate::{
    augment::{
        self, AugmentSpec, Context, Scope,
        change::{self, Change},
        encode::Program,
        gpu::{Job, Output},
        mixing::{self, Mixing},
    },
    data::{Channels, Split},
    error::{Error, Result},
    tensor::{DType, Device, Interpolation, Key, Tensor, gpu::Queue},
};

/// Makes batches of a split's 8-bit images on a device.
pub struct Maker {
    queue: Queue,
    /// All of them, `(N, side, side, 3)`, where they lie there; otherwise each batch brings its own.
    all: Option<Tensor>,
    side: usize,
    /// What each level of each colour is after normalization.
    levels: Tensor,
    channels: Channels,
}

/// What is to be done to a batch of them, drawn on the host.
pub struct Plan {
    samples: Vec<usize>,
    /// Those images one after the other, where they do not lie on the device.
    brought: Option<Vec<u8>>,
    programs: Vec<Program>,
    mixes: Vec<Mixing>,
    size: usize,
}

/// What a batch is made of, and for what.
pub struct Recipe<'a> {
    pub list: &'a [AugmentSpec],
    pub samples: &'a [usize],
    /// The side that the network sees, in pixels.
    pub size: usize,
    /// The side that images are resized to first, and how; `None`: as they are.
    pub resized: Option<(usize, Interpolation)>,
    /// Decides how its images are mixed.
    pub key: Key,
}

impl Maker {
    /// Of a split's images, all of which may lie on the device; `None` on the CPU.
    pub fn new(device: &Device, split: &Split, all: Option<Tensor>, normalize: &Normalize) -> Result<Option<Self>> {
        let Some(queue) = Queue::of_device(device)? else { return Ok(None) };
        let levels = normalize.levels(&queue)?.into_tensor();
        Ok(Some(Self { queue, all, side: split.size, levels, channels: normalize.channels }))
    }

    /// Draws what becomes of a batch; `None` where something on the list is for the CPU alone. `context` and `key` are
    /// those of the batch's places.
    pub fn plan<'c>(&self, recipe: &Recipe, each: impl Fn(usize) -> (Context<'c>, Key)) -> Option<Plan> {
        let programs = (0..recipe.samples.len()).map(|place| self.program(recipe, each(place)));
        Some(Plan {
            programs: programs.collect::<Option<_>>()?,
            samples: recipe.samples.to_vec(),
            brought: None,
            mixes: augment::mixes(recipe.list, recipe.samples.len(), [recipe.size; 2], recipe.key),
            size: recipe.size,
        })
    }

    fn program(&self, recipe: &Recipe, (context, key): (Context, Key)) -> Option<Program> {
        let (mut side, mut all) = (self.side, Vec::new());
        if let Some((resized, filter)) = recipe.resized {
            side = resized;
            all.push(Change::Resize([side; 2], filter));
        }
        all.extend(augment::changes(recipe.list, [side; 2], &context, key));
        all.push(Change::CenterCrop(recipe.size));
        // What leaves too small an image is an error that the CPU words.
        let left = change::size_after(&all, [self.side; 2]);
        if left == [recipe.size; 2] { Program::new(&all, [self.side; 2]) } else { None }
    }

    /// Takes a plan's images along, where they do not lie on the device.
    pub fn bring(&self, plan: &mut Plan, split: &Split) -> Result<()> {
        if self.all.is_none() {
            let images = plan.samples.iter().map(|&sample| split.pixels(sample)).collect::<Result<Vec<_>>>()?;
            plan.brought = Some(images.concat());
        }
        Ok(())
    }

    /// The images that a plan speaks of, and where each of its samples stands among them.
    fn source(&self, plan: &Plan) -> Result<(Tensor, Vec<usize>)> {
        let count = plan.samples.len();
        match (&self.all, &plan.brought) {
            (Some(all), _) => Ok((all.clone(), plan.samples.clone())),
            (None, Some(brought)) => {
                let images = self.queue.array((count, self.side, self.side, 3), DType::U8)?;
                self.queue.write(&images, 0, brought)?;
                Ok((images.into_tensor(), (0..count).collect()))
            }
            (None, None) => Err(Error::bug("a batch without images")),
        }
    }

    /// The batch, `(count, size, size, channels)`, normalized and mixed.
    pub fn batch(&self, plan: &Plan, dtype: DType) -> Result<Tensor> {
        let (queue, levels) = (&self.queue, self.queue.view(&self.levels)?);
        let (source, samples) = self.source(plan)?;
        let images = augment::gpu::Images { bytes: queue.view(&source)?, side: self.side };
        let jobs: Vec<Job> =
            samples.into_iter().zip(&plan.programs).map(|(sample, program)| Job { sample, program }).collect();
        let output = if self.channels.is_rgb() { Output::Normalized(levels, dtype) } else { Output::Bytes };
        let mut batch = augment::gpu::batch(queue, images, &jobs, plan.size, output)?;
        if let Output::Bytes = output {
            batch = self.channels.see(queue, batch.view(), 0..jobs.len(), levels, plan.size, dtype)?;
        }
        for (pairing, mixes) in &plan.mixes {
            batch = augment::gpu::mix(queue, batch.view(), *pairing, mixes)?;
        }
        Ok(batch.into_tensor())
    }
}

impl Plan {
    /// Mixes the targets as the images.
    pub fn mix_targets(&self, targets: &mut [f32], classes: usize) {
        for (pairing, mixes) in &self.mixes {
            mixing::mix_targets(targets, classes, *pairing, mixes);
        }
    }
}

/// Whether a list mixes images.
pub fn mixes(list: &[AugmentSpec]) -> bool {
    list.iter().any(|augment| augment.as_dyn().scope() == Scope::Batch)
}
