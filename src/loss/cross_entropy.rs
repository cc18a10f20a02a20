use super::{ClassWeights, Loss, Targets, check_length, class_weights::values, per_class, smoothed};
use crate::{
    error::Result,
    tensor::{Tensor, ops},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Softmax cross entropy, as `torch.nn.CrossEntropyLoss`.
///
/// With class weights a batch of plain classes is divided by the sum of its targets' weights, a mixed one by its size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct CrossEntropy {
    /// Share of each target that is spread evenly over all classes. Szegedy et al. 2016, arXiv:1512.00567.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub label_smoothing: f64,
    /// A weight for each class, in the order of the classes, or "balanced": the more the fewer training images a class
    /// has. Default: all alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub class_weights: Option<ClassWeights>,
}

impl CrossEntropy {
    /// What the sum over a batch is divided by.
    fn divisor(&self, samples: usize, targets: &Targets) -> f64 {
        let (Some(weights), Some(classes)) = (values(&self.class_weights), targets.classes) else {
            return samples as f64;
        };
        classes.iter().filter_map(|class| weights.get(*class as usize)).sum()
    }
}

impl Loss for CrossEntropy {
    fn loss(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let weights = values(&self.class_weights).map(|weights| per_class(weights, logits)).transpose()?;
        let probabilities = smoothed(targets.probabilities, self.label_smoothing)?;
        let losses = ops::soft_cross_entropy(logits, &probabilities, weights.as_ref())?;
        // A batch whose targets all weigh nothing has no loss.
        ops::total(&losses, 1.0 / self.divisor(logits.dim(0)?, targets).max(1e-12))
    }

    fn settle(&mut self, counts: &[usize]) {
        self.class_weights.iter_mut().for_each(|weights| weights.settle(counts));
    }

    fn check(&self, classes: usize) -> std::result::Result<(), String> {
        check_length("class_weights", &self.class_weights, classes)
    }
}
