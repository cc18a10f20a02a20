use super::{Clock, Schedule};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Multiplies the rate by `gamma` at each milestone, as `torch.optim.lr_scheduler.MultiStepLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Multistep {
    /// Epochs, counted from 0, whose first step has the new rate; one named twice counts twice.
    #[garde(skip)]
    pub milestones: Vec<u64>,
    /// Factor of each change.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
}

impl Default for Multistep {
    fn default() -> Self {
        Self { milestones: Vec::new(), gamma: 0.1 }
    }
}

impl Schedule for Multistep {
    fn lr(&self, base: f64, clock: &Clock) -> f64 {
        let passed = self.milestones.iter().filter(|milestone| **milestone <= clock.epoch()).count();
        base * self.gamma.powf(passed as f64)
    }
}
