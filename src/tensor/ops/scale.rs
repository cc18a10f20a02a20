//! Layer scale at the end of a residual branch.

use super::{
    columns,
    memory::{Fresh, Slot},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply3},
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

    fn cpu_gradients(&self, known: Known<Given, 3>) -> Candle<[Gradient<Vec<f32>>; 3]> {
        let Known { inputs: [x, scale, _], dy, needs, .. } = known;
        let (x, scale, dy) = (x.values, scale.values, dy.values);
        let step = scale.len() * (BLOCK / scale.len()).max(1);
        let mut dx = Fresh::new(dy.len());
        let blocks = dx.slots().par_chunks_mut(step).zip(dy.par_chunks(step));
        blocks.for_each(|(dx, dy)| scale_rows(dx, dy, scale));
        // SAFETY: the blocks are whole rows and cover all of `dx`, whose length is that of `dy`.
        let dx = unsafe { dx.done() };
        let dscale = needs[1].then(|| columns::product_sums(x, dy, scale.len()));
        Ok([Gradient::New(dx), dscale.into(), Gradient::Same])
    }

    fn gpu(&self, queue: &Queue, [x, scale, shortcut]: [View; 3]) -> Candle<Array> {
        let y = queue.like(x)?;
        let columns = Columns::of(x, &[Some(shortcut)]);
        let arguments = args![x, scale, shortcut, &y, columns.rows, columns.channels, i32::from(columns.wide)];
        queue.launch("scale_add", x.dtype, columns.each(), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 3>) -> Candle<[Gradient; 3]> {
        let Known { inputs: [x, scale, _], dy, needs, .. } = known;
        let columns = Columns::of(x, &[Some(dy)]);
        let partial = queue.array((columns.chunks(), columns.channels), DType::F32)?;
        let dx = needs[0].then(|| queue.like(x)).transpose()?;
        let (rows, wide) = (columns.rows, i32::from(columns.wide));
        let arguments = args![x, scale, dy, dx.as_ref(), &partial, rows, columns.channels, wide];
        queue.launch("scale_add_gradient", x.dtype, columns.sums(), arguments)?;
        let dscale = Gradient::needed(needs[1], || {
            let dscale = queue.array(scale.shape.clone(), DType::F32)?;
            queue.final_sums(&partial, x.dtype, &dscale, None)?;
            Ok(dscale)
        })?;
        Ok([dx.into(), dscale, Gradient::same(needs[2])])
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
