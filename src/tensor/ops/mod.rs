//! Our own differentiable operations, each with its own backward, on `(N, H, W, C)` tensors: f32 on the CPU, activations in
//! f32, bf16 or f16 on a GPU.
//!
//! Each is coarse enough that the tape has few edges. A training step is recorded on a [`Tape`] of our own; where none
//! records, an operation is on Candle's. An operation computes a gradient only for the inputs that are on a tape.

mod add;
mod attention;
mod bias;
mod columns;
mod conv;
mod drop;
mod elementwise;
mod function;
mod gate;
mod hits;
mod lanes;
mod layer_norm;
mod leaky;
mod linear;
mod loss;
mod matmul;
pub mod matrix;
mod memory;
mod norm;
mod op;
mod pad;
mod pairs;
mod pool;
mod scale;
mod shape;
mod simd;
mod tape;
mod tokens;
mod upsample;

pub use add::{add, affine, scale, total};
pub use attention::attention;
pub use bias::bias;
pub use conv::{conv2d, conv2d_bias};
pub use drop::{drop_path, dropout};
pub use elementwise::activate;
pub use gate::{gate_channels, squeeze_excite};
pub use hits::hits;
pub use layer_norm::layer_norm;
pub use leaky::leaky_relu;
pub use linear::linear;
pub use loss::{bce_with_logits, soft_cross_entropy};
pub use matmul::matmul;
pub use norm::{Running, batch_norm_eval, batch_norm_train, group_norm, track};
pub use op::{Given, Gradient, Known, Op, apply1};
pub use pad::{pad2d, same_padding};
pub use pairs::{dot, join};
pub use pool::{avg_pool2d, avg_pool2d_ceil, global_avg_pool, max_pool2d};
pub use scale::scale_add;
pub use shape::{exact, first_token, patch_weight, patches, reshape};
pub use tape::{Gradients, Tape, untracked};
pub use tokens::tokens;
pub use upsample::upsample_nearest2x;

use super::gpu::{Arg, Columns, args};

/// The nonlinearity fused behind another operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Identity,
    /// Its derivative at 0 is 0, as in torch.
    Relu,
    Silu,
    Sigmoid,
    /// The exact one, with erf.
    Gelu,
    /// `x * relu6(x + 3) / 6`, MobileNetV3's stand-in for [`Activation::Silu`].
    HardSwish,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
}

/// What a convolution or pool sees at once: `[height, width]` each, as in torch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

impl Window {
    /// A square window without dilation.
    pub const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2], dilation: [1; 2] }
    }

    /// The output's `[height, width]`, 0 where the window does not fit.
    pub fn output(&self, input: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let padded = input[axis] + 2 * self.padding[axis];
            if padded < reach { 0 } else { (padded - reach) / self.stride[axis] + 1 }
        })
    }

    /// What kernels know of a window over images: the columns they walk, `[height, width]` of input and output, and itself.
    fn arguments(&self, columns: Columns, input: [usize; 2], output: [usize; 2]) -> Vec<Arg> {
        let sizes = [input, output, self.kernel, self.stride, self.padding, self.dilation];
        let sizes = sizes.into_iter().flatten().map(|size| Arg::Int(size as i32));
        args![columns.rows, columns.channels, i32::from(columns.wide)].iter().copied().chain(sizes).collect()
    }
}
