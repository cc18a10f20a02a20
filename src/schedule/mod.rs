//! Learning-rate schedules: pure functions of where training stands, torch's formulas.
//!
//! Lengths are written in epochs (`5`, `"5 epochs"`) or steps (`"500 steps"`) and mean the same curve either way; whether
//! the rate moves along that curve once an epoch, as torch users mostly do, or at every step is [`Every`].

use crate::duration::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where training stands when a step begins.
#[derive(Clone, Copy, Debug)]
pub struct Clock<'a> {
    /// Optimizer steps made before this one.
    pub step: u64,
    pub steps_per_epoch: u64,
    /// Optimizer steps of the whole training.
    pub total_steps: u64,
    /// The selected metric after each finished epoch that was evaluated, oldest first, as a loss: smaller is better. A
    /// metric to be maximized enters negated.
    pub history: &'a [f64],
}

impl Clock<'_> {
    /// The epoch this step belongs to, from 0.
    pub fn epoch(&self) -> u64 {
        self.step / self.steps_per_epoch.max(1)
    }

    /// The clock of a schedule that takes over after this many steps: it starts at 0 and ends when training ends.
    pub fn after(&self, steps: u64) -> Self {
        Self { step: self.step.saturating_sub(steps), total_steps: self.total_steps.saturating_sub(steps), ..*self }
    }
}

/// A schedule around a base learning rate.
pub trait Schedule: Send + Sync {
    /// The learning rate of the step at this clock.
    fn lr(&self, base: f64, clock: &Clock) -> f64;

    /// The momentum (beta1 in Adam) of the step, where the schedule cycles it.
    fn momentum(&self, _clock: &Clock) -> Option<f64> {
        None
    }
}

crate::components! {
    /// The `scheduler` of an experiment.
    pub enum ScheduleSpec: Schedule {
        constant::Constant,
        step::Step,
        multistep::Multistep,
        exponential::Exponential,
        polynomial::Polynomial,
        linear::Linear,
        cosine::Cosine,
        one_cycle::OneCycle,
        plateau::Plateau,
    }
}

/// The learning rate with `warmup_steps` of linear warm-up before `schedule`, as torch's
/// `SequentialLR([LinearLR(start_factor, total_iters=warmup_steps), schedule], milestones=[warmup_steps])`, stepped once a
/// step.
///
/// The schedule then starts on its own clock ([`Clock::after`]; its momentum wants that clock too): an epoch it counts
/// begins at the end of the warm-up, and "the whole training" is what the warm-up left. timm calls this `warmup_prefix`.
pub fn warmed_up(base: f64, start_factor: f64, warmup_steps: u64, clock: &Clock, schedule: &dyn Schedule) -> f64 {
    if clock.step < warmup_steps {
        let done = clock.step as f64 / warmup_steps as f64;
        return base * (start_factor + (1.0 - start_factor) * done);
    }
    schedule.lr(base, &clock.after(warmup_steps))
}

/// How often a schedule changes the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// At the start of each epoch.
    #[default]
    Epoch,
    /// At every optimizer step.
    Step,
}

impl Every {
    /// The share of `length` (default: the whole training) that lies behind the clock; above 1 once it is over.
    fn progress(self, clock: &Clock, length: Option<Duration>) -> f64 {
        let position = match self {
            Self::Epoch => clock.epoch() * clock.steps_per_epoch,
            Self::Step => clock.step,
        };
        let length = length.map_or(clock.total_steps, |length| length.steps(clock.steps_per_epoch));
        position as f64 / length.max(1) as f64
    }

    /// How many epochs lie behind the clock.
    fn epochs(self, clock: &Clock) -> f64 {
        match self {
            Self::Epoch => clock.epoch() as f64,
            Self::Step => clock.step as f64 / clock.steps_per_epoch.max(1) as f64,
        }
    }
}

/// A check of parameters: a length of nothing is no length.
fn not_zero(length: &Duration, _: &()) -> garde::Result {
    match length {
        Duration::Epochs(0.0) | Duration::Steps(0) => Err(garde::Error::new("must be longer than nothing")),
        _ => Ok(()),
    }
}
