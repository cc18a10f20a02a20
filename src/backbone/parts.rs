//! What convolutional backbones are made of.

use super::Options;
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor, Weight,
        layers::{BatchNorm, Conv2d, DropPath, Dropout, Linear},
        ops::{self, Activation},
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

/// Squeeze-excite: scales each channel by a gate computed from all channels' means. Hu et al. 2018, arXiv:1709.01507.
/// timm's `SqueezeExcite` of its mobile nets: two 1x1 convolutions with bias, `conv_reduce` and `conv_expand`.
pub struct SqueezeExcite {
    reduce: [Weight; 2],
    expand: [Weight; 2],
    activation: Activation,
}

impl SqueezeExcite {
    /// The weights start normal with std sqrt(2 / outputs), the biases at zero.
    pub fn new(b: &Builder, channels: usize, reduced: usize, activation: Activation) -> Result<Self> {
        let conv = |name: &str, inputs: usize, outputs: usize| -> Result<[Weight; 2]> {
            let b = b.pp(name);
            let weight = b.param("weight", (outputs, inputs, 1, 1), Init::KaimingNormalFanOut)?;
            Ok([weight, b.param("bias", outputs, Init::ZEROS)?])
        };
        let (reduce, expand) = (conv("conv_reduce", channels, reduced)?, conv("conv_expand", reduced, channels)?);
        Ok(Self { reduce, expand, activation })
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        ops::squeeze_excite(x, |means| {
            let reduced = point(means, &self.reduce, self.activation, pass)?;
            point(&reduced, &self.expand, Activation::Identity, pass)
        })
    }
}

/// A 1x1 convolution with bias on `(N, C)`.
fn point(x: &Tensor, [weight, bias]: &[Weight; 2], activation: Activation, pass: &Pass) -> Result<Tensor> {
    let weight = weight.get(pass).flatten_from(1)?;
    ops::linear(x, &weight, &bias.get(pass), activation)
}

/// The convolutional part of a hybrid: images to a feature map.
pub trait FeatureMap: Send + Sync {
    /// `(N, H, W, 3)` normalized images to `(N, H', W', channels)`.
    fn forward(&self, images: &Tensor, pass: &Pass) -> Result<Tensor>;

    fn channels(&self) -> usize;
}
