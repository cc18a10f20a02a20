use super::{Candle, Optimizer, Slot, Step, Tensors, elementwise};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps of one size along the sign of the momentum, as timm's `Lion`. Chen et al. 2023, arXiv:2302.06675.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Lion {
    /// Learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Share of the momentum in a step, and decay of the momentum.
    #[garde(inner(range(min = 0.0, max = 0.999999999)))]
    #[schemars(inner(range(min = 0.0, max = 0.999999999)))]
    pub betas: [f64; 2],
    /// Each step first multiplies the parameter by `1 - lr * weight_decay`.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self { lr: 1e-4, betas: [0.9, 0.99], weight_decay: 0.0 }
    }
}

impl Optimizer for Lion {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::like("exp_avg", shape)]
    }

    /// `p = (1 - lr weight_decay) p - lr sign(lerp(m, g, 1 - beta1))`; `m = lerp(m, g, 1 - beta2)`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [mean] = slots else { return };
        let [lr, keep, now, new] = self.numbers(step);
        elementwise(parameter, gradient, [mean], |p, g, [m]| {
            let direction = m + now * (g - m);
            let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
            (keep * p - lr * sign, [m + new * (g - m)])
        });
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        tensors.update("lion", self.numbers(step))
    }
}

impl Lion {
    /// The learning rate, what is kept of the parameter, and the gradient's share in the step and in the momentum.
    fn numbers(&self, step: &Step) -> [f32; 4] {
        let beta1 = step.momentum.unwrap_or(self.betas[0]);
        [step.lr, 1.0 - step.lr * step.weight_decay, 1.0 - beta1, 1.0 - self.betas[1]].map(|value| value as f32)
    }
}
