//! ConvNeXt, timm's `convnext.py`. Liu et al. 2022, arXiv:2201.03545; the sizes below tiny are timm's own.

use super::{
    Backbone, Entry, Options, Pretrained, Sizes,
    parts::{Classifier, Point, Segment, segments},
};
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor, Weight,
        layers::{Conv2d, DropPath, LayerNorm},
        ops::{self, Activation, Window},
    },
};

pub const CONVNEXT_ATTO: Entry = Entry {
    name: "convnext_atto",
    about: "ConvNeXt, timm's size of 3.7 M parameters. Liu et al. 2022, arXiv:2201.03545.",
    pretrained: &[Pretrained::imagenet("d2_in1k", 224, 288, 0.95)],
    classifier: "head.fc",
    sizes: Sizes::From(SMALLEST),
    build: |b, options| Ok(Box::new(ConvNeXt::new(b, options, &Plan::small([2, 2, 6, 2], 40))?)),
};

pub const CONVNEXT_FEMTO: Entry = Entry {
    name: "convnext_femto",
    about: "ConvNeXt, timm's size of 5.2 M parameters. Liu et al. 2022, arXiv:2201.03545.",
    pretrained: &[Pretrained::imagenet("d1_in1k", 224, 288, 0.95)],
    classifier: "head.fc",
    sizes: Sizes::From(SMALLEST),
    build: |b, options| Ok(Box::new(ConvNeXt::new(b, options, &Plan::small([2, 2, 6, 2], 48))?)),
};

pub const CONVNEXT_PICO: Entry = Entry {
    name: "convnext_pico",
    about: "ConvNeXt, timm's size of 9.0 M parameters. Liu et al. 2022, arXiv:2201.03545.",
    pretrained: &[Pretrained::imagenet("d1_in1k", 224, 288, 0.95)],
    classifier: "head.fc",
    sizes: Sizes::From(SMALLEST),
    build: |b, options| Ok(Box::new(ConvNeXt::new(b, options, &Plan::small([2, 2, 6, 2], 64))?)),
};

pub const CONVNEXT_NANO: Entry = Entry {
    name: "convnext_nano",
    about: "ConvNeXt, timm's size of 15.6 M parameters. Liu et al. 2022, arXiv:2201.03545.",
    pretrained: &[
        Pretrained::imagenet("in12k_ft_in1k", 224, 288, 1.0),
        Pretrained::imagenet("d1h_in1k", 224, 288, 1.0),
        Pretrained { classes: 11821, ..Pretrained::imagenet("in12k", 224, 224, 0.95) },
        Pretrained { classes: 11821, ..Pretrained::imagenet("r384_ad_in12k", 384, 384, 1.0) },
        Pretrained { classes: 11821, ..Pretrained::imagenet("r384_in12k", 384, 384, 1.0) },
        Pretrained::imagenet("r384_in12k_ft_in1k", 384, 384, 1.0),
    ],
    classifier: "head.fc",
    sizes: Sizes::From(SMALLEST),
    build: |b, options| Ok(Box::new(ConvNeXt::new(b, options, &Plan::small([2, 2, 8, 2], 80))?)),
};

pub const CONVNEXT_TINY: Entry = Entry {
    name: "convnext_tiny",
    about: "ConvNeXt-T, 28.6 M parameters. Liu et al. 2022, arXiv:2201.03545.",
    pretrained: &[
        Pretrained::imagenet("in12k_ft_in1k", 224, 288, 1.0),
        Pretrained { classes: 0, ..Pretrained::imagenet("dinov3_lvd1689m", 224, 224, 1.0).license("dinov3-license") },
        Pretrained {
            classes: 0,
            ..Pretrained::imagenet("eupe_lvd1689m", 256, 256, 1.0).license("fair-noncommercial-research-license")
        },
        Pretrained::imagenet("fb_in1k", 224, 288, 1.0),
        Pretrained { classes: 21841, ..Pretrained::imagenet("fb_in22k", 224, 224, 0.875) },
        Pretrained::imagenet("fb_in22k_ft_in1k", 224, 288, 1.0),
        Pretrained::imagenet("fb_in22k_ft_in1k_384", 384, 384, 1.0),
        Pretrained { classes: 11821, ..Pretrained::imagenet("in12k", 224, 224, 0.95) },
        Pretrained::imagenet("in12k_ft_in1k_384", 384, 384, 1.0),
    ],
    classifier: "head.fc",
    sizes: Sizes::From(SMALLEST),
    build: |b, options| {
        Ok(Box::new(ConvNeXt::new(b, options, &Plan { depths: [3, 3, 9, 3], width: 96, conv_mlp: false })?))
    },
};

/// The smallest side of images: a quarter, halved three times without padding, is one pixel.
const SMALLEST: usize = 32;

/// How the sizes differ.
struct Plan {
    /// Blocks of each stage.
    depths: [usize; 4],
    /// Channels of the first stage; each further one has twice as many.
    width: usize,
    /// Whether timm keeps the weights of the MLPs as 1x1 convolutions' or as linear layers'.
    conv_mlp: bool,
}

impl Plan {
    const fn small(depths: [usize; 4], width: usize) -> Self {
        Self { depths, width, conv_mlp: true }
    }
}

/// Of every norm.
const EPS: f64 = 1e-6;

/// Of every weight and bias.
const INIT: [Init; 2] = [Init::TruncNormal { std: 0.02 }, Init::ZEROS];

struct ConvNeXt {
    stem: (Conv2d, LayerNorm),
    stages: Vec<Stage>,
    norm: LayerNorm,
    classifier: Classifier,
}

impl ConvNeXt {
    fn new(b: &Builder, options: &Options, plan: &Plan) -> Result<Self> {
        let stem = b.pp("stem");
        let patches = conv(&stem.pp(0), [options.in_channels, plan.width], Window::square(4, 4, 0), 1)?;
        let stem = (patches, LayerNorm::new(&stem.pp(1), plan.width, EPS)?);
        let total: usize = plan.depths.iter().sum();
        let drop_path = |block: usize| options.drop_path * block as f64 / (total - 1) as f64;
        let (mut stages, mut first) = (Vec::with_capacity(4), 0);
        for (index, depth) in plan.depths.into_iter().enumerate() {
            let rates: Vec<f64> = (first..first + depth).map(drop_path).collect();
            stages.push(Stage::new(&b.pp("stages").pp(index), plan, index, &rates)?);
            first += depth;
        }
        let (head, features) = (b.pp("head"), plan.width << 3);
        let norm = LayerNorm::new(&head.pp("norm"), features, EPS)?;
        let classifier = Classifier::new(&head.pp("fc"), features, options, INIT)?;
        Ok(Self { stem, stages, norm, classifier })
    }
}

impl Backbone for ConvNeXt {
    fn segments(&self) -> Vec<Segment<'_>> {
        let stem: Segment = Box::new(|x, pass| self.stem.1.forward(&self.stem.0.forward(x, pass)?, pass));
        let tail: Segment = Box::new(|x, pass| self.norm.forward(&ops::global_avg_pool(x)?, pass));
        std::iter::once(stem).chain(self.stages.iter().flat_map(Stage::segments)).chain([tail]).collect()
    }

    fn head(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.classifier.forward(features, pass)
    }
}

/// Blocks of one size; all stages but the first halve it before.
struct Stage {
    downsample: Option<(LayerNorm, Conv2d)>,
    blocks: Vec<Block>,
}

impl Stage {
    /// With a rate of stochastic depth for each block.
    fn new(b: &Builder, plan: &Plan, index: usize, rates: &[f64]) -> Result<Self> {
        let channels = plan.width << index;
        let downsample = || -> Result<(LayerNorm, Conv2d)> {
            let b = b.pp("downsample");
            let norm = LayerNorm::new(&b.pp(0), channels / 2, EPS)?;
            Ok((norm, conv(&b.pp(1), [channels / 2, channels], Window::square(2, 2, 0), 1)?))
        };
        let downsample = (index > 0).then(downsample).transpose()?;
        let block = |(at, rate): (usize, &f64)| Block::new(&b.pp("blocks").pp(at), channels, plan.conv_mlp, *rate);
        Ok(Self { downsample, blocks: rates.iter().enumerate().map(block).collect::<Result<_>>()? })
    }

    fn segments(&self) -> Vec<Segment<'_>> {
        let downsample = self
            .downsample
            .iter()
            .map(|(norm, conv)| -> Segment { Box::new(move |x, pass| conv.forward(&norm.forward(x, pass)?, pass)) });
        let blocks = segments(&self.blocks, Block::forward);
        downsample.chain(blocks).collect()
    }
}

/// timm's `ConvNeXtBlock`: `x + drop_path(gamma * mlp(norm(depthwise(x))))`.
struct Block {
    gamma: Weight,
    depthwise: Conv2d,
    norm: LayerNorm,
    mlp: [Point; 2],
    drop_path: DropPath,
}

impl Block {
    fn new(b: &Builder, channels: usize, conv_mlp: bool, drop_path: f64) -> Result<Self> {
        let fc = |name: &str, size: [usize; 2], activation| {
            let b = b.pp("mlp").pp(name);
            if conv_mlp { Point::new(&b, size, activation, INIT) } else { Point::linear(&b, size, activation, INIT) }
        };
        Ok(Self {
            gamma: b.param("gamma", channels, Init::Constant(1e-6))?,
            depthwise: conv(&b.pp("conv_dw"), [channels, channels], Window::square(7, 1, 3), channels)?,
            norm: LayerNorm::new(&b.pp("norm"), channels, EPS)?,
            mlp: [
                fc("fc1", [channels, 4 * channels], Activation::Gelu)?,
                fc("fc2", [4 * channels, channels], Activation::Identity)?,
            ],
            drop_path: DropPath::new(b, drop_path),
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mut y = self.norm.forward(&self.depthwise.forward(x, pass)?, pass)?;
        for layer in &self.mlp {
            y = layer.forward(&y, pass)?;
        }
        // A sample is dropped whole, so that it does not matter whether it is scaled before or after.
        ops::scale_add(&self.drop_path.forward(&y, pass)?, &self.gamma.get(pass), x)
    }
}

fn conv(b: &Builder, [inputs, outputs]: [usize; 2], window: Window, groups: usize) -> Result<Conv2d> {
    Conv2d::biased(b, inputs, outputs, window, groups, INIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backbone::tests::timm_drop_paths, tensor::Device};

    #[test]
    fn stochastic_depth_grows_as_in_timm() {
        let options = Options { drop_path: 0.2, ..Options::new(2) };
        let plan = Plan::small([2, 2, 6, 2], 40);
        let net = ConvNeXt::new(&Builder::blank(&Device::Cpu), &options, &plan).unwrap();
        let blocks = net.stages.iter().flat_map(|stage| &stage.blocks);
        let rates: Vec<f64> = blocks.map(|block| block.drop_path.rate).collect();
        assert_eq!(rates.len(), 12);
        let close = |(ours, theirs): (&f64, f64)| (ours - theirs).abs() < 1e-7;
        assert!(rates.iter().zip(timm_drop_paths("convnext_atto")).all(close), "{rates:?}");
    }
}
