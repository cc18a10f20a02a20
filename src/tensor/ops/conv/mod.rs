//! Convolution.

mod axis;
mod bias;
mod depthwise;
mod direct;
mod geometry;
mod gpu;
mod kernel;
mod panel;
mod pass;
mod portable;
mod transpose;
mod weight_gradient;

pub use bias::conv2d_bias;

use super::Window;
use crate::{
    error::Result,
    tensor::{
        gpu::{Array, Queue, View},
        ops::op::{Given, Gradient, Known, Op, apply2},
    },
};
use candle_core::{Shape, Tensor};
use geometry::Geometry;
use pulp::Arch;
use std::sync::OnceLock;

/// `torch.nn.functional.conv2d` without bias: `x (N, H, W, in)`, `weight (out, in / groups, kh, kw)` to `(N, H', W', out)`.
///
/// Any stride, padding, dilation and groups; depthwise (`groups == in == out`) has a path of its own.
/// Shapes that do not fit together are an error that names them.
pub fn conv2d(x: &Tensor, weight: &Tensor, window: Window, groups: usize) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims(), weight.dims(), window, groups)?;
    Ok(apply2(Conv2d::new(geometry), [x, weight])?)
}

/// The convolution on the tape: `(x, weight)` to the output.
struct Conv2d {
    geometry: Geometry,
    /// The weight as a GPU's forward pass has packed it, for the backward one.
    packed: OnceLock<Array>,
}

impl Conv2d {
    fn new(geometry: Geometry) -> Self {
        Self { geometry, packed: OnceLock::new() }
    }
}

type Candle<T> = candle_core::Result<T>;

impl Op<2> for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu(&self, [x, w]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let (arch, g) = (Arch::new(), &self.geometry);
        let y = Path::of(arch, g).forward(arch, g, x.values, w.values);
        Ok((y, self.geometry.output_shape().into()))
    }

    fn cpu_gradients(&self, known: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        let Known { inputs: [x, w], dy, needs, .. } = known;
        let (arch, g) = (Arch::new(), &self.geometry);
        let path = Path::of(arch, g);
        let dx = needs[0].then(|| path.input_gradient(arch, g, dy.values, w.values));
        let dw = needs[1].then(|| path.weight_gradient(arch, g, x.values, dy.values));
        Ok([dx.into(), dw.into()])
    }

    fn gpu(&self, queue: &Queue, [x, w]: [View; 2]) -> Candle<Array> {
        self.gpu_forward(queue, x, w)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs, dy, needs, .. }: Known<View, 2>) -> Candle<[Gradient; 2]> {
        self.gpu_backward(queue, inputs, dy, needs)
    }
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// Channel by channel.
    Depthwise,
    /// In registers, straight from the image.
    Direct,
    /// As a matrix product.
    Portable,
}

impl Path {
    /// Without vector instructions a tuned matrix product is faster than our own loops.
    fn of(arch: Arch, g: &Geometry) -> Self {
        match arch {
            _ if depthwise::is_depthwise(g) => Self::Depthwise,
            Arch::Scalar => Self::Portable,
            _ => Self::Direct,
        }
    }

    fn forward(self, arch: Arch, g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
        match self {
            _ if g.is_empty() => Vec::new(),
            Self::Depthwise => depthwise::forward(arch, g, x, weight),
            Self::Direct => direct::forward(arch, g, x, weight),
            Self::Portable => portable::forward(g, x, weight),
        }
    }

    fn input_gradient(self, arch: Arch, g: &Geometry, dy: &[f32], weight: &[f32]) -> Vec<f32> {
        match self {
            _ if g.is_empty() => vec![0.0; g.batch * g.input_image()],
            Self::Depthwise => depthwise::input_gradient(arch, g, dy, weight),
            Self::Direct => direct::input_gradient(arch, g, dy, weight),
            Self::Portable => portable::input_gradient(g, dy, weight),
        }
    }

    fn weight_gradient(self, arch: Arch, g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
        match self {
            _ if g.is_empty() => vec![0.0; g.outputs * g.group_inputs() * g.taps()],
            Self::Depthwise => depthwise::weight_gradient(arch, g, x, dy),
            Self::Direct => weight_gradient::weight_gradient(arch, g, x, dy),
            Self::Portable => portable::weight_gradient(g, x, dy),
        }
    }
}

#[cfg(test)]
mod tests;
