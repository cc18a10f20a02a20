use super::{Loss, Targets, log_softmax, smoothed};
use crate::{error::Result, tensor::Tensor};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Softmax cross entropy whose wrong classes count less the surer they are ruled out, as timm's
/// `AsymmetricLossSingleLabel`. Ridnik et al. 2021, arXiv:2009.14119.
///
/// A mixed target takes its share of both focusing powers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Asymmetric {
    /// How strongly the right class counts less when it is likely already.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub gamma_pos: f64,
    /// How strongly wrong classes count less when they are unlikely already.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub gamma_neg: f64,
    /// Share of each target that is spread evenly over all classes.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub eps: f64,
}

impl Default for Asymmetric {
    fn default() -> Self {
        Self { gamma_pos: 1.0, gamma_neg: 4.0, eps: 0.1 }
    }
}

impl Loss for Asymmetric {
    /// `-sum_c s_c w_c log p_c` with the smoothed targets `s` and `w = (1 - p)^gamma_pos` for the right class,
    /// `p^gamma_neg` for a wrong one.
    fn loss(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let log_p = log_softmax(logits)?;
        let p = log_p.exp()?;
        let right = targets.probabilities.detach();
        let wrong = right.affine(-1.0, 1.0)?;
        // Away from 0, where a power below 1 has no slope; what is lost is below the rounding of 1 - p.
        let miss = (1.0 - &p)?.maximum(1e-7)?.powf(self.gamma_pos)?;
        let hit = p.maximum(1e-7)?.powf(self.gamma_neg)?;
        let weight = ((&right * miss)? + (wrong * hit)?)?;
        let terms = ((smoothed(&right, self.eps)? * weight)? * log_p)?;
        Ok((terms.sum_all()? * (-1.0 / logits.dim(0)?.max(1) as f64))?)
    }
}
