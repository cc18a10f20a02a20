//! Optimizers: each a rule for one tensor with named state slots, torch's and timm's formulas. Grouping, clipping,
//! averaging and saving are written once, around any rule, in training.

mod blocks;
mod gpu;

pub use gpu::{CONTROL, Tensors, read_slots, slot_rooms};

use blocks::{BLOCK, elementwise, norm, vectorized};
use candle_core::Result as Candle;
use std::borrow::Cow;

/// What a rule needs to know about this step and the parameter it updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<'a> {
    /// Steps this rule has made, counting this one, from 1.
    pub count: u64,
    pub lr: f64,
    pub weight_decay: f64,
    /// Set where the schedule cycles momentum (one_cycle): replaces momentum, or beta1.
    pub momentum: Option<f64>,
    /// The parameter's dimensions, in torch's order; on a GPU those of one of the parameters.
    pub shape: &'a [usize],
    /// The norm over the gradients of all parameters; 1 unless [`Optimizer::needs_gradient_norm`]. On a GPU it is in the
    /// device's memory.
    pub gradient_norm: f64,
}

/// A state tensor that a rule keeps for a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// torch's name.
    pub name: Cow<'static, str>,
    pub size: usize,
    /// The value that every element starts at.
    pub start: f32,
}

impl Slot {
    /// As many values as the parameter has, zero at first.
    fn like(name: &'static str, shape: &[usize]) -> Self {
        Self { name: name.into(), size: shape.iter().product(), start: 0.0 }
    }

    /// The same, starting at another value.
    fn from(self, start: f64) -> Self {
        Self { start: start as f32, ..self }
    }

    /// A single number.
    fn scalar(name: &'static str, start: f64) -> Self {
        Self { name: name.into(), size: 1, start: start as f32 }
    }

    /// Its values before the first step.
    pub fn fresh(&self) -> Vec<f32> {
        vec![self.start; self.size]
    }
}

/// Training that looks for flat minima: gradients are taken where the loss is highest within this distance. See `sam`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sharpness {
    /// How far the parameters move up, as a norm over all of them.
    pub rho: f64,
    /// Whether the move is in proportion to each parameter.
    pub adaptive: bool,
}

/// A rule that updates one parameter in place.
pub trait Optimizer: Send + Sync {
    /// The base learning rate, before schedule and groups.
    fn lr(&self) -> f64;

    /// The weight decay of groups that have any.
    fn weight_decay(&self) -> f64;

    /// The state tensors kept for a parameter of this shape.
    fn slots(&self, shape: &[usize]) -> Vec<Slot>;

    /// Makes one step: updates `parameter` and `slots` (in the order of [`Optimizer::slots`]) from `gradient`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]);

    /// Makes the same step on a GPU for many parameters; what of it is a number is computed here.
    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()>;

    /// Rows and columns of a parameter that the rule treats as a matrix. On a GPU those of one size are updated together.
    fn matrix(&self, _shape: &[usize]) -> Option<(usize, usize)> {
        None
    }

    /// Whether the rule reads [`Step::gradient_norm`].
    fn needs_gradient_norm(&self) -> bool {
        false
    }

    /// Set where every step needs a second gradient, at a point higher up.
    fn sharpness(&self) -> Option<Sharpness> {
        None
    }
}

crate::components! {
    /// The `optimizer` of an experiment.
    pub enum OptimizerSpec: Optimizer {
        adam::Adam,
        adamw::Adamw,
        sgd::Sgd,
        adagrad::Adagrad,
        adan::Adan,
        lamb::Lamb,
        lion::Lion,
        lookahead::Lookahead,
        muon::Muon,
        nadam::Nadam,
        radam::Radam,
        rmsprop::Rmsprop,
        sam::Sam,
    }
}

impl OptimizerSpec {
    /// Every wrapper's name from here inwards, and the rule's own at the end.
    fn chain(&self) -> Vec<&'static str> {
        let base = match self {
            Self::lookahead(wrapper) => Some(&wrapper.base),
            Self::sam(wrapper) => Some(&wrapper.base),
            _ => None,
        };
        std::iter::once(self.name()).chain(base.into_iter().flat_map(|base| base.chain())).collect()
    }
}

/// A wrapper around itself would keep its state twice under one name.
fn wrapped_once(own: &'static str) -> impl FnOnce(&OptimizerSpec, &()) -> garde::Result {
    move |base, ()| match base.chain().contains(&own) {
        true => Err(garde::Error::new(format!("`{own}` cannot stand inside `{own}`"))),
        false => Ok(()),
    }
}
