use super::{Clock, Every, Schedule, not_zero};
use crate::duration::Duration;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Falls to `eta_min` along half a cosine, as `torch.optim.lr_scheduler.CosineAnnealingLR`. Loshchilov & Hutter 2017,
/// arXiv:1608.03983.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// When the minimum is reached, in epochs or "500 steps"; after it the rate rises again. Default: at the end of training.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(not_zero)))]
    pub t_max: Option<Duration>,
    /// The lowest learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub eta_min: f64,
    /// Whether the rate changes once an epoch or at every step.
    #[garde(skip)]
    pub every: Every,
}

impl Schedule for Cosine {
    fn lr(&self, base: f64, clock: &Clock) -> f64 {
        let angle = std::f64::consts::PI * self.every.progress(clock, self.t_max);
        self.eta_min + (base - self.eta_min) * (1.0 + angle.cos()) / 2.0
    }
}
