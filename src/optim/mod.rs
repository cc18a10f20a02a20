//! Optimizers: each a rule for one tensor with named state slots, torch's formulas. Grouping, clipping, averaging and
//! saving are written once, around any rule, in training.

/// What a rule needs to know about this step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Steps this rule has made, counting this one, from 1.
    pub count: u64,
    pub lr: f64,
    pub weight_decay: f64,
    /// Set where the schedule cycles momentum (one_cycle): replaces momentum, or beta1.
    pub momentum: Option<f64>,
}

/// A rule that updates one parameter in place.
pub trait Optimizer: Send + Sync {
    /// The base learning rate, before schedule and groups.
    fn lr(&self) -> f64;

    /// The weight decay of groups that have any.
    fn weight_decay(&self) -> f64;

    /// Names of the state tensors kept for each parameter, each of the parameter's size and zero at first; torch's names.
    fn slots(&self) -> &'static [&'static str];

    /// Makes one step: updates `parameter` and `slots` (in the order of [`Optimizer::slots`]) from `gradient`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]);
}

crate::components! {
    /// The `optimizer` of an experiment.
    pub enum OptimizerSpec: Optimizer {
        adam::Adam,
        adamw::Adamw,
        sgd::Sgd,
    }
}

/// Elements that one task updates. An element's new value depends on that element alone, so any split gives the same bits.
const BLOCK: usize = 1 << 15;

/// Runs a loop compiled for the widest vectors this processor has.
#[inline(always)]
fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}
