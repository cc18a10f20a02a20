//! Matrix product with bias and activation.

use super::{
    Activation, activate,
    matrix::{Matrix, MatrixMut, product},
    memory::{Fresh, Slot},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Factor, Product, Queue, View},
        ops::op::{Given, Gradient, Known, Op, apply3},
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// `act(x weight^T + bias)`: `x (.., in)`, `weight (out, in)`, `bias (out)`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) || bias.dims() != [outputs] || inputs * outputs == 0 {
        return Err(Error::bug(format!(
            "linear: x {:?} does not fit weight {:?} and bias {:?}",
            x.dims(),
            weight.dims(),
            bias.dims()
        )));
    }
    let y = apply3(Linear, [x, weight, bias])?;
    activate(&y, activation)
}

struct Linear;

/// Rows of one task: fixed, so that the bits do not depend on the number of threads.
const ROWS: usize = 256;

impl Op<3> for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu(&self, [x, weight, bias]: [Given; 3]) -> Candle<(Vec<f32>, Shape)> {
        let (outputs, inputs) = weight.shape.dims2()?;
        let y = forward(x.values, weight.values, bias.values, inputs, outputs);
        let mut dims = x.shape.dims().to_vec();
        dims.pop();
        dims.push(outputs);
        Ok((y, dims.into()))
    }

    fn cpu_gradients(&self, known: Known<Given, 3>) -> Candle<[Gradient<Vec<f32>>; 3]> {
        let Known { inputs: [x, weight, _], dy, needs, .. } = known;
        let (outputs, inputs) = weight.shape.dims2()?;
        let dx = needs[0].then(|| input_gradient(dy.values, weight.values, inputs, outputs));
        let affine = (needs[1] || needs[2]).then(|| weight_gradient(dy.values, x.values, inputs, outputs));
        let (dweight, dbias) = affine.unzip();
        Ok([dx.into(), dweight.into(), dbias.into()])
    }

    fn gpu(&self, queue: &Queue, [x, weight, bias]: [View; 3]) -> Candle<Array> {
        let (outputs, inputs) = weight.shape.dims2()?;
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(outputs);
        let y = queue.array(dims, x.dtype)?;
        let cast = queue.cast(weight, x.dtype)?;
        let weight = cast.as_ref().map_or(weight, Array::view);
        let factors = [Factor::rows(x.address, inputs), Factor::rows(weight.address, inputs).turned()];
        queue.matmul(&Product::one([x.count() / inputs, outputs, inputs], factors, y.view(), x.dtype))?;
        queue.add_bias(&y, bias)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 3>) -> Candle<[Gradient; 3]> {
        let Known { inputs: [x, weight, _], dy, needs, .. } = known;
        let (outputs, inputs) = weight.shape.dims2()?;
        let rows = x.count() / inputs;
        let dx = Gradient::needed(needs[0], || {
            let dx = queue.like(x)?;
            let cast = queue.cast(weight, x.dtype)?;
            let weight = cast.as_ref().map_or(weight, Array::view);
            let factors = [Factor::rows(dy.address, outputs), Factor::rows(weight.address, inputs)];
            queue.matmul(&Product::one([rows, inputs, outputs], factors, dx.view(), x.dtype))?;
            Ok(dx)
        })?;
        let dweight = Gradient::needed(needs[1], || {
            let dweight = queue.array(weight.shape.clone(), DType::F32)?;
            let factors = [Factor::rows(dy.address, outputs).turned(), Factor::rows(x.address, inputs)];
            queue.matmul(&Product::one([outputs, inputs, rows], factors, dweight.view(), x.dtype))?;
            Ok(dweight)
        })?;
        Ok([dx, dweight, Gradient::needed(needs[2], || queue.column_sums(dy))?])
    }
}

fn forward(x: &[f32], weight: &[f32], bias: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let mut y = Fresh::new(rows * outputs);
    y.slots().par_chunks_mut(ROWS * outputs).zip(x.par_chunks(ROWS * inputs)).for_each(|(y, x)| {
        repeat(y, bias);
        // SAFETY: the strides describe the slices exactly, and `y` has just been written.
        unsafe {
            gemm::gemm(
                y.len() / outputs,
                outputs,
                inputs,
                y.as_mut_ptr().cast::<f32>(),
                1,
                outputs as isize,
                true,
                x.as_ptr(),
                1,
                inputs as isize,
                weight.as_ptr(),
                inputs as isize,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            )
        }
    });
    // SAFETY: the tasks cover all of `y`.
    unsafe { y.done() }
}

fn repeat(y: &mut [Slot], bias: &[f32]) {
    for y in y.chunks_exact_mut(bias.len()) {
        y.iter_mut().zip(bias).for_each(|(y, &bias)| {
            y.write(bias);
        });
    }
}

/// `dy weight`, a block of rows a task.
fn input_gradient(dy: &[f32], weight: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let mut dx = vec![0.0f32; dy.len() / outputs * inputs];
    let weight = Matrix::packed(weight, outputs);
    dx.par_chunks_mut(ROWS * inputs).zip(dy.par_chunks(ROWS * outputs)).for_each(|(dx, dy)| {
        let rows = dy.len() / outputs;
        product(MatrixMut::rows(dx, rows, inputs, inputs), &Matrix::packed(dy, rows), &weight, false);
    });
    dx
}

/// `dy^T x` and the sums of `dy`, a block of outputs a task: each sum over rows is one task's own.
fn weight_gradient(dy: &[f32], x: &[f32], inputs: usize, outputs: usize) -> (Vec<f32>, Vec<f32>) {
    const OUTPUTS: usize = 96;
    let rows = dy.len() / outputs;
    let (mut dw, mut db) = (vec![0.0f32; outputs * inputs], vec![0.0f32; outputs]);
    let x = Matrix::packed(x, rows);
    let tasks = dw.par_chunks_mut(OUTPUTS * inputs).zip(db.par_chunks_mut(OUTPUTS)).enumerate();
    tasks.filter(|_| rows > 0).for_each(|(task, (dw, db))| {
        let (dy, count) = (&dy[task * OUTPUTS..], db.len());
        let block = Matrix::rows(dy, rows, count, outputs).transposed();
        product(MatrixMut::rows(dw, count, inputs, inputs), &block, &x, false);
        add_rows(db, dy, outputs);
    });
    (dw, db)
}

vectorized! {
    /// Adds the beginnings of rows that start `stride` apart.
    fn add_rows(sums: &mut [f32], x: &[f32], stride: usize) {
        for x in x.chunks(stride) {
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
    }
}
