use super::{ClassWeights, Loss, Targets, check_length, class_weights::values, log_softmax, per_class};
use crate::{error::Result, tensor::Tensor};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Softmax focal loss: `-sum_c alpha_c t_c (1 - p_c)^gamma log p_c`, averaged over the batch. Lin et al. 2017,
/// arXiv:1708.02002.
///
/// With two classes it is torchvision's `sigmoid_focal_loss(z1 - z0, target, alpha=a)` for `alpha = [1 - a, a]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Focal {
    /// How strongly samples that are already right count less; 0 is cross entropy.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    /// A weight for each class, in the order of the classes, or "balanced": the more the fewer training images a class
    /// has. Default: all 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub alpha: Option<ClassWeights>,
}

impl Default for Focal {
    fn default() -> Self {
        Self { gamma: 2.0, alpha: None }
    }
}

impl Loss for Focal {
    fn loss(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let log_p = log_softmax(logits)?;
        // Away from 0, where a power below 1 has no slope; what is lost is below the rounding of 1 - p.
        let miss = (1.0 - log_p.exp()?)?.maximum(1e-7)?;
        let targets = match values(&self.alpha) {
            Some(alpha) => targets.probabilities.detach().broadcast_mul(&per_class(alpha, logits)?)?,
            None => targets.probabilities.detach(),
        };
        let terms = (targets * log_p)?.mul(&miss.powf(self.gamma)?)?;
        Ok((terms.sum_all()? * (-1.0 / logits.dim(0)?.max(1) as f64))?)
    }

    fn settle(&mut self, counts: &[usize]) {
        self.alpha.iter_mut().for_each(|weights| weights.settle(counts));
    }

    fn check(&self, classes: usize) -> std::result::Result<(), String> {
        check_length("alpha", &self.alpha, classes)
    }
}
