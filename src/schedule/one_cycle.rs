use super::{Clock, Schedule};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rises to the optimizer's learning rate and falls far below where it began, step by step over the whole training, as
/// `torch.optim.lr_scheduler.OneCycleLR`; momentum (beta1 in Adam) goes the other way. Smith & Topin 2017, arXiv:1708.07120.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct OneCycle {
    /// Share of the training in which the rate rises.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub pct_start: f64,
    /// The first learning rate is the optimizer's divided by this.
    #[garde(range(min = 1e-12))]
    #[schemars(range(min = 1e-12))]
    pub div_factor: f64,
    /// The last learning rate is the first divided by this.
    #[garde(range(min = 1e-12))]
    #[schemars(range(min = 1e-12))]
    pub final_div_factor: f64,
    /// The shape of the way up and down.
    #[garde(skip)]
    pub anneal_strategy: Anneal,
    /// Falls back to the first learning rate as fast as it rose, then on to the last.
    #[garde(skip)]
    pub three_phase: bool,
    /// Moves momentum between `max_momentum` and `base_momentum`, against the learning rate.
    #[garde(skip)]
    pub cycle_momentum: bool,
    /// Momentum where the learning rate is highest.
    #[garde(range(min = 0.0, max = 0.999999999))]
    #[schemars(range(min = 0.0, max = 0.999999999))]
    pub base_momentum: f64,
    /// Momentum at the start and at the end.
    #[garde(range(min = 0.0, max = 0.999999999))]
    #[schemars(range(min = 0.0, max = 0.999999999))]
    pub max_momentum: f64,
}

/// How one_cycle goes from one value to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Along half a cosine.
    #[default]
    Cos,
    /// In a straight line.
    Linear,
}

impl Anneal {
    fn between(self, from: f64, to: f64, done: f64) -> f64 {
        match self {
            Self::Cos => to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * done).cos()),
            Self::Linear => from + (to - from) * done,
        }
    }
}

impl Default for OneCycle {
    fn default() -> Self {
        Self {
            pct_start: 0.3,
            div_factor: 25.0,
            final_div_factor: 1e4,
            anneal_strategy: Anneal::Cos,
            three_phase: false,
            cycle_momentum: true,
            base_momentum: 0.85,
            max_momentum: 0.95,
        }
    }
}

impl OneCycle {
    /// The value at the clock of something that is `low` at first, `high` at the peak, and `end` at last.
    fn value(&self, clock: &Clock, low: f64, high: f64, end: f64) -> f64 {
        let (peak, last) = (self.pct_start * clock.total_steps as f64 - 1.0, clock.total_steps as f64 - 1.0);
        let two = [(peak, low, high), (last, high, end)];
        let three = [(peak, low, high), (2.0 * (peak + 1.0) - 2.0, high, low), (last, low, end)];
        let phases: &[(f64, f64, f64)] = if self.three_phase { &three } else { &two };
        let step = clock.step as f64;
        let mut start = 0.0;
        for &(stop, from, to) in phases {
            if step <= stop {
                // A phase of no length is over at once.
                let done = if stop > start { (step - start) / (stop - start) } else { 1.0 };
                return self.anneal_strategy.between(from, to, done);
            }
            start = stop;
        }
        end
    }
}

impl Schedule for OneCycle {
    fn lr(&self, base: f64, clock: &Clock) -> f64 {
        let first = base / self.div_factor;
        self.value(clock, first, base, first / self.final_div_factor)
    }

    fn momentum(&self, clock: &Clock) -> Option<f64> {
        let value = || self.value(clock, self.max_momentum, self.base_momentum, self.max_momentum);
        self.cycle_momentum.then(value)
    }
}
