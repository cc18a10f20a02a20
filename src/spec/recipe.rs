//! Parts of a training recipe beside optimizer and loss: groups of parameters, averages of weights, added loss terms.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters that are trained differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Which parameters, by timm's names; `*` stands for anything: `layer4.*`.
    #[serde(rename = "match")]
    #[garde(skip)]
    pub pattern: String,
    /// Times the learning rate; 0 leaves them as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0)))]
    #[schemars(range(min = 0.0))]
    pub lr_scale: Option<f64>,
    /// In place of the optimizer's weight decay, whatever `weight_decay_on` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0)))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
}

/// Pulls the features of one class together and those of different classes apart, beside `loss`: supervised contrastive
/// learning on pooled features of length 1. Khosla et al. 2020, arXiv:2004.11362.
///
/// Needs batches whose labels are not mixed. Gradients see the images of one forward pass at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Supcon {
    /// Times the term, added to the loss.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// Divides the similarities; smaller looks harder at the nearest.
    #[garde(range(min = 1e-6))]
    #[schemars(range(min = 1e-6))]
    pub temperature: f64,
}

impl Default for Supcon {
    fn default() -> Self {
        Self { weight: 1.0, temperature: 0.07 }
    }
}

/// Learns from a finished run beside the labels: the loss becomes `(1 - weight) loss + weight temperature^2 KL` of the two
/// networks' class probabilities, both softened. Hinton et al. 2015, arXiv:1503.02531.
///
/// The teacher sees the same augmented images, brought to its own normalization, and is never trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Distill {
    /// The id of a finished run in the same results folder, whose best checkpoint was kept.
    #[garde(length(min = 1))]
    #[schemars(length(min = 1))]
    pub teacher: String,
    /// The teacher's share of the loss.
    #[serde(default = "half")]
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight: f64,
    /// Divides both networks' logits.
    #[serde(default = "four")]
    #[garde(range(min = 1e-6))]
    #[schemars(range(min = 1e-6))]
    pub temperature: f64,
}

fn half() -> f64 {
    0.5
}

fn four() -> f64 {
    4.0
}

/// Stochastic weight averaging: from an epoch on, evaluation and the saved model take the plain mean of the weights at the
/// ends of epochs, as torch's `AveragedModel`. Izmailov et al. 2018, arXiv:1803.05407.
///
/// Before each such evaluation the statistics of batch normalization are taken anew in one pass over the training images
/// (torch's `update_bn`), which costs about a third of an epoch: `eval_every` saves some of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Swa {
    /// The first epoch whose weights count, from 1.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub start: u32,
    /// Epochs between two sets of weights that count.
    #[serde(default = "one")]
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub every: u32,
    /// The learning rate that takes the schedule's place from `start` on, as torch's `SWALR`; default: the schedule goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0)))]
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Epochs over which a cosine leads from the schedule's learning rate to `lr`.
    #[serde(default = "ten")]
    #[garde(skip)]
    pub anneal_epochs: u32,
}

impl Swa {
    /// Sets of weights that count by the end of an epoch.
    pub fn averaged(&self, epoch: u32) -> u32 {
        epoch.checked_sub(self.start).map_or(0, |since| since / self.every + 1)
    }

    /// Whether the weights at the end of this epoch count.
    pub fn takes(&self, epoch: u32) -> bool {
        epoch >= self.start && (epoch - self.start).is_multiple_of(self.every)
    }

    /// The learning rate in an epoch from `start` on, where the schedule had come to `from`.
    pub fn anneal(&self, lr: f64, from: f64, epoch: u32) -> f64 {
        let way = match self.anneal_epochs {
            0 => 1.0,
            epochs => (f64::from(epoch.saturating_sub(self.start)) / f64::from(epochs)).min(1.0),
        };
        let share = (1.0 - (std::f64::consts::PI * way).cos()) / 2.0;
        lr * share + from * (1.0 - share)
    }
}

/// Exponential moving average of the weights, as timm's `ModelEmaV3`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Ema {
    /// Share of the old average that each step keeps.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub decay: f64,
    /// Uses `min(decay, (1 + step) / (10 + step))`, so that the first steps count.
    #[garde(skip)]
    pub warmup: bool,
}

impl Default for Ema {
    fn default() -> Self {
        Self { decay: 0.9998, warmup: true }
    }
}

/// A greedy soup: when training ends, the weights of its best epochs are averaged, best first, each as long as the selected
/// metric on the validation images does not fall; the mean becomes the run's model. Wortsman et al. 2022,
/// arXiv:2203.05482; buffers are averaged too, as by timm's `avg_checkpoints.py`.
///
/// Takes one evaluation for each epoch tried, and the space of as many checkpoints while the run lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Soup {
    /// The most epochs to average.
    #[garde(range(min = 2, max = 100))]
    #[schemars(range(min = 2, max = 100))]
    pub epochs: usize,
}

impl Default for Soup {
    fn default() -> Self {
        Self { epochs: 5 }
    }
}

fn one() -> u32 {
    1
}

fn ten() -> u32 {
    10
}
