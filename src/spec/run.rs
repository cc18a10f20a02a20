//! The resolved specification of one run: everything that decides its numbers, beside its seed.

use super::{
    Keep, Progressive,
    recipe::{Distill, Ema, Group, Soup, Supcon, Swa},
};
use crate::{
    augment::AugmentSpec,
    data::{Channels, DataSpec, Fold, Interpolation, Subset, sampler::SamplerSpec},
    duration::Duration,
    loss::LossSpec,
    optim::OptimizerSpec,
    schedule::ScheduleSpec,
    synthesize::SynthesizerSpec,
};
use candle_core::DType;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One experiment, resolved: `defaults`, `extends`, its own keys and `--set` merged. Stored with every run, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Where images and labels come from.
    #[garde(dive)]
    pub data: DataSpec,
    /// Trains on all folds of a cross-validation but one, and validates on that; `[sweep] folds` makes a run of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub fold: Option<Fold>,
    /// Trains on a part of the training images only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub subset: Option<Subset>,
    /// Makes images from the training images and mixes them in, into training alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub synthesize: Option<SynthesizerSpec>,
    /// What training and validation share: size, interpolation, normalization.
    #[serde(default)]
    #[garde(dive)]
    pub input: Input,
    /// The model.
    #[serde(default)]
    #[garde(dive)]
    pub backbone: BackboneSpec,
    /// The optimizer and its parameters.
    #[serde(default = "default_optimizer")]
    #[garde(dive)]
    pub optimizer: OptimizerSpec,
    /// The learning-rate schedule.
    #[serde(default = "default_scheduler")]
    #[garde(dive)]
    pub scheduler: ScheduleSpec,
    /// Raises the learning rate from `start_factor` of its value to all of it, before the schedule takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub warmup: Option<Warmup>,
    /// What training minimizes.
    #[serde(default = "default_loss")]
    #[garde(dive)]
    pub loss: LossSpec,
    /// Adds supervised contrastive learning to the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub supcon: Option<Supcon>,
    /// Learns from a finished run beside the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub distill: Option<Distill>,
    /// Augmentations of training images, in order.
    #[serde(default)]
    #[garde(dive)]
    pub augment: Vec<AugmentSpec>,
    /// Passes over the training images.
    #[serde(default = "ten")]
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub epochs: u32,
    /// Images of one forward pass.
    #[serde(default = "forty")]
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Batches whose gradients are averaged into one optimizer step.
    #[serde(default = "one")]
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub accumulate: usize,
    /// Number format of the arithmetic; weights are always kept in f32.
    #[serde(default)]
    #[garde(skip)]
    pub precision: Precision,
    /// A new order of the training images every epoch.
    #[serde(default = "yes")]
    #[garde(skip)]
    pub shuffle: bool,
    /// Draws the training images of an epoch with replacement, in place of a new order of all; default: every image once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub sampler: Option<SamplerSpec>,
    /// Training images that start small and grow to `input.size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub progressive: Option<Progressive>,
    /// Leaves out the last, smaller batch of an epoch.
    #[serde(default)]
    #[garde(skip)]
    pub drop_last: bool,
    /// Scales gradients so that their norm over all parameters is at most this. `torch.nn.utils.clip_grad_norm_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1e-12)))]
    #[schemars(range(min = 1e-12))]
    pub clip_grad_norm: Option<f64>,
    /// Which parameters decay: all, as in torch, or matrices only (no norms, no biases).
    #[serde(default)]
    #[garde(skip)]
    pub weight_decay_on: WeightDecayOn,
    /// Parameters with a learning rate or weight decay of their own; of several that match one, the last counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[garde(dive)]
    pub groups: Vec<Group>,
    /// Times the learning rate once for every layer behind a parameter's, the head's being whole: timm's
    /// `param_groups_layer_decay`. Clark et al. 2020, arXiv:2003.10555.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1e-6, max = 1.0)))]
    #[schemars(range(min = 1e-6, max = 1.0))]
    pub layer_decay: Option<f64>,
    /// Exponential moving average of the weights, used for evaluation and saved as the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub ema: Option<Ema>,
    /// Plain average of the weights of the last epochs, used for evaluation and saved as the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub swa: Option<Swa>,
    /// Mean of the weights of the best epochs, taken when training ends and saved as the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub soup: Option<Soup>,
    /// Parameters that are not trained, by name; `*` stands for anything, e.g. `layer1.*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[garde(skip)]
    pub freeze: Vec<String>,
    /// Ends a run whose selected metric no longer improves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub early_stop: Option<EarlyStop>,
    /// Epochs between evaluations; the last epoch is always evaluated.
    #[serde(default = "one_epoch")]
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub eval_every: u32,
    /// Optimizer steps between recorded training losses.
    #[serde(default = "fifty")]
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub log_every: u64,
    /// The metric that picks the best epoch.
    #[serde(default)]
    #[garde(dive)]
    pub select: Select,
    /// Checkpoints that stay when a run has finished.
    #[serde(default)]
    #[garde(skip)]
    pub keep: Keep,
    /// Keeps the weights of so many of the best epochs, too, each in a file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 1000)))]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_best: Option<usize>,
    /// The same bits every time on CUDA too, at some cost; the CPU always is.
    #[serde(default)]
    #[garde(skip)]
    pub deterministic: bool,
}

/// What happens to every image, training and validation alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// Width and height of what the model sees, in pixels; images are resized to it unless `load_size` is given.
    #[garde(range(min = 8, max = 4096))]
    #[schemars(range(min = 8, max = 4096))]
    pub size: usize,
    /// Width and height that images are resized to and cached at; augmentations see them at this size, and where none
    /// crops, as in validation and prediction, the middle `size` pixels are taken. timm's `crop_pct` is `size / load_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 8, max = 4096)))]
    #[schemars(range(min = 8, max = 4096))]
    pub load_size: Option<usize>,
    /// Pillow's filter, always antialiased.
    #[garde(skip)]
    pub interpolation: Interpolation,
    /// What the network sees of an image: its colours, or something computed from them.
    #[serde(skip_serializing_if = "Channels::is_rgb")]
    #[garde(skip)]
    pub channels: Channels,
    /// Subtracted from each channel after scaling to 0..1; default: the backbone's pretrained configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub mean: Option<[f32; 3]>,
    /// Divides each channel after that; default: the backbone's pretrained configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(range(min = 1e-6))))]
    #[schemars(inner(range(min = 1e-6)))]
    pub std: Option<[f32; 3]>,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            size: 224,
            load_size: None,
            interpolation: Interpolation::default(),
            channels: Channels::Rgb,
            mean: None,
            std: None,
        }
    }
}

impl Input {
    /// Width and height of decoded images, before augmentation and cropping.
    pub fn loaded(&self) -> usize {
        self.load_size.unwrap_or(self.size)
    }

    /// The same for a model that sees another size of the same part of the picture.
    pub fn loaded_for(&self, size: usize) -> usize {
        (self.loaded() * size).div_ceil(self.size)
    }
}

/// A CNN's feature map as the tokens of a vision transformer, in place of its patches; each half has its own pretrained
/// weights. Dosovitskiy et al. 2020, arXiv:2010.11929.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct HybridSpec {
    /// timm's name of the CNN, with or without a tag: `resnet18`.
    #[garde(skip)]
    pub cnn: String,
    /// The stage whose map is taken: at stage 1 its side is a quarter of the image's, and half of that at each further one.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub stage: usize,
    /// timm's name of the vision transformer, with or without a tag: `vit_tiny_patch16_224`.
    #[garde(skip)]
    pub vit: String,
}

/// The model and where its weights start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct BackboneSpec {
    /// timm's name, with or without a tag: `resnet18`, `efficientnet_b1.ft_in1k`.
    #[garde(skip)]
    pub name: String,
    /// In place of `name`: a hybrid of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub hybrid: Option<HybridSpec>,
    /// Starts from timm's pretrained weights: true, false or "if_available".
    #[garde(skip)]
    pub pretrained: UsePretrained,
    /// Starts from this safetensors file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub weights: Option<String>,
    /// Dropout in front of the classifier.
    #[garde(range(min = 0.0, max = 0.999))]
    #[schemars(range(min = 0.0, max = 0.999))]
    pub drop_rate: f64,
    /// Largest rate of stochastic depth.
    #[garde(range(min = 0.0, max = 0.999))]
    #[schemars(range(min = 0.0, max = 0.999))]
    pub drop_path: f64,
    /// Keeps only what goes into each block, and computes the rest again on the way back: much less memory for about a
    /// third more time, and the same numbers. Chen et al. 2016, arXiv:1604.06174.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[garde(skip)]
    pub grad_checkpointing: bool,
}

impl Default for BackboneSpec {
    fn default() -> Self {
        Self {
            name: "resnet18".into(),
            hybrid: None,
            pretrained: UsePretrained::No,
            weights: None,
            drop_rate: 0.0,
            drop_path: 0.0,
            grad_checkpointing: false,
        }
    }
}

/// Whether a run starts from pretrained weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsePretrained {
    #[default]
    No,
    Yes,
    /// From scratch where the weights cannot be had; the report says so.
    IfAvailable,
}

/// Linear warm-up of the learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// How long it takes: epochs, "3 epochs" or "500 steps".
    #[garde(skip)]
    pub length: Duration,
    /// The share of the learning rate of the first step. `torch.optim.lr_scheduler.LinearLR`.
    #[serde(default = "third")]
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub start_factor: f64,
}

/// When to stop early.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// Evaluations without improvement before a run ends.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub patience: u32,
    /// What counts as improvement.
    #[serde(default)]
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub min_delta: f64,
}

/// The metric that picks the best epoch, on the validation split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// `auc`, `accuracy`, `loss`, ..
    #[garde(skip)]
    pub metric: String,
    /// Whether larger or smaller is better; default: what is better for the metric.
    #[garde(skip)]
    pub mode: Mode,
}

impl Default for Select {
    fn default() -> Self {
        Self { metric: "auc".into(), mode: Mode::Max }
    }
}

/// Which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Max,
    Min,
}

/// Number format of the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f32 on the CPU, bf16 on CUDA.
    #[default]
    Auto,
    F32,
    Tf32,
    Bf16,
    F16,
}

impl Precision {
    /// What activations are kept in; parameters are f32 in each.
    pub fn dtype(self) -> DType {
        match self {
            Self::Auto | Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// Which parameters weight decay applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightDecayOn {
    #[default]
    All,
    /// Parameters of two or more dimensions: no norms, no biases.
    Matrices,
}

fn default_optimizer() -> OptimizerSpec {
    OptimizerSpec::adam(Default::default())
}

fn default_scheduler() -> ScheduleSpec {
    ScheduleSpec::constant(Default::default())
}

fn default_loss() -> LossSpec {
    LossSpec::cross_entropy(Default::default())
}

fn one() -> usize {
    1
}

fn ten() -> u32 {
    10
}

fn forty() -> usize {
    40
}

fn one_epoch() -> u32 {
    1
}

fn fifty() -> u64 {
    50
}

fn third() -> f64 {
    1.0 / 3.0
}

fn yes() -> bool {
    true
}

mod use_pretrained {
    use super::UsePretrained;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use std::{borrow::Cow, fmt};

    impl Serialize for UsePretrained {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::No => serializer.serialize_bool(false),
                Self::Yes => serializer.serialize_bool(true),
                Self::IfAvailable => serializer.serialize_str("if_available"),
            }
        }
    }

    impl<'de> Deserialize<'de> for UsePretrained {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl de::Visitor<'_> for Visitor {
                type Value = UsePretrained;

                fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                    f.write_str("true, false or \"if_available\"")
                }

                fn visit_bool<E: de::Error>(self, yes: bool) -> Result<UsePretrained, E> {
                    Ok(if yes { UsePretrained::Yes } else { UsePretrained::No })
                }

                fn visit_str<E: de::Error>(self, text: &str) -> Result<UsePretrained, E> {
                    match text {
                        "if_available" => Ok(UsePretrained::IfAvailable),
                        _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                    }
                }
            }
            deserializer.deserialize_any(Visitor)
        }
    }

    impl JsonSchema for UsePretrained {
        fn schema_name() -> Cow<'static, str> {
            "UsePretrained".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "enum": [true, false, "if_available"] })
        }
    }
}
