//! EfficientNet, timm's `efficientnet.py` and its builder. Tan & Le 2019, arXiv:1905.11946.

use super::{
    Backbone, Entry, Options, Pretrained, Sizes,
    hybrid::{BuildTrunk, Trunk, halved},
    inverted::{Block, Shape, Squeeze, classifier_init, layer, point, round_channels},
    parts::{Classifier, ConvNorm, FeatureMap, Segment, segments},
};
use crate::{
    error::Result,
    tensor::{
        Builder, Pass, Tensor,
        ops::{self, Activation, Window},
    },
};

pub const EFFICIENTNET_B0: Entry = Entry {
    name: "efficientnet_b0",
    about: "EfficientNet-B0, 5.3 M parameters. Tan & Le 2019, arXiv:1905.11946.",
    pretrained: &[
        Pretrained::imagenet("ra_in1k", 224, 224, 0.875),
        Pretrained::inception("ra4_e3600_r224_in1k", 224, 256, 1.0),
    ],
    classifier: "classifier",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(EfficientNet::new(b, options, 1.0, 1.0)?)),
};

pub const EFFICIENTNET_B1: Entry = Entry {
    name: "efficientnet_b1",
    about: "EfficientNet-B1, 7.8 M parameters. Tan & Le 2019, arXiv:1905.11946.",
    pretrained: &[
        Pretrained::inception("ra4_e3600_r240_in1k", 240, 288, 1.0),
        Pretrained::imagenet("ft_in1k", 224, 256, 1.0),
    ],
    classifier: "classifier",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(EfficientNet::new(b, options, 1.0, 1.1)?)),
};

pub const EFFICIENTNET_B2: Entry = Entry {
    name: "efficientnet_b2",
    about: "EfficientNet-B2, 9.1 M parameters. Tan & Le 2019, arXiv:1905.11946.",
    pretrained: &[Pretrained::imagenet("ra_in1k", 256, 288, 1.0)],
    classifier: "classifier",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(EfficientNet::new(b, options, 1.1, 1.2)?)),
};

pub const EFFICIENTNET_B3: Entry = Entry {
    name: "efficientnet_b3",
    about: "EfficientNet-B3, 12.2 M parameters. Tan & Le 2019, arXiv:1905.11946.",
    pretrained: &[Pretrained::imagenet("ra2_in1k", 288, 320, 1.0)],
    classifier: "classifier",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(EfficientNet::new(b, options, 1.2, 1.4)?)),
};

pub const EFFICIENTNET_B4: Entry = Entry {
    name: "efficientnet_b4",
    about: "EfficientNet-B4, 19.3 M parameters. Tan & Le 2019, arXiv:1905.11946.",
    pretrained: &[Pretrained::imagenet("ra2_in1k", 320, 384, 1.0)],
    classifier: "classifier",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(EfficientNet::new(b, options, 1.4, 1.8)?)),
};

/// What hybrids take of them.
pub const TRUNKS: &[Trunk] = &[
    trunk("efficientnet_b0", |b, options, stage| trunk_body(b, options, 1.0, 1.0, stage)),
    trunk("efficientnet_b1", |b, options, stage| trunk_body(b, options, 1.0, 1.1, stage)),
    trunk("efficientnet_b2", |b, options, stage| trunk_body(b, options, 1.1, 1.2, stage)),
    trunk("efficientnet_b3", |b, options, stage| trunk_body(b, options, 1.2, 1.4, stage)),
    trunk("efficientnet_b4", |b, options, stage| trunk_body(b, options, 1.4, 1.8, stage)),
];

const fn trunk(name: &'static str, build: BuildTrunk) -> Trunk {
    Trunk { name, stages: 4, side: halved, build }
}

/// Up to the last of the paper's stages whose map has a stage's size.
fn trunk_body(b: &Builder, options: &Options, width: f64, depth: f64, stage: usize) -> Result<Box<dyn FeatureMap>> {
    let stages = [2, 3, 5, 7][stage - 1];
    Ok(Box::new(Body::new(b, options, width, depth, stages)?))
}

/// One stage of the paper's Table 1, before scaling.
struct Stage {
    blocks: usize,
    kernel: usize,
    /// Of the stage's first block.
    stride: usize,
    /// Channels inside a block as a multiple of its input's; 1 leaves the expanding layer out.
    expansion: usize,
    channels: usize,
}

const STAGES: [Stage; 7] = [
    Stage { blocks: 1, kernel: 3, stride: 1, expansion: 1, channels: 16 },
    Stage { blocks: 2, kernel: 3, stride: 2, expansion: 6, channels: 24 },
    Stage { blocks: 2, kernel: 5, stride: 2, expansion: 6, channels: 40 },
    Stage { blocks: 3, kernel: 3, stride: 2, expansion: 6, channels: 80 },
    Stage { blocks: 3, kernel: 5, stride: 1, expansion: 6, channels: 112 },
    Stage { blocks: 4, kernel: 5, stride: 2, expansion: 6, channels: 192 },
    Stage { blocks: 1, kernel: 3, stride: 1, expansion: 6, channels: 320 },
];

const STEM: Window = Window::square(3, 2, 1);

impl Stage {
    fn shape(&self, inputs: usize, outputs: usize, stride: usize) -> Shape {
        // Reduced to a quarter of the block's input, not of its middle.
        let squeeze = Squeeze { reduced: inputs / 4, activation: Activation::Silu, gate: Activation::Sigmoid };
        Shape {
            inputs,
            middle: inputs * self.expansion,
            outputs,
            expands: self.expansion > 1,
            kernel: self.kernel,
            stride,
            activation: Activation::Silu,
            squeeze: Some(squeeze),
        }
    }
}

struct EfficientNet {
    body: Body,
    head: ConvNorm,
    classifier: Classifier,
}

impl EfficientNet {
    /// With the paper's multipliers of channels and of blocks per stage.
    fn new(b: &Builder, options: &Options, width: f64, depth: f64) -> Result<Self> {
        let body = Body::new(b, options, width, depth, STAGES.len())?;
        let features = round_channels(1280, width);
        let head = point(b, ["conv_head", "bn2"], [body.channels, features], Activation::Silu)?;
        let classifier = Classifier::new(&b.pp("classifier"), features, options, classifier_init(options.classes))?;
        Ok(Self { body, head, classifier })
    }
}

/// The stem and the blocks.
struct Body {
    stem: ConvNorm,
    blocks: Vec<Block>,
    channels: usize,
}

impl Body {
    /// With this many stages.
    fn new(b: &Builder, options: &Options, width: f64, depth: f64, stages: usize) -> Result<Self> {
        let depths = STAGES.map(|stage| (stage.blocks as f64 * depth).ceil() as usize);
        let total: usize = depths.iter().sum();
        let mut channels = round_channels(32, width);
        let stem = layer(b, ["conv_stem", "bn1"], [options.in_channels, channels], STEM, 1, Activation::Silu)?;
        let mut blocks = Vec::with_capacity(total);
        for (index, (stage, depth)) in STAGES.iter().zip(depths).take(stages).enumerate() {
            for block in 0..depth {
                let stride = if block == 0 { stage.stride } else { 1 };
                let drop_path = options.drop_path * blocks.len() as f64 / total as f64;
                let outputs = round_channels(stage.channels, width);
                let b = b.pp("blocks").pp(index).pp(block);
                blocks.push(Block::new(&b, &stage.shape(channels, outputs, stride), drop_path)?);
                channels = outputs;
            }
        }
        Ok(Self { stem, blocks, channels })
    }
}

impl FeatureMap for Body {
    fn segments(&self) -> Vec<Segment<'_>> {
        let stem: Segment = Box::new(|x, pass| self.stem.forward(x, pass));
        let blocks = segments(&self.blocks, Block::forward);
        std::iter::once(stem).chain(blocks).collect()
    }

    fn channels(&self) -> usize {
        self.channels
    }
}

impl Backbone for EfficientNet {
    fn segments(&self) -> Vec<Segment<'_>> {
        let mut segments = self.body.segments();
        segments.push(Box::new(|x, pass| ops::global_avg_pool(&self.head.forward(x, pass)?)));
        segments
    }

    fn head(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.classifier.forward(features, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backbone::tests::timm_drop_paths, tensor::Device};

    #[test]
    fn stochastic_depth_grows_as_in_timm() {
        let options = Options { drop_path: 0.2, ..Options::new(2) };
        let net = EfficientNet::new(&Builder::blank(&Device::Cpu), &options, 1.0, 1.1).unwrap();
        let rates: Vec<f64> = net.body.blocks.iter().map(|block| block.drop_path.rate).collect();
        assert_eq!(rates.len(), 23);
        let close = |(ours, theirs): (&f64, f64)| (ours - theirs).abs() < 1e-7;
        assert!(rates.iter().zip(timm_drop_paths("efficientnet_b1")).all(close), "{rates:?}");
    }
}
