//! The resolved specification of one run: everything that decides its numbers, beside its seed.

use super::{
    BackboneSpec, Input, Keep, Progressive,
    recipe::{Distill, Ema, Group, Soup, Supcon, Swa},
};
use crate::{
    augment::AugmentSpec,
    data::{DataSpec, Fold, Subset, sampler::SamplerSpec},
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

impl Select {
    /// A value of the metric as a loss: smaller is better.
    pub fn loss(&self, value: f64) -> f64 {
        match self.mode {
            Mode::Max => -value,
            Mode::Min => value,
        }
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
