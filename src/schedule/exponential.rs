use super::{Clock, Every, Schedule};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Multiplies the rate by `gamma` each epoch, as `torch.optim.lr_scheduler.ExponentialLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Exponential {
    /// Factor of one epoch.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    /// Whether the rate changes once an epoch, or a little at every step to the same effect.
    #[garde(skip)]
    pub every: Every,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { gamma: 0.9, every: Every::Epoch }
    }
}

impl Schedule for Exponential {
    fn lr(&self, base: f64, clock: &Clock) -> f64 {
        base * self.gamma.powf(self.every.epochs(clock))
    }
}
