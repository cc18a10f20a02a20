//! Training images that lie on a GPU, where every batch of them is made.

use crate::{
    augment::{self, AugmentSpec, Context, Scope, change::WORDS, gpu::Recipe, mixing},
    data::Split,
    error::Result,
    tensor::{DType, Key, Tensor, gpu::Queue},
};
use candle_core::Device;

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
    /// Bytes copied at once, so that little is held twice.
    const PIECE: usize = 64 << 20;

    /// Copies the images of a split; `None` on the CPU, and where they would take more than half of the memory that the
    /// device has left.
    pub fn new(split: &Split, device: &Device) -> Result<Option<Self>> {
        let Some(queue) = Queue::of_device(device)? else { return Ok(None) };
        let (image, count) = (split.size * split.size * 3, split.items.len());
        if image == 0 || count == 0 || queue.free_memory()?.is_some_and(|free| image * count > free / 2) {
            return Ok(None);
        }
        let bytes = queue.array((count, split.size, split.size, 3), DType::U8)?;
        let piece = (Self::PIECE / image).max(1);
        for first in (0..count).step_by(piece) {
            let mut images = Vec::with_capacity(piece * image);
            for index in first..(first + piece).min(count) {
                images.extend_from_slice(split.pixels(index)?);
            }
            queue.write(&bytes, first * image, &images)?;
        }
        Ok(Some(Self { queue, bytes: bytes.into_tensor(), side: split.size }))
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
