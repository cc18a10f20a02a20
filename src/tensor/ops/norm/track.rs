//! Batch normalization's running statistics.

use crate::{
    error::Result,
    tensor::gpu::{Grid, Queue, args},
};
use candle_core::{DType, Tensor, Var};

/// What a batch normalization remembers of its batches.
#[derive(Clone, Copy)]
pub struct Running<'a> {
    /// `(C)` each.
    pub mean: &'a Var,
    pub var: &'a Var,
    /// Batches seen: a scalar I64.
    pub count: &'a Var,
}

/// `running = (1 - momentum) * running + momentum * batch` in place, and one more batch counted.
pub fn track(running: Running, mean: &Tensor, var: &Tensor, momentum: f64) -> Result<()> {
    match Queue::of(mean)? {
        Some(queue) => track_on(&queue, running, mean, var, momentum),
        None => {
            for (running, batch) in [(running.mean, mean), (running.var, var)] {
                let old = running.as_detached_tensor();
                running.set(&((old * (1.0 - momentum))? + (batch * momentum)?)?)?;
            }
            Ok(running.count.set(&(running.count.as_detached_tensor() + 1.0)?)?)
        }
    }
}

/// All three in one launch: there are dozens of such layers.
fn track_on(queue: &Queue, running: Running, mean: &Tensor, var: &Tensor, momentum: f64) -> Result<()> {
    let view = |tensor| queue.view(tensor);
    let arguments = args![
        view(running.mean)?,
        view(running.var)?,
        view(running.count)?,
        view(mean)?,
        view(var)?,
        mean.elem_count(),
        (1.0 - momentum) as f32,
        momentum as f32,
    ];
    Ok(queue.launch("track_statistics", DType::F32, Grid::over(mean.elem_count()), arguments)?)
}
