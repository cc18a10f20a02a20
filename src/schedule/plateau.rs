use super::{Clock, Schedule};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lowers the rate when the selected metric stops improving, as `torch.optim.lr_scheduler.ReduceLROnPlateau`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// Factor of each change.
    #[garde(range(min = 0.0, max = 0.999999999))]
    #[schemars(range(min = 0.0, max = 0.999999999))]
    pub factor: f64,
    /// Evaluations without improvement that are tolerated; the one after them changes the rate.
    #[garde(skip)]
    pub patience: u64,
    /// The least improvement that counts.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub threshold: f64,
    /// Whether the threshold is a share of the best value or a difference from it.
    #[garde(skip)]
    pub threshold_mode: ThresholdMode,
    /// Evaluations after a change in which nothing is counted.
    #[garde(skip)]
    pub cooldown: u64,
    /// The lowest learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
    /// A change smaller than this is not made.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub eps: f64,
}

/// What plateau's threshold means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    /// A share of the best value's size.
    #[default]
    Rel,
    /// A difference from the best value.
    Abs,
}

impl Default for Plateau {
    fn default() -> Self {
        Self {
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }
}

impl Plateau {
    /// For positive values the same as torch, for losses and for negated metrics alike.
    fn improves(&self, value: f64, best: Option<f64>) -> bool {
        let Some(best) = best else { return !value.is_nan() };
        let margin = match self.threshold_mode {
            ThresholdMode::Rel => self.threshold * best.abs(),
            ThresholdMode::Abs => self.threshold,
        };
        value < best - margin
    }
}

impl Schedule for Plateau {
    /// Replays the history, so that a resumed run stands where an uninterrupted one does.
    fn lr(&self, base: f64, clock: &Clock) -> f64 {
        let (mut lr, mut best, mut bad, mut cooldown) = (base, None, 0, 0);
        for &value in clock.history {
            if self.improves(value, best) {
                (best, bad) = (Some(value), 0);
            } else {
                bad += 1;
            }
            if cooldown > 0 {
                (cooldown, bad) = (cooldown - 1, 0);
            }
            if bad > self.patience {
                let lower = (lr * self.factor).max(self.min_lr);
                lr = if lr - lower > self.eps { lower } else { lr };
                (cooldown, bad) = (self.cooldown, 0);
            }
        }
        lr
    }
}
