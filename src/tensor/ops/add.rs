//! Sums of tensors: of two, where branches of a network meet or their gradients do, and of all of a tensor's values; and
//! products with a number.

use super::{
    elementwise::BLOCK,
    memory::{Fresh, Slot, Values},
    op::{self, Given, Gradient, Known, Op, apply1, apply2},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::gpu::{Array, Grid, Queue, View, args},
};
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result as Candle, Shape, Tensor, op::BackpropOp};
use rayon::prelude::*;

/// `a + b`, of one shape and type.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match (a.dims(), a.dtype()) == (b.dims(), b.dtype()) {
        true => Ok(apply2(Add, [a, b])?),
        false => {
            let of = |tensor: &Tensor| format!("{:?} {:?}", tensor.dims(), tensor.dtype());
            Err(Error::bug(format!("add: {} and {} do not fit together", of(a), of(b))))
        }
    }
}

/// `factor` times the sum of all values, a scalar in f32.
pub fn total(x: &Tensor, factor: f64) -> Result<Tensor> {
    Ok(apply1(Total(factor as f32), x)?)
}

/// `factor * x + shift`.
pub fn affine(x: &Tensor, factor: f64, shift: f64) -> Result<Tensor> {
    match [factor, shift] == [1.0, 0.0] {
        true => Ok(x.clone()),
        false => Ok(apply1(Affine { factor: Factor::Number(factor as f32), shift: shift as f32 }, x)?),
    }
}

/// `x` times a number that stands in a tensor of one f32; no gradient flows into that.
pub fn scale(x: &Tensor, by: &Tensor) -> Result<Tensor> {
    match (by.elem_count(), by.dtype()) {
        (1, DType::F32) => Ok(apply1(Affine { factor: Factor::Held(by.detach()), shift: 0.0 }, x)?),
        other => Err(Error::bug(format!("scale: one f32 is asked for, got {other:?}"))),
    }
}

/// `a + b` on no tape.
pub fn sum(a: &Tensor, b: &Tensor) -> Candle<Tensor> {
    let (storage, shape) = op::forward(&Add, &[a.contiguous()?, b.contiguous()?])?;
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

/// Adds `x` to the values of `sum`, both contiguous.
pub fn add_to(sum: &Tensor, x: &Tensor) -> Candle<()> {
    match Queue::of(sum)? {
        None => sum.inplace_op2(x, &AddTo),
        Some(queue) => {
            let arguments = args![queue.view(sum)?, queue.view(x)?, queue.view(sum)?, sum.elem_count()];
            queue.launch("add", sum.dtype(), Grid::over(sum.elem_count()), arguments)
        }
    }
}

struct Add;

impl Op<2> for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn reads(&self) -> [bool; 2] {
        [false; 2]
    }

    fn cpu(&self, [a, b]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let mut y = Fresh::new(a.values.len());
        let blocks = y.slots().par_chunks_mut(BLOCK).zip(a.values.par_chunks(BLOCK)).zip(b.values.par_chunks(BLOCK));
        blocks.for_each(|((y, a), b)| sums(y, a, b));
        // SAFETY: the blocks cover all of `y`, whose length is that of `a` and `b`.
        Ok((unsafe { y.done() }, a.shape.clone()))
    }

    fn cpu_gradients(&self, _: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        Ok([Gradient::Same, Gradient::Same])
    }

    fn gpu(&self, queue: &Queue, [a, b]: [View; 2]) -> Candle<Array> {
        let y = queue.like(a)?;
        queue.launch("add", a.dtype, Grid::over(a.count()), args![a, b, &y, a.count()])?;
        Ok(y)
    }

    fn gpu_gradients(&self, _: &Queue, Known { needs, .. }: Known<View, 2>) -> Candle<[Gradient; 2]> {
        Ok(needs.map(Gradient::same))
    }
}

struct AddTo;

impl InplaceOp2 for AddTo {
    fn name(&self) -> &'static str {
        "add-to"
    }

    fn cpu_fwd(&self, sum: &mut CpuStorage, to: &Layout, x: &CpuStorage, from: &Layout) -> Candle<()> {
        let (Some((first, last)), CpuStorage::F32(sum)) = (to.contiguous_offsets(), sum) else {
            candle_core::bail!("gradients are contiguous and f32")
        };
        let x = super::memory::slice(x, from)?;
        let blocks = sum[first..last].par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK));
        blocks.for_each(|(sum, x)| add_each(sum, x));
        Ok(())
    }
}

struct Total(f32);

impl Op<1> for Total {
    fn name(&self) -> &'static str {
        "total"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let sum: f64 = x.values.iter().map(|&value| f64::from(value)).sum();
        Ok((vec![(sum * f64::from(self.0)) as f32], ().into()))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        Ok([Gradient::New(vec![dy.values[0] * self.0; x.count()])])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let y = queue.array((), DType::F32)?;
        let grid = Grid::blocks([1, 1], [256, 1]);
        queue.launch("total", x.dtype, grid, args![x, &y, x.count(), self.0])?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let dx = queue.like(x)?;
        queue.launch("total_gradient", x.dtype, Grid::over(x.count()), args![dy, &dx, x.count(), self.0])?;
        Ok([Gradient::New(dx)])
    }
}

struct Affine {
    factor: Factor,
    shift: f32,
}

/// A number, or where it stands: one f32.
enum Factor {
    Number(f32),
    Held(Tensor),
}

impl Affine {
    fn on(&self, x: &[f32], shift: f32) -> Candle<Vec<f32>> {
        let factor = match &self.factor {
            Factor::Number(factor) => *factor,
            Factor::Held(tensor) => Values::of(tensor)?[0],
        };
        Ok(x.iter().map(|&x| x.mul_add(factor, shift)).collect())
    }

    fn launch(&self, queue: &Queue, x: View, shift: f32) -> Candle<Array> {
        let y = queue.like(x)?;
        let (held, factor) = match &self.factor {
            Factor::Number(factor) => (None, *factor),
            Factor::Held(tensor) => (Some(queue.view(tensor)?), 0.0),
        };
        queue.launch("affine", x.dtype, Grid::over(x.count()), args![x, &y, x.count(), held, factor, shift])?;
        Ok(y)
    }
}

impl Op<1> for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        Ok((self.on(x.values, self.shift)?, x.shape.clone()))
    }

    fn cpu_gradients(&self, Known { dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        Ok([Gradient::New(self.on(dy.values, 0.0)?)])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        self.launch(queue, x, self.shift)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        Ok([Gradient::New(self.launch(queue, dy, 0.0)?)])
    }
}

vectorized! {
    fn sums(y: &mut [Slot], a: &[f32], b: &[f32]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            y.write(a + b);
        }
    }

    fn add_each(sum: &mut [f32], x: &[f32]) {
        sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
    }
}
