use super::{Candle, Optimizer, Slot, Step, Tensors, elementwise};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// RMSprop, as `torch.optim.RMSprop`. Hinton 2012, lecture 6e of "Neural Networks for Machine Learning".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Rmsprop {
    /// Learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running mean of the gradient's square.
    #[garde(range(min = 0.0, max = 0.999999999))]
    #[schemars(range(min = 0.0, max = 0.999999999))]
    pub alpha: f64,
    /// Added to the denominator.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Share of the old buffer that each step keeps.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub momentum: f64,
    /// Divides by the deviation of the gradient instead of its size.
    #[garde(skip)]
    pub centered: bool,
}

impl Default for Rmsprop {
    fn default() -> Self {
        Self { lr: 1e-2, alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

impl Optimizer for Rmsprop {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        let mut slots = vec![Slot::like("square_avg", shape), Slot::like("momentum_buffer", shape)];
        if self.centered {
            slots.push(Slot::like("grad_avg", shape));
        }
        slots
    }

    /// `v = alpha v + (1 - alpha) g^2`; `b = momentum b + g / (sqrt(v) + eps)`, centered `sqrt(v - mean^2)`; `p -= lr b`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [lr, l2, keep, new, eps, momentum] = self.numbers(step);
        let moved = |p: f32, g: f32, spread: f32, buffer: f32| {
            let buffer = momentum * buffer + g / (spread.sqrt() + eps);
            (p - lr * buffer, buffer)
        };
        match slots {
            [square, buffer] => elementwise(parameter, gradient, [square, buffer], |p, g, [v, b]| {
                let g = g + l2 * p;
                let v = keep * v + new * g * g;
                let (p, b) = moved(p, g, v, b);
                (p, [v, b])
            }),
            [square, buffer, mean] => elementwise(parameter, gradient, [square, buffer, mean], |p, g, [v, b, m]| {
                let g = g + l2 * p;
                let (v, m) = (keep * v + new * g * g, m + new * (g - m));
                // Rounding may leave a little less than nothing.
                let (p, b) = moved(p, g, (v - m * m).max(0.0), b);
                (p, [v, b, m])
            }),
            _ => {}
        }
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        let kernel = if self.centered { "rmsprop_centered" } else { "rmsprop" };
        tensors.update(kernel, self.numbers(step))
    }
}

impl Rmsprop {
    /// In the order of the kernels' arguments.
    fn numbers(&self, step: &Step) -> [f32; 6] {
        let momentum = step.momentum.unwrap_or(self.momentum);
        [step.lr, step.weight_decay, self.alpha, 1.0 - self.alpha, self.eps, momentum].map(|value| value as f32)
    }
}
