use super::{Clock, Every, Schedule, not_zero};
use crate::duration::Duration;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Goes from `start_factor` to `end_factor` of the base rate in a straight line, as `torch.optim.lr_scheduler.LinearLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Linear {
    /// Share of the base rate at the start.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub start_factor: f64,
    /// Share of the base rate at the end, and from then on.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub end_factor: f64,
    /// How long the way takes, in epochs or "500 steps".
    #[garde(custom(not_zero))]
    pub total_iters: Duration,
    /// Whether the rate changes once an epoch or at every step.
    #[garde(skip)]
    pub every: Every,
}

impl Default for Linear {
    fn default() -> Self {
        Self { start_factor: 1.0 / 3.0, end_factor: 1.0, total_iters: Duration::Epochs(5.0), every: Every::Epoch }
    }
}

impl Schedule for Linear {
    fn lr(&self, base: f64, clock: &Clock) -> f64 {
        let done = self.every.progress(clock, Some(self.total_iters)).min(1.0);
        base * (self.start_factor + (self.end_factor - self.start_factor) * done)
    }
}
