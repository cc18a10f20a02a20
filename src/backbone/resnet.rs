//! Residual networks, timm's `resnet.py`. He et al. 2015, arXiv:1512.03385.

use super::{
    Backbone, Entry, Options, Pretrained, Sizes,
    hybrid::{BuildTrunk, Trunk, halved},
    parts::{ChannelAttention, Classifier, ConvNorm, FeatureMap, Segment, SqueezeExcite, segments},
};
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor,
        layers::{BatchNorm, Conv2d, DropPath},
        ops::{self, Activation, Window},
    },
};

pub const RESNET18: Entry = Entry {
    name: "resnet18",
    about: "ResNet with 18 layers, 11.7 M parameters. He et al. 2015, arXiv:1512.03385.",
    pretrained: &[
        Pretrained::imagenet("a1_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a2_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a3_in1k", 160, 224, 0.95),
        Pretrained::imagenet("fb_ssl_yfcc100m_ft_in1k", 224, 224, 0.875).bilinear().license("cc-by-nc-4.0"),
        Pretrained::imagenet("fb_swsl_ig1b_ft_in1k", 224, 224, 0.875).bilinear().license("cc-by-nc-4.0"),
        Pretrained::imagenet("gluon_in1k", 224, 224, 0.875),
        Pretrained::imagenet("tv_in1k", 224, 224, 0.875).bilinear().license("bsd-3-clause"),
    ],
    classifier: "fc",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(ResNet::new(b, options, &R18)?)),
};

pub const RESNET34: Entry = Entry {
    name: "resnet34",
    about: "ResNet with 34 layers, 21.8 M parameters. He et al. 2015, arXiv:1512.03385.",
    pretrained: &[
        Pretrained::imagenet("a1_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a2_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a3_in1k", 160, 224, 0.95),
        Pretrained::imagenet("bt_in1k", 224, 288, 0.95),
        Pretrained::imagenet("gluon_in1k", 224, 224, 0.875),
        Pretrained::inception("ra4_e3600_r224_in1k", 224, 288, 1.0),
        Pretrained::imagenet("tv_in1k", 224, 224, 0.875).bilinear().license("bsd-3-clause"),
    ],
    classifier: "fc",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(ResNet::new(b, options, &R34)?)),
};

pub const RESNET50: Entry = Entry {
    name: "resnet50",
    about: "ResNet with 50 layers of bottleneck blocks, 25.6 M parameters. He et al. 2015, arXiv:1512.03385.",
    pretrained: &[
        Pretrained::imagenet("a1_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a1h_in1k", 176, 224, 1.0),
        Pretrained::imagenet("a2_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a3_in1k", 160, 224, 0.95),
        Pretrained::imagenet("am_in1k", 224, 224, 0.875),
        Pretrained::imagenet("b1k_in1k", 224, 288, 1.0),
        Pretrained::imagenet("b2k_in1k", 224, 288, 1.0),
        Pretrained { classes: 0, ..Pretrained::imagenet("bamboo", 224, 224, 1.0).license("") },
        Pretrained::imagenet("bt_in1k", 224, 288, 0.95),
        Pretrained::imagenet("c1_in1k", 224, 288, 1.0),
        Pretrained::imagenet("c2_in1k", 224, 288, 1.0),
        Pretrained::imagenet("d_in1k", 224, 288, 1.0),
        Pretrained::imagenet("fb_ssl_yfcc100m_ft_in1k", 224, 224, 0.875).bilinear().license("cc-by-nc-4.0"),
        Pretrained::imagenet("fb_swsl_ig1b_ft_in1k", 224, 224, 0.875).bilinear().license("cc-by-nc-4.0"),
        Pretrained::imagenet("gluon_in1k", 224, 224, 0.875),
        Pretrained::imagenet("ra_in1k", 224, 288, 0.95),
        Pretrained::imagenet("ram_in1k", 224, 288, 0.95),
        Pretrained::imagenet("tv2_in1k", 176, 224, 0.965).bilinear().license("bsd-3-clause"),
        Pretrained::imagenet("tv_in1k", 224, 224, 0.875).bilinear().license("bsd-3-clause"),
    ],
    classifier: "fc",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(ResNet::new(b, options, &R50)?)),
};

pub const RESNET26D: Entry = Entry {
    name: "resnet26d",
    about: "ResNet-D with 26 layers, 16.0 M parameters: deep stem, averaging shortcuts. He et al. 2018, arXiv:1812.01187.",
    pretrained: &[Pretrained::imagenet("bt_in1k", 224, 288, 0.95)],
    classifier: "fc",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(ResNet::new(b, options, &R26D)?)),
};

pub const RESNET50D: Entry = Entry {
    name: "resnet50d",
    about: "ResNet-D with 50 layers, 25.6 M parameters: deep stem, averaging shortcuts. He et al. 2018, arXiv:1812.01187.",
    pretrained: &[
        Pretrained::imagenet("ra2_in1k", 224, 288, 0.95),
        Pretrained::imagenet("a1_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a2_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a3_in1k", 160, 224, 0.95),
        Pretrained::imagenet("gluon_in1k", 224, 224, 0.875),
        Pretrained::inception("ra4_e3600_r224_in1k", 224, 288, 1.0),
    ],
    classifier: "fc",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(ResNet::new(b, options, &R50D)?)),
};

pub const SERESNET50: Entry = Entry {
    name: "seresnet50",
    about: "ResNet-50 with squeeze-excite, 28.1 M parameters. Hu et al. 2018, arXiv:1709.01507.",
    pretrained: &[
        Pretrained::imagenet("a1_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a2_in1k", 224, 288, 1.0),
        Pretrained::imagenet("a3_in1k", 160, 224, 0.95),
        Pretrained::imagenet("ra2_in1k", 224, 288, 0.95),
    ],
    classifier: "fc",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(ResNet::new(b, options, &SE50)?)),
};

pub const ECARESNET50D: Entry = Entry {
    name: "ecaresnet50d",
    about: "ResNet-50-D with efficient channel attention, 25.6 M parameters. Wang et al. 2020, arXiv:1910.03151.",
    pretrained: &[Pretrained::imagenet("miil_in1k", 224, 288, 0.95)],
    classifier: "fc",
    sizes: Sizes::From(1),
    build: |b, options| Ok(Box::new(ResNet::new(b, options, &ECA50D)?)),
};

/// What hybrids take of them.
pub const TRUNKS: &[Trunk] = &[
    trunk("resnet18", |b, options, stage| body(b, options, &R18, stage)),
    trunk("resnet34", |b, options, stage| body(b, options, &R34, stage)),
    trunk("resnet50", |b, options, stage| body(b, options, &R50, stage)),
    trunk("resnet26d", |b, options, stage| body(b, options, &R26D, stage)),
    trunk("resnet50d", |b, options, stage| body(b, options, &R50D, stage)),
    trunk("seresnet50", |b, options, stage| body(b, options, &SE50, stage)),
    trunk("ecaresnet50d", |b, options, stage| body(b, options, &ECA50D, stage)),
];

const fn trunk(name: &'static str, build: BuildTrunk) -> Trunk {
    Trunk { name, stages: 4, side: halved, build }
}

fn body(b: &Builder, options: &Options, plan: &Plan, stages: usize) -> Result<Box<dyn FeatureMap>> {
    Ok(Box::new(Body::new(b, options, plan, stages)?))
}

/// How the variants of a residual network differ.
#[derive(Clone, Copy)]
struct Plan {
    kind: Kind,
    /// Blocks of each stage.
    depths: [usize; 4],
    /// Three 3x3 convolutions in front in place of one 7x7, and shortcuts that average before they convolve.
    d: bool,
    /// At the end of each block's branch.
    attention: Option<fn(&Builder, usize) -> Result<Attention>>,
}

impl Plan {
    const fn new(kind: Kind, depths: [usize; 4]) -> Self {
        Self { kind, depths, d: false, attention: None }
    }
}

const R18: Plan = Plan::new(Kind::Basic, [2, 2, 2, 2]);
const R34: Plan = Plan::new(Kind::Basic, [3, 4, 6, 3]);
const R50: Plan = Plan::new(Kind::Bottleneck, [3, 4, 6, 3]);
const R26D: Plan = Plan { d: true, ..Plan::new(Kind::Bottleneck, [2, 2, 2, 2]) };
const R50D: Plan = Plan { d: true, ..R50 };
const SE50: Plan = Plan { attention: Some(Attention::squeeze_excite), ..R50 };
const ECA50D: Plan = Plan { attention: Some(Attention::efficient), ..R50D };

/// A gate for every channel.
enum Attention {
    SqueezeExcite(SqueezeExcite),
    Efficient(ChannelAttention),
}

impl Attention {
    fn squeeze_excite(b: &Builder, channels: usize) -> Result<Self> {
        Ok(Self::SqueezeExcite(SqueezeExcite::residual(b, channels)?))
    }

    fn efficient(b: &Builder, channels: usize) -> Result<Self> {
        Ok(Self::Efficient(ChannelAttention::new(b, channels)?))
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match self {
            Self::SqueezeExcite(gate) => gate.forward(x, pass),
            Self::Efficient(gate) => gate.forward(x, pass),
        }
    }
}

/// Which block a network is made of.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// 3x3, 3x3.
    Basic,
    /// 1x1, 3x3, 1x1 with four times the channels.
    Bottleneck,
}

impl Kind {
    /// Output channels of a block, as a multiple of its width.
    fn expansion(self) -> usize {
        if self == Kind::Basic { 1 } else { 4 }
    }
}

struct ResNet {
    body: Body,
    fc: Classifier,
}

impl ResNet {
    fn new(b: &Builder, options: &Options, plan: &Plan) -> Result<Self> {
        let body = Body::new(b, options, plan, plan.depths.len())?;
        let init = Init::torch_default(body.channels);
        let fc = Classifier::new(&b.pp("fc"), body.channels, options, [init; 2])?;
        Ok(Self { body, fc })
    }
}

/// Everything in front of the pool.
struct Body {
    stem: Vec<ConvNorm>,
    blocks: Vec<Block>,
    channels: usize,
}

impl Body {
    /// The first stages of a plan.
    fn new(b: &Builder, options: &Options, plan: &Plan, stages: usize) -> Result<Self> {
        let stem = stem(b, options.in_channels, plan.d)?;
        let total: usize = plan.depths.iter().sum();
        let (mut blocks, mut channels) = (Vec::with_capacity(total), 64);
        for (stage, depth) in plan.depths.into_iter().enumerate().take(stages) {
            for index in 0..depth {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let drop_path = options.drop_path * blocks.len() as f64 / (total - 1) as f64;
                let b = b.pp(format!("layer{}", stage + 1)).pp(index);
                blocks.push(Block::new(&b, plan, channels, 64 << stage, stride, drop_path)?);
                channels = (64 << stage) * plan.kind.expansion();
            }
        }
        Ok(Self { stem, blocks, channels })
    }
}

impl FeatureMap for Body {
    fn segments(&self) -> Vec<Segment<'_>> {
        let stem: Segment =
            Box::new(|x, pass| ops::max_pool2d(&through(&self.stem, x, pass)?, Window::square(3, 2, 1)));
        let blocks = segments(&self.blocks, Block::forward);
        std::iter::once(stem).chain(blocks).collect()
    }

    fn channels(&self) -> usize {
        self.channels
    }
}

/// To 64 channels at half the size.
fn stem(b: &Builder, inputs: usize, deep: bool) -> Result<Vec<ConvNorm>> {
    let layer = |names: [&str; 2], inputs, outputs, window| named(b, names, [inputs, outputs], window);
    if !deep {
        return Ok(vec![layer(["conv1", "bn1"], inputs, 64, Window::square(7, 2, 3))?]);
    }
    Ok(vec![
        layer(["conv1.0", "conv1.1"], inputs, 32, Window::square(3, 2, 1))?,
        layer(["conv1.3", "conv1.4"], 32, 32, Window::square(3, 1, 1))?,
        layer(["conv1.6", "bn1"], 32, 64, Window::square(3, 1, 1))?,
    ])
}

impl Backbone for ResNet {
    fn segments(&self) -> Vec<Segment<'_>> {
        let mut segments = self.body.segments();
        segments.push(Box::new(|x, _| ops::global_avg_pool(x)));
        segments
    }

    fn head(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.fc.forward(features, pass)
    }
}

/// timm's `BasicBlock` or `Bottleneck`: `relu(drop_path(attention(last(body(x)))) + downsample(x))`.
struct Block {
    body: Vec<ConvNorm>,
    last: ConvNorm,
    attention: Option<Attention>,
    downsample: Option<Downsample>,
    drop_path: DropPath,
}

impl Block {
    fn new(b: &Builder, plan: &Plan, inputs: usize, width: usize, stride: usize, drop_path: f64) -> Result<Self> {
        let outputs = width * plan.kind.expansion();
        let (spatial, point) = (Window::square(3, stride, 1), Window::square(1, 1, 0));
        // `conv1` and `bn1`, and so on.
        let layer = |number: usize, inputs, outputs, window| {
            named(b, [&format!("conv{number}"), &format!("bn{number}")], [inputs, outputs], window)
        };
        let body = match plan.kind {
            Kind::Basic => vec![layer(1, inputs, width, spatial)?],
            Kind::Bottleneck => vec![layer(1, inputs, width, point)?, layer(2, width, width, spatial)?],
        };
        let window = if plan.kind == Kind::Basic { Window::square(3, 1, 1) } else { point };
        let activation = if plan.attention.is_some() { Activation::Identity } else { Activation::Relu };
        let [conv, norm] = ["conv", "bn"].map(|name| b.pp(format!("{name}{}", body.len() + 1)));
        let last = ConvNorm {
            conv: Conv2d::new(&conv, width, outputs, window, 1)?,
            // timm's zero_init_last: the last norm's weight is zero, so that a fresh block is its shortcut.
            norm: BatchNorm::with(&norm, outputs, activation, Init::ZEROS, 1e-5)?,
        };
        let attention = plan.attention.map(|new| new(&b.pp("se"), outputs)).transpose()?;
        let resized = stride != 1 || inputs != outputs;
        let downsample = || Downsample::new(&b.pp("downsample"), [inputs, outputs], stride, plan.d);
        let downsample = resized.then(downsample).transpose()?;
        Ok(Self { body, last, attention, downsample, drop_path: DropPath::new(b, drop_path) })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = through(&self.body, x, pass)?;
        let shortcut = match &self.downsample {
            Some(layer) => layer.forward(x, pass)?,
            None => x.clone(),
        };
        let Some(attention) = &self.attention else {
            return self.last.forward_residual(&y, &shortcut, &self.drop_path, pass);
        };
        let y = attention.forward(&self.last.forward(&y, pass)?, pass)?;
        ops::activate(&ops::add(&self.drop_path.forward(&y, pass)?, &shortcut)?, Activation::Relu)
    }
}

/// The shortcut of a block whose input and output differ in shape.
struct Downsample {
    /// Halves the size before the convolution, which then need not skip pixels.
    pools: bool,
    layer: ConvNorm,
}

impl Downsample {
    fn new(b: &Builder, [inputs, outputs]: [usize; 2], stride: usize, averages: bool) -> Result<Self> {
        let stride_of_conv = if averages { 1 } else { stride };
        // The pool has a place of its own, whether it is there or not.
        let first = usize::from(averages);
        let layer = ConvNorm {
            conv: Conv2d::new(&b.pp(first), inputs, outputs, Window::square(1, stride_of_conv, 0), 1)?,
            norm: BatchNorm::new(&b.pp(first + 1), outputs, Activation::Identity)?,
        };
        Ok(Self { pools: averages && stride > 1, layer })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match self.pools {
            true => self.layer.forward(&ops::avg_pool2d_ceil(x, Window::square(2, 2, 0))?, pass),
            false => self.layer.forward(x, pass),
        }
    }
}

/// A convolution and a norm with these names and a ReLU.
fn named(b: &Builder, [conv, norm]: [&str; 2], [inputs, outputs]: [usize; 2], window: Window) -> Result<ConvNorm> {
    Ok(ConvNorm {
        conv: Conv2d::new(&b.pp(conv), inputs, outputs, window, 1)?,
        norm: BatchNorm::new(&b.pp(norm), outputs, Activation::Relu)?,
    })
}

/// One layer after the other.
fn through(layers: &[ConvNorm], x: &Tensor, pass: &Pass) -> Result<Tensor> {
    layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x, pass))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backbone::tests::timm_drop_paths, tensor::Device};

    #[test]
    fn stochastic_depth_grows_as_in_timm() {
        let options = Options { drop_path: 0.2, ..Options::new(2) };
        let net = ResNet::new(&Builder::blank(&Device::Cpu), &options, &R34).unwrap();
        let rates: Vec<f64> = net.body.blocks.iter().map(|block| block.drop_path.rate).collect();
        assert_eq!(rates.len(), 16);
        let close = |(ours, theirs): (&f64, f64)| (ours - theirs).abs() < 1e-7;
        assert!(rates.iter().zip(timm_drop_paths("resnet34")).all(close), "{rates:?}");
    }
}
