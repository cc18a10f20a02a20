//! Inverted residual blocks, timm's `_efficientnet_blocks.py`: what EfficientNet and MobileNetV3 are made of.

use super::parts::{ConvNorm, SqueezeExcite};
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor,
        layers::{BatchNorm, Conv2d, DropPath},
        ops::{Activation, Window},
    },
};

const POINT: Window = Window::square(1, 1, 0);

/// What a block looks like.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Channels into it.
    pub inputs: usize,
    /// Channels inside it; where it does not expand, `inputs`.
    pub middle: usize,
    pub outputs: usize,
    /// Whether a layer expands the channels first, even where `middle` is `inputs`.
    pub expands: bool,
    /// Of the depthwise convolution.
    pub kernel: usize,
    pub stride: usize,
    pub activation: Activation,
    pub squeeze: Option<Squeeze>,
}

/// A block's squeeze-excite.
#[derive(Clone, Copy)]
pub struct Squeeze {
    pub reduced: usize,
    pub activation: Activation,
    pub gate: Activation,
}

/// timm's `InvertedResidual`, or its `DepthwiseSeparableConv` where nothing is expanded:
/// expand, depthwise, squeeze-excite, project, and the input added where the shapes agree.
pub struct Block {
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    squeeze_excite: Option<SqueezeExcite>,
    project: ConvNorm,
    shortcut: bool,
    pub(super) drop_path: DropPath,
}

impl Block {
    pub fn new(b: &Builder, shape: &Shape, drop_path: f64) -> Result<Self> {
        let Shape { inputs, middle, outputs, activation, .. } = *shape;
        let window = Window::square(shape.kernel, shape.stride, shape.kernel / 2);
        let names = if shape.expands { ["bn2", "conv_pwl", "bn3"] } else { ["bn1", "conv_pw", "bn2"] };
        let expand = || point(b, ["conv_pw", "bn1"], [inputs, middle], activation);
        let squeeze = |s: Squeeze| SqueezeExcite::mobile(&b.pp("se"), middle, s.reduced, s.activation, s.gate);
        Ok(Self {
            expand: shape.expands.then(expand).transpose()?,
            depthwise: layer(b, ["conv_dw", names[0]], [middle, middle], window, middle, activation)?,
            squeeze_excite: shape.squeeze.map(squeeze).transpose()?,
            project: point(b, [names[1], names[2]], [middle, outputs], Activation::Identity)?,
            shortcut: shape.stride == 1 && inputs == outputs,
            drop_path: DropPath::new(b, drop_path),
        })
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let expanded = match &self.expand {
            Some(layer) => &layer.forward(x, pass)?,
            None => x,
        };
        let mut y = self.depthwise.forward(expanded, pass)?;
        if let Some(squeeze_excite) = &self.squeeze_excite {
            y = squeeze_excite.forward(&y, pass)?;
        }
        match self.shortcut {
            true => self.project.forward_residual(&y, x, &self.drop_path, pass),
            false => self.project.forward(&y, pass),
        }
    }
}

/// A convolution and a norm with these names, `[inputs, outputs]` channels, and the initial values of the TPU code:
/// normal with std sqrt(2 / (k * k * outputs / groups)), timm's `_init_weight_goog`.
pub fn layer(
    b: &Builder,
    [conv, norm]: [&str; 2],
    [inputs, outputs]: [usize; 2],
    window: Window,
    groups: usize,
    activation: Activation,
) -> Result<ConvNorm> {
    let fan_out = window.kernel[0] * window.kernel[1] * outputs / groups;
    let init = Init::Normal { std: (2.0 / fan_out as f64).sqrt() };
    Ok(ConvNorm {
        conv: Conv2d::with(&b.pp(conv), inputs, outputs, window, groups, init)?,
        norm: BatchNorm::new(&b.pp(norm), outputs, activation)?,
    })
}

/// A [`layer`] that sees one pixel.
pub fn point(b: &Builder, names: [&str; 2], channels: [usize; 2], activation: Activation) -> Result<ConvNorm> {
    layer(b, names, channels, POINT, 1, activation)
}

/// timm's `_init_weight_goog` of a linear layer: fan_in counts as 0, so that two classes start at U(+-0.71).
pub fn classifier_init(classes: usize) -> [Init; 2] {
    [Init::Uniform { bound: 1.0 / (classes.max(1) as f64).sqrt() }, Init::ZEROS]
}

/// timm's `round_channels`: to the nearest multiple of 8, but not down by more than a tenth.
pub fn round_channels(channels: usize, multiplier: f64) -> usize {
    let wanted = channels as f64 * multiplier;
    let rounded = ((wanted + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
}
