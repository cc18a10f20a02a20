//! What convolutional backbones are made of.

use super::Options;
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor, Weight,
        layers::{BatchNorm, Conv2d, DropPath, Dropout, Linear},
        ops::{self, Activation, Window},
    },
};

/// A convolution and the norm, with its activation, behind it.
pub struct ConvNorm {
    pub conv: Conv2d,
    pub norm: BatchNorm,
}

impl ConvNorm {
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x, pass)?, None, pass)
    }

    /// As the last layer of a residual branch: `act(drop_path(bn(conv(x))) + shortcut)`.
    pub fn forward_residual(&self, x: &Tensor, shortcut: &Tensor, drop_path: &DropPath, pass: &Pass) -> Result<Tensor> {
        self.norm.forward_residual(&self.conv.forward(x, pass)?, shortcut, drop_path, pass)
    }
}

/// The end of every backbone: dropout and a linear layer, pooled features to logits.
pub struct Classifier {
    dropout: Dropout,
    linear: Linear,
}

impl Classifier {
    pub fn new(b: &Builder, width: usize, options: &Options, [weight, bias]: [Init; 2]) -> Result<Self> {
        let linear = Linear::with(b, width, options.classes, Activation::Identity, weight, bias)?;
        Ok(Self { dropout: Dropout::new(b, options.drop_rate), linear })
    }

    pub fn forward(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.linear.forward(&self.dropout.forward(features, pass)?, pass)
    }
}

/// A 1x1 convolution with bias and an activation behind it, as a linear layer on the channels: `(.., in)` to `(.., out)`.
pub struct Point {
    weight: Weight,
    bias: Weight,
    activation: Activation,
}

impl Point {
    /// `size` is the channels in and out; `init` is of weight and bias.
    pub fn new(b: &Builder, [inputs, outputs]: [usize; 2], activation: Activation, init: [Init; 2]) -> Result<Self> {
        let weight = b.param("weight", (outputs, inputs, 1, 1), init[0])?;
        Ok(Self { weight, bias: b.param("bias", outputs, init[1])?, activation })
    }

    /// The same with the weight of a linear layer, `(out, in)`.
    pub fn linear(b: &Builder, [inputs, outputs]: [usize; 2], activation: Activation, init: [Init; 2]) -> Result<Self> {
        let weight = b.param("weight", (outputs, inputs), init[0])?;
        Ok(Self { weight, bias: b.param("bias", outputs, init[1])?, activation })
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let weight = self.weight.get(pass);
        let (outputs, inputs) = (weight.dim(0)?, weight.dim(1)?);
        let weight = ops::reshape(&weight, (outputs, inputs))?;
        ops::linear(x, &weight, &self.bias.get(pass), self.activation)
    }
}

/// Squeeze-excite: scales each channel by a gate computed from all channels' means. Hu et al. 2018, arXiv:1709.01507.
pub struct SqueezeExcite {
    reduce: Point,
    expand: Point,
    gate: Activation,
}

impl SqueezeExcite {
    /// timm's `SqueezeExcite` of its mobile nets, with `activation` inside and `gate` at the end. The weights start normal
    /// with std sqrt(2 / outputs), the biases at zero.
    pub fn mobile(
        b: &Builder,
        channels: usize,
        reduced: usize,
        activation: Activation,
        gate: Activation,
    ) -> Result<Self> {
        let init = [Init::KaimingNormalFanOut, Init::ZEROS];
        let reduce = Point::new(&b.pp("conv_reduce"), [channels, reduced], activation, init)?;
        let expand = Point::new(&b.pp("conv_expand"), [reduced, channels], Activation::Identity, init)?;
        Ok(Self { reduce, expand, gate })
    }

    /// timm's `SEModule` of its residual nets: reduced to a sixteenth, in steps of 8; the biases start as torch's.
    pub fn residual(b: &Builder, channels: usize) -> Result<Self> {
        let reduced = ((channels as f64 / 16.0 + 4.0) as usize / 8 * 8).max(8);
        let init = |inputs| [Init::KaimingNormalFanOut, Init::torch_default(inputs)];
        let reduce = Point::new(&b.pp("fc1"), [channels, reduced], Activation::Relu, init(channels))?;
        let expand = Point::new(&b.pp("fc2"), [reduced, channels], Activation::Identity, init(reduced))?;
        Ok(Self { reduce, expand, gate: Activation::Sigmoid })
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        ops::squeeze_excite(x, self.gate, |means| self.expand.forward(&self.reduce.forward(means, pass)?, pass))
    }
}

/// Efficient channel attention: as squeeze-excite, but a channel's gate sees its few neighbours alone, through one kernel
/// for all. Wang et al. 2020, arXiv:1910.03151; timm's `EcaModule`.
pub struct ChannelAttention {
    kernel: Weight,
}

impl ChannelAttention {
    pub fn new(b: &Builder, channels: usize) -> Result<Self> {
        // The paper's rule: log2 of the channels and 1, halved, at the next odd number.
        let half = ((channels as f64).log2() + 1.0) as usize / 2;
        let size = (half | 1).max(3);
        Ok(Self { kernel: b.pp("conv").param("weight", (1, 1, size), Init::torch_default(size))? })
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        ops::squeeze_excite(x, Activation::Sigmoid, |means| {
            let (kernel, (samples, channels)) = (self.kernel.get(pass), means.dims2()?);
            let size = kernel.dim(2)?;
            let kernel = ops::reshape(&kernel, (1, 1, 1, size))?;
            let window = Window { kernel: [1, size], padding: [0, size / 2], ..Window::square(1, 1, 0) };
            // The channels are the pixels of an image one pixel high.
            let image = ops::reshape(means, (samples, 1, channels, 1))?;
            ops::reshape(&ops::conv2d(&image, &kernel, window, 1)?, (samples, channels))
        })
    }
}

/// A part of a backbone that only its neighbours' values connect with the rest.
pub type Segment<'a> = Box<dyn Fn(&Tensor, &Pass) -> Result<Tensor> + 'a>;

/// A segment for each of a row of blocks.
pub fn segments<B>(
    blocks: &[B],
    forward: fn(&B, &Tensor, &Pass) -> Result<Tensor>,
) -> impl Iterator<Item = Segment<'_>> {
    blocks.iter().map(move |block| -> Segment { Box::new(move |x, pass| forward(block, x, pass)) })
}

/// The convolutional part of a hybrid: images to a feature map.
pub trait FeatureMap: Send + Sync {
    /// The way from `(N, H, W, in_channels)` normalized images to `(N, H', W', channels)`, a block at a time.
    fn segments(&self) -> Vec<Segment<'_>>;

    fn channels(&self) -> usize;
}
