//! A bias on every channel with an activation behind it, for convolutions that no norm follows.

use super::{
    Activation, columns,
    function::{Function, with_function},
    lanes::Lanes,
    memory::{Fresh, Slot},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply2},
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// `act(x + bias)`: `x (.., C)`, `bias (C)`.
pub fn bias(x: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    let channels = x.dims().last().copied().unwrap_or(0);
    match channels > 0 && bias.dims() == [channels] {
        true => Ok(apply2(Bias(activation), [x, bias])?),
        false => Err(Error::bug(format!("bias: {:?} does not fit x {:?}", bias.dims(), x.dims()))),
    }
}

struct Bias(Activation);

impl Op<2> for Bias {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn cpu(&self, [x, b]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let shape = x.shape;
        let (x, lanes) = (x.values, Lanes::new(b.shape.elem_count()));
        let wide = lanes.widen(b.values);
        let mut y = Fresh::new(x.len());
        let blocks = y.slots().par_chunks_mut(lanes.block()).zip(x.par_chunks(lanes.block()));
        with_function!(self.0, F => blocks.for_each(|(y, x)| values::<F>(y, x, &wide)));
        // SAFETY: the blocks cover all of `y`.
        Ok((unsafe { y.done() }, shape.clone()))
    }

    fn cpu_gradients(&self, known: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        let Known { inputs: [x, bias], dy, needs, .. } = known;
        let lanes = Lanes::new(bias.count());
        let wide = lanes.widen(bias.values);
        let mut dz = Fresh::new(x.count());
        let inputs = x.values.par_chunks(lanes.block()).zip(dy.values.par_chunks(lanes.block()));
        let blocks = dz.slots().par_chunks_mut(lanes.block()).zip(inputs);
        with_function!(self.0, F => blocks.for_each(|(dz, (x, dy))| slopes::<F>(dz, x, dy, &wide)));
        // SAFETY: the blocks cover all of `dz`, whose length is that of `x` and `dy`.
        let dz = unsafe { dz.done() };
        let db = needs[1].then(|| columns::sums(&dz, lanes.channels));
        Ok([Gradient::New(dz), db.into()])
    }

    fn gpu(&self, queue: &Queue, [x, bias]: [View; 2]) -> Candle<Array> {
        let y = queue.like(x)?;
        let columns = Columns::of(x, &[]);
        let (kind, wide) = (self.0 as i32, i32::from(columns.wide));
        let arguments = args![x, bias, &y, columns.rows, columns.channels, kind, wide];
        queue.launch("bias", x.dtype, columns.each(), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 2>) -> Candle<[Gradient; 2]> {
        let Known { inputs: [x, bias], dy, needs, .. } = known;
        if self.0.is_identity() {
            let db = Gradient::needed(needs[1], || queue.column_sums(dy))?;
            return Ok([Gradient::same(needs[0]), db]);
        }
        let columns = Columns::of(x, &[Some(dy)]);
        let partial = queue.array((columns.chunks(), columns.channels), DType::F32)?;
        let dx = needs[0].then(|| queue.like(x)).transpose()?;
        let (kind, wide) = (self.0 as i32, i32::from(columns.wide));
        let arguments = args![x, bias, dy, dx.as_ref(), &partial, columns.rows, columns.channels, kind, wide];
        queue.launch("bias_gradient", x.dtype, columns.sums(), arguments)?;
        let db = Gradient::needed(needs[1], || {
            let db = queue.array(bias.shape.clone(), DType::F32)?;
            queue.final_sums(&partial, x.dtype, &db, None)?;
            Ok(db)
        })?;
        Ok([dx.into(), db])
    }
}

vectorized! {
    fn values<F: Function>(y: &mut [Slot], x: &[f32], bias: &[f32]) {
        for (y, x) in y.chunks_mut(bias.len()).zip(x.chunks(bias.len())) {
            for ((y, &x), &b) in y.iter_mut().zip(x).zip(bias) {
                y.write(F::value(x + b));
            }
        }
    }

    fn slopes<F: Function>(dz: &mut [Slot], x: &[f32], dy: &[f32], bias: &[f32]) {
        let rows = x.chunks(bias.len()).zip(dy.chunks(bias.len()));
        for (dz, (x, dy)) in dz.chunks_mut(bias.len()).zip(rows) {
            for (((dz, &x), &dy), &b) in dz.iter_mut().zip(x).zip(dy).zip(bias) {
                dz.write(dy * F::slope(x + b));
            }
        }
    }
}
