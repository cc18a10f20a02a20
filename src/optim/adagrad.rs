use super::{Candle, Optimizer, Slot, Step, Tensors, elementwise};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adagrad, as `torch.optim.Adagrad`. Duchi et al. 2011, "Adaptive Subgradient Methods", JMLR 12.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Adagrad {
    /// Learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Divides the learning rate of step t by `1 + (t - 1) lr_decay`.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr_decay: f64,
    /// L2 penalty, added to the gradient.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Where the sum of squares starts.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub initial_accumulator_value: f64,
    /// Added to the denominator.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub eps: f64,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self { lr: 1e-2, lr_decay: 0.0, weight_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10 }
    }
}

impl Optimizer for Adagrad {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::like("sum", shape).from(self.initial_accumulator_value)]
    }

    /// `s += g^2`; `p -= lr g / (sqrt(s) + eps)`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [sum] = slots else { return };
        let [lr, l2, eps] = self.numbers(step);
        elementwise(parameter, gradient, [sum], |p, g, [s]| {
            let g = g + l2 * p;
            let s = s + g * g;
            (p - lr * g / (s.sqrt() + eps), [s])
        });
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        tensors.update("adagrad", self.numbers(step))
    }
}

impl Adagrad {
    /// The learning rate, the L2 penalty and eps.
    fn numbers(&self, step: &Step) -> [f32; 3] {
        let lr = step.lr / (1.0 + (step.count - 1) as f64 * self.lr_decay);
        [lr, step.weight_decay, self.eps].map(|value| value as f32)
    }
}
