//! Two matrices taken together row by row.

use super::op::{Given, Gradient, Known, Op, apply2};
use crate::{
    error::{Error, Result},
    tensor::gpu::{Array, Grid, Queue, View, args},
};
use candle_core::{Device, Result as Candle, Shape, Tensor};

/// `(N, A)` and `(N, B)` side by side: `(N, A + B)`.
pub fn join(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match (a.dims(), b.dims()) {
        (&[rows, _], &[others, _]) if rows == others && a.dtype() == b.dtype() => Ok(apply2(Join, [a, b])?),
        _ => Err(apart("join", a, b)),
    }
}

/// The scalar product of each row of `a (N, C)` with that of `b (N, C)`: `(N)`.
pub fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match a.rank() == 2 && a.dims() == b.dims() && a.dtype() == b.dtype() {
        true => Ok(apply2(Dot, [a, b])?),
        false => Err(apart("dot", a, b)),
    }
}

fn apart(what: &str, a: &Tensor, b: &Tensor) -> Error {
    Error::bug(format!("{what}: {:?} and {:?} do not fit together", a.dims(), b.dims()))
}

struct Join;

/// Columns of each.
fn widths(a: &Shape, b: &Shape) -> Candle<[usize; 2]> {
    Ok([a.dims2()?.1, b.dims2()?.1])
}

/// The columns `from..from + width` of rows of `all`.
fn columns(values: &[f32], all: usize, from: usize, width: usize) -> Vec<f32> {
    values.chunks_exact(all.max(1)).flat_map(|row| &row[from..][..width]).copied().collect()
}

impl Op<2> for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn reads(&self) -> [bool; 2] {
        [false; 2]
    }

    fn cpu(&self, [a, b]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let ([first, second], rows) = (widths(a.shape, b.shape)?, a.shape.dims2()?.0);
        let row = |row: usize| a.values[row * first..][..first].iter().chain(&b.values[row * second..][..second]);
        Ok(((0..rows).flat_map(row).copied().collect(), (rows, first + second).into()))
    }

    fn cpu_gradients(&self, known: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        let Known { inputs: [a, b], dy, needs, .. } = known;
        let [first, second] = widths(a.shape, b.shape)?;
        let part = |from, width| columns(dy.values, first + second, from, width);
        Ok([needs[0].then(|| part(0, first)).into(), needs[1].then(|| part(first, second)).into()])
    }

    fn gpu(&self, queue: &Queue, [a, b]: [View; 2]) -> Candle<Array> {
        let ([first, second], rows) = (widths(a.shape, b.shape)?, a.shape.dims2()?.0);
        let y = queue.array((rows, first + second), a.dtype)?;
        let count = rows * (first + second);
        queue.launch("join", a.dtype, Grid::over(count), args![a, b, &y, count, first, second])?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 2>) -> Candle<[Gradient; 2]> {
        let Known { inputs: [a, b], dy, needs, .. } = known;
        let [first, second] = widths(a.shape, b.shape)?;
        let room = |of: View, needed: bool| needed.then(|| queue.like(of)).transpose();
        let (da, db) = (room(a, needs[0])?, room(b, needs[1])?);
        let arguments = args![dy, da.as_ref(), db.as_ref(), dy.count(), first, second];
        queue.launch("join_gradient", dy.dtype, Grid::over(dy.count()), arguments)?;
        Ok([da.into(), db.into()])
    }
}

struct Dot;

impl Op<2> for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }

    fn cpu(&self, [a, b]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let (rows, width) = a.shape.dims2()?;
        let products: Vec<f32> = a.values.iter().zip(b.values).map(|(a, b)| a * b).collect();
        Ok((Tensor::from_vec(products, (rows, width), &Device::Cpu)?.sum(1)?.to_vec1()?, rows.into()))
    }

    fn cpu_gradients(&self, known: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        let Known { inputs: [a, b], dy, needs, .. } = known;
        let width = a.shape.dims2()?.1;
        let by = |other: Given| other.values.iter().enumerate().map(|(at, x)| dy.values[at / width] * x).collect();
        Ok([needs[0].then(|| by(b)).into(), needs[1].then(|| by(a)).into()])
    }

    fn gpu(&self, queue: &Queue, [a, b]: [View; 2]) -> Candle<Array> {
        let (rows, width) = a.shape.dims2()?;
        let y = queue.array(rows, a.dtype)?;
        queue.launch("row_dots", a.dtype, Grid::warps(rows), args![a, b, &y, rows, width])?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 2>) -> Candle<[Gradient; 2]> {
        let Known { inputs: [a, b], dy, needs, .. } = known;
        let by = |other: View| -> Candle<Array> {
            let gradient = queue.like(other)?;
            let (count, width) = (other.count(), other.width());
            queue.launch(
                "row_dots_gradient",
                other.dtype,
                Grid::over(count),
                args![dy, other, &gradient, count, width],
            )?;
            Ok(gradient)
        };
        Ok([Gradient::needed(needs[0], || by(b))?, Gradient::needed(needs[1], || by(a))?])
    }
}
