//! Hybrids of a residual or efficient network and a vision transformer here: the feature map behind a stage of the one,
//! through a 1x1 convolution, takes the place of the other's patches. Dosovitskiy et al. 2020, arXiv:2010.11929, 3.1.
//!
//! It is timm's `VisionTransformer` with a `HybridEmbed` around the CNN, and has its parameter names.

use super::{
    Backbone, Found, Options, efficientnet, find, nearest,
    parts::FeatureMap,
    resnet,
    vit::{self, Vit},
};
use crate::{
    error::{Error, Result},
    tensor::Builder,
};

/// What every family offers to hybrids.
const TRUNKS: &[&[Trunk]] = &[resnet::TRUNKS, efficientnet::TRUNKS];

/// The stages of a convolutional backbone.
pub struct Trunk {
    /// timm's name of the backbone.
    pub name: &'static str,
    /// Stages there are, counted from 1: stage `s` ends at a map of 1 / 2^(s + 1) of the image's side.
    pub stages: usize,
    /// The side of the map behind a stage for an image of this side.
    pub side: fn(image: usize, stage: usize) -> usize,
    /// Everything up to the end of a stage, under the backbone's own parameter names.
    pub build: BuildTrunk,
}

pub type BuildTrunk = fn(&Builder, &Options, stage: usize) -> Result<Box<dyn FeatureMap>>;

/// The side of a map where each of a trunk's halvings rounds up, as padded convolutions do.
pub fn halved(image: usize, stage: usize) -> usize {
    (0..=stage).fold(image, |side, _| side.div_ceil(2))
}

/// A hybrid, checked.
#[derive(Clone, Copy)]
pub struct Hybrid {
    pub cnn: Found,
    pub vit: Found,
    trunk: &'static Trunk,
    shape: &'static vit::Shape,
    stage: usize,
}

/// Below this, the CNN's parameters have their own names.
pub const CNN: &str = "patch_embed.backbone.";
/// Below this is what a hybrid has in place of the vision transformer's own patches.
pub const EMBED: &str = "patch_embed.";

/// The key of an experiment file that an error is about.
pub type At<T> = std::result::Result<T, (&'static str, Error)>;

impl Hybrid {
    /// An error says which of `cnn`, `stage` and `vit` is wrong.
    pub fn new(cnn: &str, stage: usize, vit: &str) -> At<Self> {
        let known = || TRUNKS.iter().flat_map(|trunks| trunks.iter());
        let model = |name: &str| name.split_once('.').map_or(name, |(model, _)| model).to_owned();
        let unknown = |part: &str, name: &str, names: Vec<&'static str>| {
            Error::user(format!(
                "there is no {part} `{name}` for a hybrid; {}",
                nearest(&model(name), names.into_iter())
            ))
        };
        let trunk = known().find(|trunk| trunk.name == model(cnn));
        let trunk = trunk.ok_or_else(|| ("cnn", unknown("CNN", cnn, known().map(|trunk| trunk.name).collect())))?;
        if !(1..=trunk.stages).contains(&stage) {
            let what = format!("{} has no stage {stage}; its stages are 1 to {}", trunk.name, trunk.stages);
            return Err(("stage", Error::user(what)));
        }
        let shapes = || vit::SHAPES.iter().copied().filter(|shape| shape.is_plain());
        let shape = shapes().find(|shape| shape.name == model(vit));
        let shape = shape
            .ok_or_else(|| ("vit", unknown("vision transformer", vit, shapes().map(|shape| shape.name).collect())))?;
        let found = |key, name| find(name).map_err(|error| (key, error));
        Ok(Self { cnn: found("cnn", cnn)?, vit: found("vit", vit)?, trunk, shape, stage })
    }

    /// Of `resnet18@3+vit_tiny_patch16_224`; `None` where the name is of no such form.
    pub fn parse(name: &str) -> Option<Result<Self>> {
        let (cnn, vit) = name.split_once('+')?;
        let (cnn, stage) = cnn.rsplit_once('@')?;
        Some(Self::new(cnn, stage.parse().ok()?, vit).map_err(|(_, error)| error))
    }

    /// The name that [`Hybrid::parse`] reads.
    pub fn name(cnn: &str, stage: usize, vit: &str) -> String {
        format!("{cnn}@{stage}+{vit}")
    }

    /// Every place of the feature map is a token. Stochastic depth is the transformer's alone, as in timm.
    pub fn build(&self, b: &Builder, options: &Options) -> Result<Box<dyn Backbone>> {
        let grid = (self.trunk.side)(options.image_size, self.stage);
        let of_trunk = Options { drop_path: 0.0, ..*options };
        let map = |b: &Builder| Ok(Some((self.trunk.build)(b, &of_trunk, self.stage)?));
        Ok(Box::new(Vit::over(b, options, self.shape, grid, 1, map)?))
    }
}
