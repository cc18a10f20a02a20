//! Batch normalization on a GPU: one pass over memory for the statistics, one for the output, two backward.

use super::Normalize;
use crate::tensor::{
    gpu::{Array, Columns, Grid, Queue, View, args},
    ops::op::Gradient,
};
use candle_core::{DType, Result as Candle, Tensor};

/// Statistics of each channel on a device, `(C)` each.
pub struct OnDevice {
    pub mean: Tensor,
    /// The biased one.
    pub var: Tensor,
    /// `weight / sqrt(var + eps)`.
    pub scale: Tensor,
}

impl OnDevice {
    /// Given ones, with their scale.
    pub fn given(queue: &Queue, (mean, var): (&Tensor, &Tensor), weight: &Tensor, eps: f64) -> Candle<Self> {
        let channels = var.elem_count();
        let scale = queue.array(channels, DType::F32)?;
        let arguments = args![queue.view(var)?, queue.view(weight)?, &scale, channels, eps as f32];
        queue.launch("norm_scale", DType::F32, Grid::over(channels), arguments)?;
        Ok(Self { mean: mean.detach(), var: var.detach(), scale: scale.into_tensor() })
    }
}

/// The statistics of a batch, and its unbiased variance.
pub fn moments(queue: &Queue, x: &Tensor, weight: &Tensor, eps: f64) -> Candle<(OnDevice, Tensor)> {
    let (x, weight) = (queue.view(x)?, queue.view(weight)?);
    let columns = Columns::of(x, &[]);
    let (rows, channels, chunks) = (columns.rows, columns.channels, columns.chunks());
    let partial = queue.array((2, chunks, channels), DType::F32)?;
    let moments = queue.array((4, channels), DType::F32)?;
    let arguments = args![x, &partial, rows, channels, i32::from(columns.wide)];
    queue.launch("moments_partial", x.dtype, columns.sums(), arguments)?;
    let arguments = args![x, &partial, weight, &moments, chunks, rows, channels, eps as f32];
    queue.launch("moments_final", x.dtype, Columns::last(channels), arguments)?;
    let moments = moments.into_tensor();
    Ok((OnDevice { mean: moments.get(0)?, var: moments.get(1)?, scale: moments.get(3)? }, moments.get(2)?))
}

/// What a forward pass is computed from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub x: View<'a>,
    /// Weight and bias, `(C)` each.
    pub affine: [View<'a>; 2],
    pub residual: Option<View<'a>>,
}

impl Normalize {
    pub(super) fn gpu_forward(&self, queue: &Queue, inputs: Inputs) -> Candle<Array> {
        let Inputs { x, affine: [_, bias], residual } = inputs;
        let OnDevice { mean, scale, .. } = self.statistics.on_device()?;
        let (mean, scale) = (queue.view(mean)?, queue.view(scale)?);
        let y = queue.like(x)?;
        let columns = Columns::of(x, &[residual]);
        let (kind, wide) = (self.activation as i32, i32::from(columns.wide));
        let arguments = args![x, residual, &y, mean, scale, bias, columns.rows, columns.channels, kind, wide];
        queue.launch("normalize", x.dtype, columns.each(), arguments)?;
        Ok(y)
    }

    /// The gradients of `x`, weight, bias and the residual.
    pub(super) fn gpu_backward(
        &self,
        queue: &Queue,
        inputs: Inputs,
        dy: View,
        [needs_x, needs_residual]: [bool; 2],
    ) -> Candle<[Gradient; 4]> {
        let Inputs { x, affine: [weight, bias], residual } = inputs;
        let OnDevice { mean, var, scale } = self.statistics.on_device()?;
        let (mean, var, scale) = (queue.view(mean)?, queue.view(var)?, queue.view(scale)?);
        let columns = Columns::of(x, &[residual, Some(dy)]);
        let (rows, channels, chunks) = (columns.rows, columns.channels, columns.chunks());
        let (kind, wide) = (self.activation as i32, i32::from(columns.wide));
        let partial = queue.array((2, chunks, channels), DType::F32)?;
        let [dweight, dbias] = [queue.array(channels, DType::F32)?, queue.array(channels, DType::F32)?];
        let back = queue.array((2, channels), DType::F32)?;
        let arguments = args![x, residual, dy, mean, scale, bias, &partial, rows, channels, kind, wide];
        queue.launch("norm_sums_partial", x.dtype, columns.sums(), arguments)?;
        let sums = args![&partial, var, weight, &dweight, &dbias, &back, chunks, rows, channels, self.eps as f32];
        queue.launch("norm_sums_final", x.dtype, Columns::last(channels), sums)?;
        let same = self.activation.is_identity();
        let room = |needed: bool| needed.then(|| queue.like(x)).transpose();
        let (dx, dresidual) = (room(needs_x)?, room(needs_residual && !same)?);
        if dx.is_some() || dresidual.is_some() {
            let outputs = (dx.as_ref(), dresidual.as_ref());
            let arguments =
                args![x, residual, dy, mean, scale, bias, &back, outputs.0, outputs.1, rows, channels, kind, wide];
            queue.launch("norm_gradient", x.dtype, columns.each(), arguments)?;
        }
        let dresidual = if needs_residual && same { Gradient::Same } else { dresidual.into() };
        Ok([dx.into(), Gradient::New(dweight), Gradient::New(dbias), dresidual])
    }
}
