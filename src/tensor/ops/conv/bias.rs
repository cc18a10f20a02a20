//! Convolution with a bias, added where the output has just been made.

use super::{Candle, Conv2d, Geometry};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Queue, View},
        ops::{
            Window, columns,
            op::{Given, Gradient, Known, Op, apply3},
            simd::vectorized,
        },
    },
};
use candle_core::{Shape, Tensor};
use rayon::prelude::*;

/// `torch.nn.functional.conv2d` with bias: as [`super::conv2d`], and `bias (out)`.
pub fn conv2d_bias(x: &Tensor, weight: &Tensor, bias: &Tensor, window: Window, groups: usize) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims(), weight.dims(), window, groups)?;
    if bias.dims() != [geometry.outputs] {
        return Err(Error::bug(format!("conv2d: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims())));
    }
    Ok(apply3(Biased(Conv2d::new(geometry)), [x, weight, bias])?)
}

struct Biased(Conv2d);

/// Elements of one task's rows.
const BLOCK: usize = 1 << 14;

impl Op<3> for Biased {
    fn name(&self) -> &'static str {
        "conv2d-bias"
    }

    fn cpu(&self, [x, weight, bias]: [Given; 3]) -> Candle<(Vec<f32>, Shape)> {
        let (mut y, shape) = self.0.cpu([x, weight])?;
        let bias = bias.values;
        y.par_chunks_mut(bias.len() * (BLOCK / bias.len()).max(1)).for_each(|y| add_to_rows(y, bias));
        Ok((y, shape))
    }

    fn cpu_gradients(&self, known: Known<Given, 3>) -> Candle<[Gradient<Vec<f32>>; 3]> {
        let Known { inputs: [x, weight, bias], y, dy, needs } = known;
        let [dx, dweight] = self.0.cpu_gradients(Known { inputs: [x, weight], y, dy, needs: [needs[0], needs[1]] })?;
        let dbias = needs[2].then(|| columns::sums(dy.values, bias.count()));
        Ok([dx, dweight, dbias.into()])
    }

    fn gpu(&self, queue: &Queue, [x, weight, bias]: [View; 3]) -> Candle<Array> {
        let y = self.0.gpu_forward(queue, x, weight)?;
        queue.add_bias(&y, bias)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 3>) -> Candle<[Gradient; 3]> {
        let Known { inputs: [x, weight, _], dy, needs, .. } = known;
        let [dx, dweight] = self.0.gpu_backward(queue, [x, weight], dy, [needs[0], needs[1]])?;
        Ok([dx, dweight, Gradient::needed(needs[2], || queue.column_sums(dy))?])
    }
}

vectorized! {
    fn add_to_rows(y: &mut [f32], bias: &[f32]) {
        for y in y.chunks_exact_mut(bias.len()) {
            y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias);
        }
    }
}
