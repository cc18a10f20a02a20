use super::{
    Candle, Optimizer, Slot, Step, Tensors,
    adam::{Decay, Numbers},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with decoupled weight decay, as `torch.optim.AdamW`. Loshchilov & Hutter 2019, arXiv:1711.05101.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Adamw {
    /// Learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    #[garde(inner(range(min = 0.0, max = 0.999999999)))]
    #[schemars(inner(range(min = 0.0, max = 0.999999999)))]
    pub betas: [f64; 2],
    /// Added to the denominator, after the corrected root.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// Each step first multiplies the parameter by `1 - lr * weight_decay`.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for Adamw {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-2 }
    }
}

impl Optimizer for Adamw {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::like("exp_avg", shape), Slot::like("exp_avg_sq", shape)]
    }

    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        self.numbers(step).update(parameter, gradient, slots);
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        self.numbers(step).gpu(tensors)
    }
}

impl Adamw {
    fn numbers(&self, step: &Step) -> Numbers {
        let decay = Decay { l2: 0.0, keep: 1.0 - step.lr * step.weight_decay };
        Numbers::new(step, self.betas, self.eps, decay)
    }
}
