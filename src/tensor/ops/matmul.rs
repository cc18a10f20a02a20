//! The product of two matrices.

use super::{
    matrix::{Matrix, MatrixMut, product},
    op::{Given, Gradient, Known, Op, apply2},
};
use crate::{
    error::{Error, Result},
    tensor::gpu::{Array, Factor, Product, Queue, View},
};
use candle_core::{Result as Candle, Shape, Tensor};

/// `a b`: `a (N, K)` and `b (K, M)` of one type to `(N, M)`. For small ones: on the CPU one thread computes it.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match (a.dims2()?, b.dims2()?) {
        ((_, inner), (rows, _)) if inner == rows && a.dtype() == b.dtype() => Ok(apply2(Matmul, [a, b])?),
        _ => Err(Error::bug(format!("matmul: {:?} and {:?} do not fit together", a.dims(), b.dims()))),
    }
}

struct Matmul;

/// Rows and columns of the product, and the terms of each of its sums.
fn sizes(a: &Shape, b: &Shape) -> Candle<[usize; 3]> {
    let ((rows, inner), (_, columns)) = (a.dims2()?, b.dims2()?);
    Ok([rows, columns, inner])
}

fn on_cpu([rows, columns]: [usize; 2], a: &Matrix, b: &Matrix) -> Vec<f32> {
    let mut y = vec![0.0; rows * columns];
    product(MatrixMut::rows(&mut y, rows, columns, columns), a, b, false);
    y
}

impl Op<2> for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn cpu(&self, [a, b]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let [rows, columns, inner] = sizes(a.shape, b.shape)?;
        let y = on_cpu([rows, columns], &Matrix::packed(a.values, rows), &Matrix::packed(b.values, inner));
        Ok((y, (rows, columns).into()))
    }

    fn cpu_gradients(&self, known: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        let Known { inputs: [a, b], dy, needs, .. } = known;
        let [rows, columns, inner] = sizes(a.shape, b.shape)?;
        let dy = Matrix::packed(dy.values, rows);
        let (left, right) = (Matrix::packed(a.values, rows).transposed(), Matrix::packed(b.values, inner).transposed());
        Ok([
            needs[0].then(|| on_cpu([rows, inner], &dy, &right)).into(),
            needs[1].then(|| on_cpu([inner, columns], &left, &dy)).into(),
        ])
    }

    fn gpu(&self, queue: &Queue, [a, b]: [View; 2]) -> Candle<Array> {
        let [rows, columns, inner] = sizes(a.shape, b.shape)?;
        let y = queue.array((rows, columns), a.dtype)?;
        let factors = [Factor::rows(a.address, inner), Factor::rows(b.address, columns)];
        queue.matmul(&Product::one([rows, columns, inner], factors, y.view(), a.dtype))?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 2>) -> Candle<[Gradient; 2]> {
        let Known { inputs: [a, b], dy, needs, .. } = known;
        let [rows, columns, inner] = sizes(a.shape, b.shape)?;
        let dy = Factor::rows(dy.address, columns);
        let gradient = |of: View, sizes: [usize; 3], factors: [Factor; 2]| -> Candle<Array> {
            let gradient = queue.like(of)?;
            queue.matmul(&Product::one(sizes, factors, gradient.view(), of.dtype))?;
            Ok(gradient)
        };
        let (left, right) = (Factor::rows(a.address, inner).turned(), Factor::rows(b.address, columns).turned());
        Ok([
            Gradient::needed(needs[0], || gradient(a, [rows, inner, columns], [dy, right]))?,
            Gradient::needed(needs[1], || gradient(b, [inner, columns, rows], [left, dy]))?,
        ])
    }
}
