use super::{Clock, Every, Schedule, not_zero};
use crate::duration::Duration;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Falls to 0 as `(1 - t)^power`, as `torch.optim.lr_scheduler.PolynomialLR`; by default a straight line over the whole
/// training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Polynomial {
    /// When 0 is reached, in epochs or "500 steps"; default: at the end of training.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(not_zero)))]
    pub total_iters: Option<Duration>,
    /// The power; 1 is a straight line.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub power: f64,
    /// Whether the rate changes once an epoch or at every step.
    #[garde(skip)]
    pub every: Every,
}

impl Default for Polynomial {
    fn default() -> Self {
        Self { total_iters: None, power: 1.0, every: Every::Epoch }
    }
}

impl Schedule for Polynomial {
    fn lr(&self, base: f64, clock: &Clock) -> f64 {
        base * (1.0 - self.every.progress(clock, self.total_iters).min(1.0)).powf(self.power)
    }
}
