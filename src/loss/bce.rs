use super::{ClassWeights, Loss, Targets, check_length, class_weights::values, per_class, smoothed};
use crate::{
    error::Result,
    tensor::{Tensor, ops},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Binary cross entropy of each class against the rest, averaged over samples and classes, as timm's
/// `BinaryCrossEntropy`. Wightman et al. 2021, arXiv:2110.00476.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Bce {
    /// Share of each target that is spread evenly over all classes, mixed targets included.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub label_smoothing: f64,
    /// Makes every target above this 1 and every other 0, after smoothing; default: targets stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target_threshold: Option<f64>,
    /// How much a positive counts in each class, in the order of the classes, or "balanced": as much as there are negatives
    /// for each. Default: all 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub pos_weight: Option<ClassWeights>,
}

impl Loss for Bce {
    fn loss(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let mut wanted = smoothed(targets.probabilities, self.label_smoothing)?;
        if let Some(threshold) = self.target_threshold {
            wanted = wanted.gt(threshold)?.to_dtype(logits.dtype())?;
        }
        let Some(pos_weight) = values(&self.pos_weight) else {
            let losses = ops::bce_with_logits(logits, &wanted)?;
            return ops::total(&losses, 1.0 / losses.elem_count().max(1) as f64);
        };
        // w t softplus(-x) + (1 - t) softplus(x) is the plain loss at another target, times (w t + 1 - t).
        let positive = wanted.broadcast_mul(&per_class(pos_weight, logits)?)?;
        let scale = ((&positive - &wanted)? + 1.0)?;
        Ok((ops::bce_with_logits(logits, &(positive / &scale)?)? * scale)?.mean_all()?)
    }

    fn settle(&mut self, counts: &[usize]) {
        self.pos_weight.iter_mut().for_each(|weights| weights.settle_positives(counts));
    }

    fn check(&self, classes: usize) -> std::result::Result<(), String> {
        check_length("pos_weight", &self.pos_weight, classes)
    }
}
