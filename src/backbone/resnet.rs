//! Residual networks, timm's `resnet.py`. He et al. 2015, arXiv:1512.03385.

use super::{
    Backbone, Entry, Options, Pretrained,
    hybrid::{Trunk, halved},
    parts::{Classifier, ConvNorm, FeatureMap},
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
    build: |b, options| Ok(Box::new(ResNet::new(b, options, Kind::Basic, [2, 2, 2, 2])?)),
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
    build: |b, options| Ok(Box::new(ResNet::new(b, options, Kind::Basic, [3, 4, 6, 3])?)),
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
    build: |b, options| Ok(Box::new(ResNet::new(b, options, Kind::Bottleneck, [3, 4, 6, 3])?)),
};

/// What hybrids take of them.
pub const TRUNKS: &[Trunk] = &[
    trunk("resnet18", |b, stage| Ok(Box::new(Body::new(b, 0.0, Kind::Basic, &[2, 2, 2, 2][..stage])?))),
    trunk("resnet34", |b, stage| Ok(Box::new(Body::new(b, 0.0, Kind::Basic, &[3, 4, 6, 3][..stage])?))),
    trunk("resnet50", |b, stage| Ok(Box::new(Body::new(b, 0.0, Kind::Bottleneck, &[3, 4, 6, 3][..stage])?))),
];

const fn trunk(name: &'static str, build: fn(&Builder, usize) -> Result<Box<dyn FeatureMap>>) -> Trunk {
    Trunk { name, stages: 4, side: halved, build }
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
    fn new(b: &Builder, options: &Options, kind: Kind, depths: [usize; 4]) -> Result<Self> {
        let body = Body::new(b, options.drop_path, kind, &depths)?;
        let init = Init::torch_default(body.channels);
        let fc = Classifier::new(&b.pp("fc"), body.channels, options, [init; 2])?;
        Ok(Self { body, fc })
    }
}

/// Everything in front of the pool.
struct Body {
    stem: ConvNorm,
    blocks: Vec<Block>,
    channels: usize,
}

impl Body {
    /// With this many blocks a stage.
    fn new(b: &Builder, drop_path: f64, kind: Kind, depths: &[usize]) -> Result<Self> {
        let stem = ConvNorm {
            conv: Conv2d::new(&b.pp("conv1"), 3, 64, Window::square(7, 2, 3), 1)?,
            norm: BatchNorm::new(&b.pp("bn1"), 64, Activation::Relu)?,
        };
        let total: usize = depths.iter().sum();
        let (mut blocks, mut channels) = (Vec::with_capacity(total), 64);
        for (stage, &depth) in depths.iter().enumerate() {
            for index in 0..depth {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let drop_path = drop_path * blocks.len() as f64 / (total - 1) as f64;
                let b = b.pp(format!("layer{}", stage + 1)).pp(index);
                blocks.push(Block::new(&b, kind, channels, 64 << stage, stride, drop_path)?);
                channels = (64 << stage) * kind.expansion();
            }
        }
        Ok(Self { stem, blocks, channels })
    }
}

impl FeatureMap for Body {
    fn forward(&self, images: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mut x = ops::max_pool2d(&self.stem.forward(images, pass)?, Window::square(3, 2, 1))?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        Ok(x)
    }

    fn channels(&self) -> usize {
        self.channels
    }
}

impl Backbone for ResNet {
    fn features(&self, images: &Tensor, pass: &Pass) -> Result<Tensor> {
        ops::global_avg_pool(&self.body.forward(images, pass)?)
    }

    fn head(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.fc.forward(features, pass)
    }
}

/// timm's `BasicBlock` or `Bottleneck`: `relu(drop_path(last(body(x))) + downsample(x))`.
struct Block {
    body: Vec<ConvNorm>,
    last: ConvNorm,
    downsample: Option<ConvNorm>,
    drop_path: DropPath,
}

impl Block {
    fn new(b: &Builder, kind: Kind, inputs: usize, width: usize, stride: usize, drop_path: f64) -> Result<Self> {
        let outputs = width * kind.expansion();
        let (spatial, point) = (Window::square(3, stride, 1), Window::square(1, 1, 0));
        // timm's zero_init_last: the last norm's weight is zero, so that a fresh block is its shortcut.
        let (body, last) = match kind {
            Kind::Basic => (
                vec![layer(b, 1, inputs, width, spatial, Init::ONES)?],
                layer(b, 2, width, outputs, Window::square(3, 1, 1), Init::ZEROS)?,
            ),
            Kind::Bottleneck => (
                vec![layer(b, 1, inputs, width, point, Init::ONES)?, layer(b, 2, width, width, spatial, Init::ONES)?],
                layer(b, 3, width, outputs, point, Init::ZEROS)?,
            ),
        };
        let resized = stride != 1 || inputs != outputs;
        let downsample = resized.then(|| downsample(&b.pp("downsample"), inputs, outputs, stride)).transpose()?;
        Ok(Self { body, last, downsample, drop_path: DropPath::new(b, drop_path) })
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
        self.last.forward_residual(&y, &shortcut, &self.drop_path, pass)
    }
}

/// `conv1` and `bn1` of a block, and so on.
fn layer(b: &Builder, number: usize, inputs: usize, outputs: usize, window: Window, weight: Init) -> Result<ConvNorm> {
    Ok(ConvNorm {
        conv: Conv2d::new(&b.pp(format!("conv{number}")), inputs, outputs, window, 1)?,
        norm: BatchNorm::with(&b.pp(format!("bn{number}")), outputs, Activation::Relu, weight, 1e-5)?,
    })
}

fn downsample(b: &Builder, inputs: usize, outputs: usize, stride: usize) -> Result<ConvNorm> {
    Ok(ConvNorm {
        conv: Conv2d::new(&b.pp(0), inputs, outputs, Window::square(1, stride, 0), 1)?,
        norm: BatchNorm::new(&b.pp(1), outputs, Activation::Identity)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backbone::tests::timm_drop_paths, tensor::Device};

    #[test]
    fn stochastic_depth_grows_as_in_timm() {
        let options = Options { classes: 2, drop_rate: 0.0, drop_path: 0.2, image_size: 224 };
        let net = ResNet::new(&Builder::blank(&Device::Cpu), &options, Kind::Basic, [3, 4, 6, 3]).unwrap();
        let rates: Vec<f64> = net.body.blocks.iter().map(|block| block.drop_path.rate).collect();
        assert_eq!(rates.len(), 16);
        let close = |(ours, theirs): (&f64, f64)| (ours - theirs).abs() < 1e-7;
        assert!(rates.iter().zip(timm_drop_paths("resnet34")).all(close), "{rates:?}");
    }
}
