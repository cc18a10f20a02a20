use super::{Clock, Schedule};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Multiplies the rate by `gamma` every `step_size` epochs, as `torch.optim.lr_scheduler.StepLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Epochs between changes.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub step_size: u64,
    /// Factor of each change.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    /// When an epoch counts: at its end, as torch's examples call `scheduler.step()`, or already at its start, which
    /// changes the rate one epoch earlier.
    #[garde(skip)]
    pub at: At,
}

/// The end of an epoch at which `scheduler.step()` is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum At {
    Start,
    #[default]
    End,
}

impl Default for Step {
    fn default() -> Self {
        Self { step_size: 10, gamma: 0.1, at: At::End }
    }
}

impl Schedule for Step {
    fn lr(&self, base: f64, clock: &Clock) -> f64 {
        let calls = match self.at {
            At::Start => clock.epoch() + 1,
            At::End => clock.epoch(),
        };
        base * self.gamma.powf((calls / self.step_size.max(1)) as f64)
    }
}
