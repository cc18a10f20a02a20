//! Layer scale at the end of a residual branch.

use super::{
    columns,
    memory::{Fresh, Slot, Values},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Queue, View, args},
        ops::op::{Given, Gradient, Op, apply3},
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// `shortcut + scale * x`: `x` and `shortcut` `(.., C)`, one factor a channel in `scale (C)`. Touvron et al. 2021,
/// arXiv:2103.17239.
pub fn scale_add(x: &Tensor, scale: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
    let channels = x.dims().last().copied().unwrap_or(0);
    if channels == 0 || scale.dims() != [channels] || x.dims() != shortcut.dims() {
        return Err(Error::bug(format!(
            "scale_add: x {:?}, scale {:?} and shortcut {:?} do not fit together",
            x.dims(),
            scale.dims(),
            shortcut.dims()
        )));
    }
    Ok(apply3(ScaleAdd, [x, scale, shortcut])?)
}

struct ScaleAdd;

/// Elements of one task's rows.
const BLOCK: usize = 1 << 14;

impl Op<3> for ScaleAdd {
    fn name(&self) -> &'static str {
        "scale-add"
    }

    fn cpu(&self, [x, scale, shortcut]: [Given; 3]) -> Candle<(Vec<f32>, Shape)> {
        let shape = x.shape;
        let (x, scale, shortcut) = (x.values, scale.values, shortcut.values);
        let step = scale.len() * (BLOCK / scale.len()).max(1);
        let mut y = Fresh::new(x.len());
        let blocks = y.slots().par_chunks_mut(step).zip(x.par_chunks(step)).zip(shortcut.par_chunks(step));
        blocks.for_each(|((y, x), shortcut)| add_rows(y, x, scale, shortcut));
        // SAFETY: the blocks are whole rows and cover all of `y`, whose length is that of `x` and `shortcut`.
        Ok((unsafe { y.done() }, shape.clone()))
    }

    fn cpu_gradients(
        &self,
        [x, scale, _shortcut]: [&Tensor; 3],
        _y: &Tensor,
        dy: &Tensor,
    ) -> Candle<[Option<Tensor>; 3]> {
        let (xs, scales, dys) = (Values::of(x)?, Values::of(scale)?, Values::of(dy)?);
        let step = scales.len() * (BLOCK / scales.len()).max(1);
        let mut dx = Fresh::new(dys.len());
        let blocks = dx.slots().par_chunks_mut(step).zip(dys.par_chunks(step));
        blocks.for_each(|(dx, dy)| scale_rows(dx, dy, &scales));
        // SAFETY: the blocks are whole rows and cover all of `dx`, whose length is that of `dy`.
        let dx = Tensor::from_vec(unsafe { dx.done() }, x.shape(), x.device())?;
        let dscale = scale.track_op().then(|| {
            let sums = columns::product_sums(&xs, &dys, scales.len());
            Tensor::from_vec(sums, scale.shape(), scale.device())
        });
        Ok([Some(dx), dscale.transpose()?, Some(dy.clone())])
    }

    fn gpu(&self, queue: &Queue, [x, scale, shortcut]: [View; 3]) -> Candle<Array> {
        let y = queue.array(x.shape.clone(), x.dtype)?;
        let columns = Columns::of(x, &[Some(shortcut)]);
        let arguments = args![x, scale, shortcut, &y, columns.rows, columns.channels, i32::from(columns.wide)];
        queue.launch("scale_add", x.dtype, columns.each(), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(
        &self,
        queue: &Queue,
        [x, scale, _shortcut]: [View; 3],
        _y: View,
        dy: View,
        needs: [bool; 3],
    ) -> Candle<[Gradient; 3]> {
        let columns = Columns::of(x, &[Some(dy)]);
        let partial = queue.array((columns.chunks(), columns.channels), DType::F32)?;
        let dx = needs[0].then(|| queue.array(x.shape.clone(), x.dtype)).transpose()?;
        let (rows, wide) = (columns.rows, i32::from(columns.wide));
        let arguments = args![x, scale, dy, dx.as_ref(), &partial, rows, columns.channels, wide];
        queue.launch("scale_add_gradient", x.dtype, columns.sums(), arguments)?;
        let dscale = Gradient::needed(needs[1], || {
            let dscale = queue.array(scale.shape.clone(), DType::F32)?;
            queue.final_sums(&partial, x.dtype, &dscale, None)?;
            Ok(dscale)
        })?;
        Ok([dx.into(), dscale, if needs[2] { Gradient::Same } else { Gradient::None }])
    }
}

vectorized! {
    fn add_rows(y: &mut [Slot], x: &[f32], scale: &[f32], shortcut: &[f32]) {
        let rows = y.chunks_exact_mut(scale.len()).zip(x.chunks_exact(scale.len())).zip(shortcut.chunks_exact(scale.len()));
        for ((y, x), shortcut) in rows {
            for (((y, &x), &scale), &shortcut) in y.iter_mut().zip(x).zip(scale).zip(shortcut) {
                y.write(x.mul_add(scale, shortcut));
            }
        }
    }

    fn scale_rows(dx: &mut [Slot], dy: &[f32], scale: &[f32]) {
        for (dx, dy) in dx.chunks_exact_mut(scale.len()).zip(dy.chunks_exact(scale.len())) {
            for ((dx, &dy), &scale) in dx.iter_mut().zip(dy).zip(scale) {
                dx.write(dy * scale);
            }
        }
    }
}
