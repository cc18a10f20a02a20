//! The convolutional part of timm's hybrid vision transformers: `resnetv2.py` without pre-activation, with standardized
//! weights, group norms and "SAME" padding. Kolesnikov et al. 2019, arXiv:1912.11370; Dosovitskiy et al. 2020,
//! arXiv:2010.11929.

use super::parts::{FeatureMap, Segment, segments};
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor, Weight,
        layers::GroupNorm,
        ops::{self, Activation, Window, same_padding},
    },
};

/// Groups of every norm.
const GROUPS: usize = 32;
/// Channels of the stem.
const STEM: usize = 64;

/// A stem and stages of bottleneck blocks.
pub struct ResNetV2 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    channels: usize,
}

impl ResNetV2 {
    /// For images of `inputs` channels, with this many blocks a stage; without stages, it is the stem alone, under its
    /// own names.
    pub fn new(b: &Builder, inputs: usize, depths: &[usize]) -> Result<Self> {
        let (at, init) = match depths {
            // timm leaves torch's own values where there is no `ResNetV2` around the stem.
            [] => (b.clone(), Init::torch_default(inputs * 7 * 7)),
            _ => (b.pp("stem"), Init::KaimingNormalFanOut),
        };
        let stem = ConvNorm {
            conv: StdConv::new(&at.pp("conv"), [inputs, STEM], 7, 2, init)?,
            norm: GroupNorm::new(&at.pp("norm"), GROUPS, STEM, Activation::Relu, Init::ONES)?,
        };
        let (mut blocks, mut channels) = (Vec::new(), STEM);
        for (stage, &depth) in depths.iter().enumerate() {
            let outputs = 256 << stage;
            for index in 0..depth {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let b = b.pp("stages").pp(stage).pp("blocks").pp(index);
                blocks.push(Block::new(&b, [channels, outputs], stride, index == 0)?);
                channels = outputs;
            }
        }
        Ok(Self { stem, blocks, channels })
    }

    /// The side of the feature map of an image.
    pub fn side(image: usize, depths: &[usize]) -> usize {
        (0..depths.len().max(1) + 1).fold(image, |side, _| side.div_ceil(2))
    }
}

impl FeatureMap for ResNetV2 {
    fn segments(&self) -> Vec<Segment<'_>> {
        let stem: Segment = Box::new(|x, pass| max_pool(&self.stem.forward(x, pass)?));
        let blocks = segments(&self.blocks, Block::forward);
        std::iter::once(stem).chain(blocks).collect()
    }

    fn channels(&self) -> usize {
        self.channels
    }
}

/// timm's `MaxPool2dSame`, 3x3 at stride 2.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (_, h, w, _) = x.dims4()?;
    let padded = ops::pad2d(x, [h, w].map(|size| same_padding(size, 3, 2)), f32::NEG_INFINITY)?;
    ops::max_pool2d(&padded, Window::square(3, 2, 0))
}

/// timm's `StdConv2dSame`: a convolution whose weight is standardized, each output's own, before it is used. Qiao et al.
/// 2019, arXiv:1903.10520.
struct StdConv {
    weight: Weight,
    kernel: usize,
    stride: usize,
}

impl StdConv {
    const EPS: f64 = 1e-8;

    fn new(b: &Builder, [inputs, outputs]: [usize; 2], kernel: usize, stride: usize, init: Init) -> Result<Self> {
        Ok(Self { weight: b.param("weight", (outputs, inputs, kernel, kernel), init)?, kernel, stride })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let raw = self.weight.get(pass);
        let rows = ops::reshape(&raw, (raw.dim(0)?, raw.elem_count() / raw.dim(0)?))?;
        let weight = ops::reshape(&ops::layer_norm(&rows, None, Self::EPS)?, raw.shape())?;
        let (_, h, w, _) = x.dims4()?;
        match [h, w].map(|size| same_padding(size, self.kernel, self.stride)) {
            // What both ends share needs no copy of the image.
            [rows, columns] if rows == columns && rows[0] == rows[1] => {
                ops::conv2d(x, &weight, Window::square(self.kernel, self.stride, rows[0]), 1)
            }
            borders => {
                ops::conv2d(&ops::pad2d(x, borders, 0.0)?, &weight, Window::square(self.kernel, self.stride, 0), 1)
            }
        }
    }
}

struct ConvNorm {
    conv: StdConv,
    norm: GroupNorm,
}

impl ConvNorm {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x, pass)?, pass)
    }
}

/// timm's `Bottleneck`: `relu(body(x) + downsample(x))`.
struct Block {
    downsample: Option<ConvNorm>,
    body: [ConvNorm; 3],
}

impl Block {
    fn new(b: &Builder, [inputs, outputs]: [usize; 2], stride: usize, first: bool) -> Result<Self> {
        let layer = |names: [&str; 2], channels: [usize; 2], kernel, stride, activation, weight| -> Result<ConvNorm> {
            Ok(ConvNorm {
                conv: StdConv::new(&b.pp(names[0]), channels, kernel, stride, Init::KaimingNormalFanOut)?,
                norm: GroupNorm::new(&b.pp(names[1]), GROUPS, channels[1], activation, weight)?,
            })
        };
        let (middle, plain, relu) = (outputs / 4, Activation::Identity, Activation::Relu);
        let resized = ["downsample.conv", "downsample.norm"];
        let downsample = first.then(|| layer(resized, [inputs, outputs], 1, stride, plain, Init::ONES)).transpose()?;
        let body = [
            layer(["conv1", "norm1"], [inputs, middle], 1, 1, relu, Init::ONES)?,
            layer(["conv2", "norm2"], [middle, middle], 3, stride, relu, Init::ONES)?,
            // timm's zero_init_last: a fresh block is its shortcut.
            layer(["conv3", "norm3"], [middle, outputs], 1, 1, plain, Init::ZEROS)?,
        ];
        Ok(Self { downsample, body })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mut y = x.clone();
        for layer in &self.body {
            y = layer.forward(&y, pass)?;
        }
        let shortcut = match &self.downsample {
            Some(layer) => layer.forward(x, pass)?,
            None => x.clone(),
        };
        ops::activate(&ops::add(&y, &shortcut)?, Activation::Relu)
    }
}
