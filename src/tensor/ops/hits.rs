//! How often a classifier is right.

use super::{memory::Values, shape::exact};
use crate::{
    error::{Error, Result},
    tensor::gpu::{Grid, Queue, args},
};
use candle_core::{DType, Tensor};

/// How many rows of `logits (N, C)` are largest where those of `targets (N, C)` are: a scalar in f32. Of equal values the first
/// one counts. No gradient flows through it.
pub fn hits(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if targets.dims() != logits.dims() || classes == 0 {
        return Err(Error::bug(format!("hits: logits {:?} and targets {:?}", logits.dims(), targets.dims())));
    }
    let [logits, targets] = [exact(logits)?.detach(), exact(targets)?.detach()];
    let Some(queue) = Queue::of(&logits)? else {
        let (logits, targets) = (Values::of(&logits)?, Values::of(&targets)?);
        let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
        let count = rows.filter(|(logits, targets)| first_largest(logits) == first_largest(targets)).count();
        return Ok(Tensor::new(count as f32, &candle_core::Device::Cpu)?);
    };
    let count = queue.array((), DType::F32)?;
    let arguments = args![queue.view(&logits)?, queue.view(&targets)?, &count, rows, classes];
    queue.launch("hits", DType::F32, Grid::blocks([1, 1], [256, 1]), arguments)?;
    Ok(count.into_tensor())
}

fn first_largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, place| if row[place] > row[best] { place } else { best })
}
