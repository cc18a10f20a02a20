use super::{Candle, Optimizer, Slot, Step, Tensors, elementwise};
use crate::tensor::gpu::Arg;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with Nesterov momentum from differences of gradients, as timm's `Adan`. Xie et al. 2022, arXiv:2208.06677.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Adan {
    /// Learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running means of the gradient, of its change, and of the square of both.
    #[garde(inner(range(min = 0.0, max = 0.999999999)))]
    #[schemars(inner(range(min = 0.0, max = 0.999999999)))]
    pub betas: [f64; 3],
    /// Added to the denominator.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// Each step divides the parameter by `1 + lr * weight_decay` at its end.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Multiplies the parameter by `1 - lr * weight_decay` at the step's beginning instead, as AdamW does.
    #[garde(skip)]
    pub no_prox: bool,
}

impl Default for Adan {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.98, 0.92, 0.99], eps: 1e-8, weight_decay: 0.0, no_prox: false }
    }
}

impl Optimizer for Adan {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        ["exp_avg", "exp_avg_sq", "exp_avg_diff", "neg_pre_grad"].map(|name| Slot::like(name, shape)).into()
    }

    /// `d = g - g_before`; `p -= lr (m / (1 - b1^t) + b2 e / (1 - b2^t)) / (sqrt(n / (1 - b3^t)) + eps)` with the running
    /// means `m` of `g`, `e` of `d` and `n` of `(g + b2 d)^2`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [mean, square, difference, before] = slots else { return };
        let (first, numbers) = (step.count <= 1, self.numbers(step));
        let [mean_size, change_size, root, new1, keep2, new2, keep3, new3, eps, keep, divide] = numbers;
        elementwise(parameter, gradient, [mean, square, difference, before], |p, g, [m, n, e, before]| {
            let d = if first { 0.0 } else { g + before };
            let (m, e) = (m + new1 * (g - m), keep2 * e + new2 * d);
            let ahead = keep2 * d + g;
            let n = keep3 * n + new3 * ahead * ahead;
            let spread = n.sqrt() / root + eps;
            let p = keep * p - (mean_size * m + change_size * e) / spread;
            (p / divide, [m, n, e, -g])
        });
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        let numbers = self.numbers(step).map(Arg::from);
        tensors.launch("adan", &[&numbers[..], &[Arg::Int((step.count <= 1).into())]].concat())
    }
}

impl Adan {
    /// In the order of the kernel's arguments.
    fn numbers(&self, step: &Step) -> [f32; 11] {
        let [_, beta2, beta3] = self.betas;
        let beta1 = step.momentum.unwrap_or(self.betas[0]);
        let correction = |beta: f64| 1.0 - beta.powf(step.count as f64);
        let [mean_size, change_size] = [step.lr / correction(beta1), step.lr * beta2 / correction(beta2)];
        let decay = step.lr * step.weight_decay;
        let (keep, divide) = if self.no_prox { (1.0 - decay, 1.0) } else { (1.0, 1.0 + decay) };
        let root = correction(beta3).sqrt();
        let [new1, new2, new3] = [beta1, beta2, beta3].map(|beta| 1.0 - beta);
        [mean_size, change_size, root, new1, beta2, new2, beta3, new3, self.eps, keep, divide].map(|value| value as f32)
    }
}
