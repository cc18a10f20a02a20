//! The product of two matrices.

use super::op::{Given, Gradient, Known, Op, apply2};
use crate::{
    error::{Error, Result},
    tensor::gpu::{Array, Factor, Product, Queue, View},
};
use candle_core::{Device, Result as Candle, Shape, Tensor};

/// `a b`: `a (N, K)` and `b (K, M)` of one type to `(N, M)`.
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

fn tensor(given: Given) -> Candle<Tensor> {
    Tensor::from_slice(given.values, given.shape, &Device::Cpu)
}

fn values(y: Tensor) -> Candle<Vec<f32>> {
    y.flatten_all()?.to_vec1()
}

impl Op<2> for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn cpu(&self, [a, b]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let [rows, columns, _] = sizes(a.shape, b.shape)?;
        Ok((values(tensor(a)?.matmul(&tensor(b)?)?)?, (rows, columns).into()))
    }

    fn cpu_gradients(&self, known: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        let Known { inputs: [a, b], dy, needs, .. } = known;
        let dy = tensor(dy)?;
        Ok([
            Gradient::needed(needs[0], || values(dy.matmul(&tensor(b)?.t()?)?))?,
            Gradient::needed(needs[1], || values(tensor(a)?.t()?.matmul(&dy)?))?,
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
