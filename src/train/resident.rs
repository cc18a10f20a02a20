//! Training images that lie on a GPU, where every batch of them is made.

use crate::{
    augment::{self, AugmentSpec, Context, Scope, change::WORDS, gpu::Recipe, mixing},
    error::Result,
    tensor::{DType, Key, Tensor, gpu::Queue},
};

/// A split's 8-bit images on a device.
pub struct Resident {
    queue: Queue,
    bytes: Tensor,
    side: usize,
}

/// What is to be done to a batch of them, drawn on the host.
pub struct Plan {
    samples: Vec<usize>,
    changes: Vec<Vec<[f64; WORDS]>>,
    mixes: Vec<(mixing::Pairing, Vec<mixing::Mix>)>,
    size: usize,
}

impl Resident {
    /// Of a split's images, `(N, side, side, 3)` bytes; `None` where they lie on no GPU.
    pub fn new(bytes: Tensor) -> Result<Option<Self>> {
        let side = bytes.dim(1)?;
        Ok(Queue::of(&bytes)?.map(|queue| Self { queue, bytes, side }))
    }

    /// Draws what becomes of a batch; `None` where something on the list is for the CPU alone. `context` and `key` are
    /// those of the batch's places.
    pub fn plan<'c>(
        &self,
        list: &[AugmentSpec],
        samples: &[usize],
        size: usize,
        each: impl Fn(usize) -> (Context<'c>, Key),
        batch: Key,
    ) -> Option<Plan> {
        let changes = (0..samples.len()).map(|place| {
            let (context, key) = each(place);
            let changes = augment::changes(list, [self.side; 2], &context, key)?;
            let left = changes.iter().fold([self.side; 2], |size, change| change.size(size));
            let cut = (left != [size; 2]).then_some(augment::change::Change::CenterCrop(size));
            let all: Vec<_> = changes.into_iter().chain(cut).collect();
            let left = all.iter().fold([self.side; 2], |size, change| change.size(size));
            // What leaves too small an image is an error that the CPU words.
            if left == [size; 2] { augment::gpu::encode(&all, self.side) } else { None }
        });
        let changes = changes.collect::<Option<Vec<_>>>()?;
        let mixes = augment::mixes(list, samples.len(), [size; 2], batch)?;
        Some(Plan { samples: samples.to_vec(), changes, mixes, size })
    }

    /// The batch, `(count, size, size, 3)`, normalized and mixed.
    pub fn batch(&self, plan: &Plan, [mean, std]: [[f32; 3]; 2], dtype: DType) -> Result<Tensor> {
        let images = augment::gpu::Images { bytes: self.queue.view(&self.bytes)?, side: self.side };
        let recipe = Recipe { samples: &plan.samples, changes: &plan.changes, size: plan.size, mean, std };
        let mut batch = augment::gpu::batch(&self.queue, images, &recipe, dtype)?;
        for (pairing, mixes) in &plan.mixes {
            batch = augment::gpu::mix(&self.queue, batch.view(), *pairing, mixes)?;
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
