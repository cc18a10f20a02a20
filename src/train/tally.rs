//! The losses and hits of training steps. On a GPU they stay there until someone needs them: reading one would make the
//! host wait for every step.

use super::{batches::Batch, progress::Progress};
use crate::{
    error::{Cause, Error, Result},
    tensor::{Tensor, ops::hits},
};

/// What has been counted and not been read yet.
#[derive(Default)]
pub struct Tally {
    parts: Vec<Part>,
}

/// One forward pass.
struct Part {
    step: u64,
    epoch: u32,
    /// Its part of the step's loss, a scalar.
    loss: Tensor,
    /// Right answers, a scalar; `None` where an augmentation mixed the labels.
    hits: Option<Tensor>,
    samples: usize,
    /// Its share of the step.
    weight: f64,
}

impl Tally {
    /// Counts a pass of the step at hand, whose `loss` is weighted already.
    pub fn add(
        &mut self,
        progress: &Progress,
        batch: &Batch,
        logits: &Tensor,
        loss: &Tensor,
        weight: f64,
    ) -> Result<()> {
        self.parts.push(Part {
            step: progress.step + 1,
            epoch: progress.epoch + 1,
            loss: loss.detach(),
            hits: batch.classes.as_ref().map(|_| hits(logits, &batch.targets)).transpose()?,
            samples: logits.dim(0)?,
            weight,
        });
        Ok(())
    }

    /// Reads what has been counted into `progress`, and returns the loss of the last step; `None` where nothing was
    /// counted.
    ///
    /// # Errors
    /// Where a loss is not finite, naming the step.
    pub fn settle(&mut self, progress: &mut Progress) -> Result<Option<f64>> {
        let parts = std::mem::take(&mut self.parts);
        let Some(last) = parts.last().map(|part| part.step) else { return Ok(None) };
        let losses = read(parts.iter().map(|part| &part.loss))?;
        let hits = read(parts.iter().filter_map(|part| part.hits.as_ref()))?;
        let (mut hits, mut total) = (hits.into_iter(), 0.0);
        for (part, loss) in parts.iter().zip(losses) {
            if !loss.is_finite() {
                return Err(part.not_finite(loss));
            }
            let right = part.hits.as_ref().and_then(|_| hits.next());
            progress.count(part.samples as u64, loss / part.weight, right.map(|right| right as u64));
            total += if part.step == last { loss } else { 0.0 };
        }
        Ok(Some(total))
    }
}

impl Part {
    fn not_finite(&self, loss: f64) -> Error {
        let why = format!("the loss became {loss}; try a smaller learning rate, warmup or clip_grad_norm");
        Error::new(Cause::NonFinite, format!("step {} (epoch {}): {why}", self.step, self.epoch))
    }
}

/// Scalars of one device, in one read.
pub fn read<'a>(scalars: impl Iterator<Item = &'a Tensor>) -> Result<Vec<f64>> {
    let scalars: Vec<&Tensor> = scalars.collect();
    match scalars.is_empty() {
        true => Ok(Vec::new()),
        false => Ok(Tensor::stack(&scalars, 0)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect()),
    }
}
