//! Convolution.

mod axis;
mod bias;
mod depthwise;
mod direct;
mod geometry;
mod kernel;
mod panel;
mod pass;
mod portable;
mod transpose;
mod weight_gradient;

pub use bias::conv2d_bias;

use super::Window;
use crate::error::Result;
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use geometry::Geometry;
use pulp::Arch;

/// `torch.nn.functional.conv2d` without bias: `x (N, H, W, in)`, `weight (out, in / groups, kh, kw)` to `(N, H', W', out)`.
///
/// Any stride, padding, dilation and groups; depthwise (`groups == in == out`) has a path of its own.
/// Shapes that do not fit together are an error that names them.
pub fn conv2d(x: &Tensor, weight: &Tensor, window: Window, groups: usize) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims(), weight.dims(), window, groups)?;
    Ok(x.contiguous()?.apply_op2(&weight.contiguous()?, Conv2d(geometry))?)
}

/// The convolution on the tape: `(x, weight)` to the output.
struct Conv2d(Geometry);

/// Of the output's gradient and the weight, the input's gradient.
struct InputGradient(Geometry);

/// Of the input and the output's gradient, the weight's gradient.
struct WeightGradient(Geometry);

type Candle<T> = candle_core::Result<T>;

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_at: &Layout, w: &CpuStorage, w_at: &Layout) -> Candle<(CpuStorage, Shape)> {
        let (arch, g) = (Arch::new(), &self.0);
        let y = Path::of(arch, g).forward(arch, g, slice(x, x_at)?, slice(w, w_at)?);
        Ok((CpuStorage::F32(y), self.0.output_shape().into()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let dx = x.track_op().then(|| dy.apply_op2_no_bwd(w, &InputGradient(self.0))).transpose()?;
        let dw = w.track_op().then(|| x.apply_op2_no_bwd(&dy, &WeightGradient(self.0))).transpose()?;
        Ok((dx, dw))
    }
}

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "conv2d-input-gradient"
    }

    fn cpu_fwd(&self, dy: &CpuStorage, dy_at: &Layout, w: &CpuStorage, w_at: &Layout) -> Candle<(CpuStorage, Shape)> {
        let (arch, g) = (Arch::new(), &self.0);
        let dx = Path::of(arch, g).input_gradient(arch, g, slice(dy, dy_at)?, slice(w, w_at)?);
        Ok((CpuStorage::F32(dx), self.0.input_shape().into()))
    }
}

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "conv2d-weight-gradient"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_at: &Layout, dy: &CpuStorage, dy_at: &Layout) -> Candle<(CpuStorage, Shape)> {
        let (arch, g) = (Arch::new(), &self.0);
        let dw = Path::of(arch, g).weight_gradient(arch, g, slice(x, x_at)?, slice(dy, dy_at)?);
        Ok((CpuStorage::F32(dw), self.0.weight_shape().into()))
    }
}

/// The values of a contiguous f32 tensor.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Candle<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("conv2d works on contiguous tensors, got the layout {layout:?}"),
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
