//! MobileNetV3, timm's `mobilenetv3.py`. Howard et al. 2019, arXiv:1905.02244.

use super::{
    Backbone, Entry, Options, Pretrained, Sizes,
    inverted::{Block, Shape, Squeeze, classifier_init, layer, point, round_channels},
    parts::{Classifier, ConvNorm, Point, Segment, segments},
};
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor,
        ops::{
            self,
            Activation::{self, HardSigmoid, HardSwish, Relu},
            Window,
        },
    },
};

pub const MOBILENETV3_SMALL_100: Entry = Entry {
    name: "mobilenetv3_small_100",
    about: "MobileNetV3-Small, 2.5 M parameters. Howard et al. 2019, arXiv:1905.02244.",
    pretrained: &[Pretrained::imagenet("lamb_in1k", 224, 224, 0.875)],
    classifier: "classifier",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(MobileNetV3::new(b, options, &SMALL, 1024)?)),
};

pub const MOBILENETV3_LARGE_100: Entry = Entry {
    name: "mobilenetv3_large_100",
    about: "MobileNetV3-Large, 5.5 M parameters. Howard et al. 2019, arXiv:1905.02244.",
    pretrained: &[
        Pretrained::imagenet("ra_in1k", 224, 224, 0.875),
        Pretrained { classes: 11221, ..miil("miil_in21k") },
        miil("miil_in21k_ft_in1k"),
        Pretrained::inception("ra4_e3600_r224_in1k", 224, 256, 1.0),
    ],
    classifier: "classifier",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(MobileNetV3::new(b, options, &LARGE, 1280)?)),
};

/// Weights of images that were only scaled to 0..1.
const fn miil(tag: &'static str) -> Pretrained {
    Pretrained { mean: [0.0; 3], std: [1.0; 3], ..Pretrained::imagenet(tag, 224, 224, 0.875).bilinear() }
}

/// One line of the paper's Tables 1 and 2, repeated where lines are alike.
struct Line {
    /// timm's stage, the first number of the blocks' names.
    stage: usize,
    blocks: usize,
    kernel: usize,
    /// Of the first block.
    stride: usize,
    /// Channels inside a block as a multiple of its input's; 1 leaves the expanding layer out.
    expansion: f64,
    channels: usize,
    squeeze: bool,
    activation: Activation,
}

#[rustfmt::skip]
const SMALL: [Line; 7] = [
    Line { stage: 0, blocks: 1, kernel: 3, stride: 2, expansion: 1.0, channels: 16, squeeze: true, activation: Relu },
    Line { stage: 1, blocks: 1, kernel: 3, stride: 2, expansion: 4.5, channels: 24, squeeze: false, activation: Relu },
    Line { stage: 1, blocks: 1, kernel: 3, stride: 1, expansion: 3.67, channels: 24, squeeze: false, activation: Relu },
    Line { stage: 2, blocks: 1, kernel: 5, stride: 2, expansion: 4.0, channels: 40, squeeze: true, activation: HardSwish },
    Line { stage: 2, blocks: 2, kernel: 5, stride: 1, expansion: 6.0, channels: 40, squeeze: true, activation: HardSwish },
    Line { stage: 3, blocks: 2, kernel: 5, stride: 1, expansion: 3.0, channels: 48, squeeze: true, activation: HardSwish },
    Line { stage: 4, blocks: 3, kernel: 5, stride: 2, expansion: 6.0, channels: 96, squeeze: true, activation: HardSwish },
];

#[rustfmt::skip]
const LARGE: [Line; 9] = [
    Line { stage: 0, blocks: 1, kernel: 3, stride: 1, expansion: 1.0, channels: 16, squeeze: false, activation: Relu },
    Line { stage: 1, blocks: 1, kernel: 3, stride: 2, expansion: 4.0, channels: 24, squeeze: false, activation: Relu },
    Line { stage: 1, blocks: 1, kernel: 3, stride: 1, expansion: 3.0, channels: 24, squeeze: false, activation: Relu },
    Line { stage: 2, blocks: 3, kernel: 5, stride: 2, expansion: 3.0, channels: 40, squeeze: true, activation: Relu },
    Line { stage: 3, blocks: 1, kernel: 3, stride: 2, expansion: 6.0, channels: 80, squeeze: false, activation: HardSwish },
    Line { stage: 3, blocks: 1, kernel: 3, stride: 1, expansion: 2.5, channels: 80, squeeze: false, activation: HardSwish },
    Line { stage: 3, blocks: 2, kernel: 3, stride: 1, expansion: 2.3, channels: 80, squeeze: false, activation: HardSwish },
    Line { stage: 4, blocks: 2, kernel: 3, stride: 1, expansion: 6.0, channels: 112, squeeze: true, activation: HardSwish },
    Line { stage: 5, blocks: 3, kernel: 5, stride: 2, expansion: 6.0, channels: 160, squeeze: true, activation: HardSwish },
];

struct MobileNetV3 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    /// The last convolution of the blocks' stages.
    last: ConvNorm,
    /// Behind the pool, the paper's efficient last stage.
    head: Point,
    classifier: Classifier,
}

impl MobileNetV3 {
    /// With this many features in front of the classifier.
    fn new(b: &Builder, options: &Options, lines: &[Line], features: usize) -> Result<Self> {
        let mut channels = 16;
        let window = Window::square(3, 2, 1);
        let stem = layer(b, ["conv_stem", "bn1"], [options.in_channels, channels], window, 1, HardSwish)?;
        // The last convolution counts as a block.
        let total = lines.iter().map(|line| line.blocks).sum::<usize>() + 1;
        let (mut blocks, mut stage, mut place) = (Vec::with_capacity(total - 1), 0, 0);
        for line in lines {
            for index in 0..line.blocks {
                place = if line.stage == stage { place } else { 0 };
                stage = line.stage;
                let drop_path = options.drop_path * blocks.len() as f64 / total as f64;
                let shape = line.shape(channels, index == 0);
                blocks.push(Block::new(&b.pp("blocks").pp(stage).pp(place), &shape, drop_path)?);
                (channels, place) = (line.channels, place + 1);
            }
        }
        let pooled = channels * 6;
        let last = point(&b.pp("blocks").pp(stage + 1).pp(0), ["conv", "bn1"], [channels, pooled], HardSwish)?;
        let init = [Init::KaimingNormalFanOut, Init::ZEROS];
        let head = Point::new(&b.pp("conv_head"), [pooled, features], HardSwish, init)?;
        let classifier = Classifier::new(&b.pp("classifier"), features, options, classifier_init(options.classes))?;
        Ok(Self { stem, blocks, last, head, classifier })
    }
}

impl Line {
    fn shape(&self, inputs: usize, first: bool) -> Shape {
        let expands = self.expansion > 1.0;
        let middle = if expands { round_channels(inputs, self.expansion) } else { inputs };
        // Reduced to a quarter of the block's middle, unlike EfficientNet's.
        let squeeze = || Squeeze { reduced: round_channels(middle, 0.25), activation: Relu, gate: HardSigmoid };
        Shape {
            inputs,
            middle,
            outputs: self.channels,
            expands,
            kernel: self.kernel,
            stride: if first { self.stride } else { 1 },
            activation: self.activation,
            squeeze: self.squeeze.then(squeeze),
        }
    }
}

impl Backbone for MobileNetV3 {
    fn segments(&self) -> Vec<Segment<'_>> {
        let stem: Segment = Box::new(|x, pass| self.stem.forward(x, pass));
        let blocks = segments(&self.blocks, Block::forward);
        let tail: Segment =
            Box::new(|x, pass| self.head.forward(&ops::global_avg_pool(&self.last.forward(x, pass)?)?, pass));
        std::iter::once(stem).chain(blocks).chain([tail]).collect()
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
        let net = MobileNetV3::new(&Builder::blank(&Device::Cpu), &options, &LARGE, 1280).unwrap();
        let rates: Vec<f64> = net.blocks.iter().map(|block| block.drop_path.rate).collect();
        let theirs = timm_drop_paths("mobilenetv3_large_100");
        // timm's list has the last convolution too, which has no shortcut to drop its branch from.
        assert_eq!(rates.len() + 1, theirs.len());
        let close = |(ours, theirs): (&f64, f64)| (ours - theirs).abs() < 1e-7;
        assert!(rates.iter().zip(theirs).all(close), "{rates:?}");
    }
}
