use super::{Candle, Optimizer, OptimizerSpec, Sharpness, Slot, Step, Tensors, wrapped_once};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sharpness-aware minimization: another optimizer, given the gradient where the loss is highest nearby. Foret et al.
/// 2021, arXiv:2010.01412; adaptive: Kwon et al. 2021, arXiv:2102.11600.
///
/// Each step runs forward and backward twice on the same batch and the same dropped units. As in davda54's `SAM` the
/// running statistics of batch normalization come from the first pass alone; so does the loss that is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Sam {
    /// How far the weights move up before the second gradient, as a norm over all parameters.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub rho: f64,
    /// Moves each weight in proportion to its size.
    #[garde(skip)]
    pub adaptive: bool,
    /// The optimizer that makes the steps, with its learning rate.
    #[garde(dive, custom(wrapped_once("sam")))]
    pub base: Box<OptimizerSpec>,
}

impl Default for Sam {
    fn default() -> Self {
        Self { rho: 0.05, adaptive: false, base: OptimizerSpec::sgd(Default::default()).into() }
    }
}

impl Optimizer for Sam {
    fn lr(&self) -> f64 {
        self.base.as_dyn().lr()
    }

    fn weight_decay(&self) -> f64 {
        self.base.as_dyn().weight_decay()
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        self.base.as_dyn().slots(shape)
    }

    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        self.base.as_dyn().update(step, parameter, gradient, slots);
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        self.base.as_dyn().gpu(step, tensors)
    }

    fn matrix(&self, shape: &[usize]) -> Option<(usize, usize)> {
        self.base.as_dyn().matrix(shape)
    }

    fn needs_gradient_norm(&self) -> bool {
        self.base.as_dyn().needs_gradient_norm()
    }

    fn sharpness(&self) -> Option<Sharpness> {
        Some(Sharpness { rho: self.rho, adaptive: self.adaptive })
    }
}
