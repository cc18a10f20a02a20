//! Backbones: timm's models, layer for layer, under timm's names.
//!
//! A family is one file; each of its models is an [`Entry`] and one line of [`BACKBONES`].

mod channels;
mod convnext;
mod efficientnet;
mod hub;
mod hybrid;
mod inverted;
pub mod layers;
mod load;
mod mobilenetv3;
mod parts;
mod positions;
pub mod pretrained;
mod resnet;
mod resnetv2;
mod vit;

pub use hybrid::Hybrid;
pub use load::{fetch_pretrained, load_halves, load_pretrained, load_weights};
pub use parts::Segment;

use crate::{
    error::{Error, Result},
    tensor::{Builder, Device, Key, Params, Pass, Tensor, ops},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Every backbone there is.
pub static BACKBONES: &[Entry] = &[
    resnet::RESNET18,
    resnet::RESNET34,
    resnet::RESNET50,
    resnet::RESNET26D,
    resnet::RESNET50D,
    resnet::SERESNET50,
    resnet::ECARESNET50D,
    efficientnet::EFFICIENTNET_B0,
    efficientnet::EFFICIENTNET_B1,
    efficientnet::EFFICIENTNET_B2,
    efficientnet::EFFICIENTNET_B3,
    efficientnet::EFFICIENTNET_B4,
    mobilenetv3::MOBILENETV3_SMALL_100,
    mobilenetv3::MOBILENETV3_LARGE_100,
    convnext::CONVNEXT_ATTO,
    convnext::CONVNEXT_FEMTO,
    convnext::CONVNEXT_PICO,
    convnext::CONVNEXT_NANO,
    convnext::CONVNEXT_TINY,
    vit::VIT_TINY_PATCH16_224,
    vit::VIT_SMALL_PATCH16_224,
    vit::VIT_BASE_PATCH16_224,
    vit::DEIT_TINY_PATCH16_224,
    vit::DEIT_SMALL_PATCH16_224,
    vit::VIT_TINY_R_S16_P8_224,
    vit::VIT_SMALL_R26_S32_224,
];

/// A classifier: images to features to logits.
pub trait Backbone: Send + Sync {
    /// The way from `(N, H, W, in_channels)` normalized images to `(N, width)` pooled features, a block at a time.
    fn segments(&self) -> Vec<Segment<'_>>;

    /// `(N, width)` pooled features to `(N, classes)` logits.
    fn head(&self, features: &Tensor, pass: &Pass) -> Result<Tensor>;

    /// `(N, H, W, in_channels)` normalized images to `(N, width)` pooled features.
    fn features(&self, images: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.segments().iter().try_fold(images.clone(), |x, segment| segment(&x, pass))
    }

    /// What [`Backbone::head`] makes of features, in f32 whatever the network computes in.
    fn logits(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        ops::exact(&self.head(features, pass)?)
    }

    /// `(N, H, W, in_channels)` normalized images to `(N, classes)` logits in f32.
    fn forward(&self, images: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.logits(&self.features(images, pass)?, pass)
    }
}

/// A set of pretrained weights, and how the images it was trained on were prepared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pretrained {
    /// timm's tag, the part behind the dot of `efficientnet_b1.ft_in1k`.
    pub tag: &'static str,
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// Side of the training images, in pixels.
    pub size: usize,
    /// Side that timm evaluates at, in pixels.
    pub test_size: usize,
    /// The share of a side that timm keeps when it crops the centre for evaluation at `test_size`.
    pub crop: f32,
    /// Pillow's filter that images were resized with.
    pub interpolation: &'static str,
    /// Classes of the file's own head; 0 where it has none.
    pub classes: usize,
    /// The licence of the weights, as an SPDX name in lower case; empty where timm states none.
    pub license: &'static str,
}

impl Pretrained {
    /// ImageNet-1k weights with the normalization of torchvision, at the given sizes.
    const fn imagenet(tag: &'static str, size: usize, test_size: usize, crop: f32) -> Self {
        Self {
            tag,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            size,
            test_size,
            crop,
            interpolation: "bicubic",
            classes: 1000,
            license: "apache-2.0",
        }
    }

    /// The same, normalized to -1..1 as in Inception.
    const fn inception(tag: &'static str, size: usize, test_size: usize, crop: f32) -> Self {
        Self { mean: [0.5; 3], std: [0.5; 3], ..Self::imagenet(tag, size, test_size, crop) }
    }

    /// The same, resized bilinearly.
    const fn bilinear(self) -> Self {
        Self { interpolation: "bilinear", ..self }
    }

    /// The same under another licence.
    const fn license(self, license: &'static str) -> Self {
        Self { license, ..self }
    }
}

/// What every build of a backbone is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    pub classes: usize,
    /// Channels of the images: 3 of RGB, more where the input adds some.
    pub in_channels: usize,
    /// Dropout in front of the classifier.
    pub drop_rate: f64,
    /// Largest rate of stochastic depth.
    pub drop_path: f64,
    /// Side of the images, in pixels: what the positions of a vision transformer are for.
    pub image_size: usize,
}

impl Options {
    /// For RGB images of 224 pixels, nothing dropped.
    pub fn new(classes: usize) -> Self {
        Self { classes, in_channels: 3, drop_rate: 0.0, drop_path: 0.0, image_size: 224 }
    }
}

/// Which images a backbone takes, by their side in pixels.
#[derive(Clone, Copy)]
pub enum Sizes {
    /// Any from this one on.
    From(usize),
    /// Those that this cuts into patches, each with a position of its own.
    Patches(&'static vit::Shape),
}

impl Sizes {
    /// Whether a backbone of this name takes such images; the user's mistake names the nearest sizes that it takes.
    fn check(self, name: &str, image: usize) -> Result<()> {
        match self {
            Self::From(smallest) if image < smallest => {
                Err(Error::user(format!("{name} leaves nothing of {image} pixels; its smallest size is {smallest}")))
            }
            Self::From(_) => Ok(()),
            Self::Patches(shape) => shape.grid(image).map(drop),
        }
    }
}

/// One model of the registry.
pub struct Entry {
    /// timm's name, without a tag.
    pub name: &'static str,
    /// What it is, in one line, with its paper.
    pub about: &'static str,
    /// Known pretrained weights, timm's default of today first.
    pub pretrained: &'static [Pretrained],
    /// The classifier's module, whose parameters are replaced when the class count differs, e.g. `fc`.
    pub classifier: &'static str,
    pub sizes: Sizes,
    pub build: fn(&Builder, &Options) -> Result<Box<dyn Backbone>>,
}

/// A built backbone and its parameters.
pub struct Model {
    /// What it was built under.
    pub name: String,
    pub architecture: Architecture,
    pub net: Box<dyn Backbone>,
    pub params: Params,
}

/// A registry entry and the pretrained weights that a name means.
#[derive(Clone, Copy)]
pub struct Found {
    pub entry: &'static Entry,
    /// Those of the name's tag, timm's default where it has none.
    pub pretrained: &'static Pretrained,
}

/// What a name means: a backbone of the registry, or a hybrid of two.
#[derive(Clone, Copy)]
pub enum Architecture {
    One(Found),
    Hybrid(Hybrid),
}

impl Architecture {
    /// Of `resnet18`, `efficientnet_b1.ft_in1k` or `resnet18@3+vit_tiny_patch16_224`; the mistake is as [`find`] says it.
    pub fn parse(name: &str) -> Result<Self> {
        match Hybrid::parse(name) {
            Some(hybrid) => hybrid.map(Self::Hybrid),
            None => find(name).map(Self::One),
        }
    }

    /// The pretrained weights of what sees the pixels: whose mean and standard deviation they want.
    pub fn pretrained(&self) -> &'static Pretrained {
        match self {
            Self::One(found) => found.pretrained,
            Self::Hybrid(hybrid) => hybrid.cnn.pretrained,
        }
    }

    /// The full names of every pretrained weights file it starts from.
    pub fn pretrained_names(&self) -> Vec<String> {
        let full = |found: &Found| format!("{}.{}", found.entry.name, found.pretrained.tag);
        match self {
            Self::One(found) => vec![full(found)],
            Self::Hybrid(hybrid) => vec![full(&hybrid.cnn), full(&hybrid.vit)],
        }
    }

    /// The classifier's module, e.g. `fc`.
    pub fn classifier(&self) -> &'static str {
        match self {
            Self::One(found) => found.entry.classifier,
            Self::Hybrid(hybrid) => hybrid.vit.entry.classifier,
        }
    }

    /// Whether images of this side can go in; the user's mistake names the nearest sizes that can.
    pub fn check_size(&self, image: usize) -> Result<()> {
        match self {
            Self::One(found) => found.entry.sizes.check(found.entry.name, image),
            Self::Hybrid(_) => Ok(()),
        }
    }

    /// Whether one set of weights takes images of any size, so that their size may change during a training. What has a
    /// position embedding for each patch does not.
    pub fn takes_any_size(&self) -> bool {
        matches!(self, Self::One(found) if matches!(found.entry.sizes, Sizes::From(_)))
    }

    pub fn build(&self, b: &Builder, options: &Options) -> Result<Box<dyn Backbone>> {
        match self {
            Self::One(found) => (found.entry.build)(b, options),
            Self::Hybrid(hybrid) => hybrid.build(b, options),
        }
    }
}

/// What timm's name, with or without a tag, means: `resnet18`, `efficientnet_b1.ft_in1k`.
///
/// An unknown name or tag is the user's mistake; the message has the nearest known ones.
pub fn find(name: &str) -> Result<Found> {
    let (model, tag) = name.split_once('.').map_or((name, None), |(model, tag)| (model, Some(tag)));
    let names = || BACKBONES.iter().map(|entry| entry.name);
    let entry = BACKBONES
        .iter()
        .find(|entry| entry.name == model)
        .ok_or_else(|| Error::user(format!("there is no backbone `{model}`; {}", nearest(model, names()))))?;
    let pretrained = match tag {
        None => entry.pretrained.first(),
        Some(tag) => entry.pretrained.iter().find(|pretrained| pretrained.tag == tag),
    };
    let tags = || entry.pretrained.iter().map(|pretrained| pretrained.tag);
    let unknown = || {
        format!("{model} has no weights `{}`; {}", tag.unwrap_or_default(), nearest(tag.unwrap_or_default(), tags()))
    };
    Ok(Found { entry, pretrained: pretrained.ok_or_else(|| Error::user(unknown()))? })
}

/// Builds a backbone with fresh parameters, which depend on the key and on their names alone.
pub fn build(name: &str, options: &Options, device: &Device, key: Key) -> Result<Model> {
    let architecture = Architecture::parse(name)?;
    let builder = Builder::new(device, key);
    let net = architecture.build(&builder, options)?;
    Ok(Model { name: name.into(), architecture, net, params: builder.params() })
}

/// The names of a backbone's parameters and buffers, in order of creation; each backbone is looked at once.
pub fn parameter_names(name: &str) -> Result<Arc<[String]>> {
    static KNOWN: Mutex<BTreeMap<String, Arc<[String]>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().map_err(|_| Error::bug("naming a backbone's parameters panicked"))?;
    if let Some(names) = known.get(name) {
        return Ok(names.clone());
    }
    let builder = Builder::blank(&Device::Cpu);
    Architecture::parse(name)?.build(&builder, &Options::new(2))?;
    let names: Arc<[String]> = builder.params().iter().map(|weight| weight.name().to_string()).collect();
    known.insert(name.into(), names.clone());
    Ok(names)
}

/// "did you mean .. ?" and what there is.
fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let score = |name: &&str| strsim::normalized_damerau_levenshtein(wrong, name);
    let best = known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)));
    let hint = best.filter(|name| score(name) > 0.5).map(|name| format!("did you mean `{name}`? "));
    format!("{}known: {}", hint.unwrap_or_default(), known.join(", "))
}

#[cfg(test)]
mod tests {
    /// timm's rates of stochastic depth, block by block, at a largest rate of 0.2.
    pub fn timm_drop_paths(name: &str) -> Vec<f64> {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/backbones.json")).unwrap();
        let models = golden["models"].as_array().unwrap();
        let model = models.iter().find(|model| model["name"] == name).unwrap();
        model["drop_paths"].as_array().unwrap().iter().map(|rate| rate.as_f64().unwrap()).collect()
    }
}
