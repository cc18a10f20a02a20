use super::{Candle, Optimizer, Slot, Step, Tensors, elementwise};
use crate::tensor::gpu::Arg;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with Nesterov momentum, as `torch.optim.NAdam`. Dozat 2016, "Incorporating Nesterov Momentum into Adam".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Nadam {
    /// Learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    #[garde(inner(range(min = 0.0, max = 0.999999999)))]
    #[schemars(inner(range(min = 0.0, max = 0.999999999)))]
    pub betas: [f64; 2],
    /// Added to the denominator.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// How fast the momentum rises from half of beta1 to all of it.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub momentum_decay: f64,
    /// Multiplies the parameter by `1 - lr * weight_decay` instead, as AdamW does.
    #[garde(skip)]
    pub decoupled_weight_decay: bool,
}

impl Default for Nadam {
    fn default() -> Self {
        Self {
            lr: 2e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            momentum_decay: 4e-3,
            decoupled_weight_decay: false,
        }
    }
}

impl Optimizer for Nadam {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::like("exp_avg", shape), Slot::like("exp_avg_sq", shape), Slot::scalar("mu_product", 1.0)]
    }

    /// `mu_t = beta1 (1 - 0.5 * 0.96^(t momentum_decay))`;
    /// `p -= lr ((1 - mu_t) / (1 - prod mu) g + mu_t+1 / (1 - prod mu mu_t+1) m) / (sqrt(v / (1 - beta2^t)) + eps)`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [mean, square, product] = slots else { return };
        let Some(product) = product.first_mut() else { return };
        let [now, next] = self.momenta(step);
        *product = (f64::from(*product) * now) as f32;
        let so_far = f64::from(*product);
        let from_gradient = (step.lr * (1.0 - now) / (1.0 - so_far)) as f32;
        let from_mean = (step.lr * next / (1.0 - so_far * next)) as f32;
        let [correction, l2, keep, new1, keep2, new2, eps] = self.numbers(step);
        elementwise(parameter, gradient, [mean, square], |p, g, [m, v]| {
            let g = g + l2 * p;
            let (m, v) = (m + new1 * (g - m), keep2 * v + new2 * g * g);
            let spread = (v / correction).sqrt() + eps;
            (keep * p - (from_gradient * g + from_mean * m) / spread, [m, v])
        });
    }

    /// The product of the momenta is the device's own.
    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        let [now, next] = self.momenta(step);
        tensors.update("nadam_product", [now as f32])?;
        let sizes = [step.lr * (1.0 - now), step.lr * next, next].map(|value| Arg::from(value as f32));
        tensors.launch("nadam", &[&sizes[..], &self.numbers(step).map(Arg::from)].concat())
    }
}

impl Nadam {
    /// Of this step and the next.
    fn momenta(&self, step: &Step) -> [f64; 2] {
        let beta1 = step.momentum.unwrap_or(self.betas[0]);
        let mu = |count: u64| beta1 * (1.0 - 0.5 * 0.96f64.powf(count as f64 * self.momentum_decay));
        [mu(step.count), mu(step.count + 1)]
    }

    /// What does not depend on the product of the momenta, in the order of the kernel's arguments.
    fn numbers(&self, step: &Step) -> [f32; 7] {
        let (beta1, beta2) = (step.momentum.unwrap_or(self.betas[0]), self.betas[1]);
        let (l2, keep) = match self.decoupled_weight_decay {
            true => (0.0, 1.0 - step.lr * step.weight_decay),
            false => (step.weight_decay, 1.0),
        };
        let correction = 1.0 - beta2.powf(step.count as f64);
        [correction, l2, keep, 1.0 - beta1, beta2, 1.0 - beta2, self.eps].map(|value| value as f32)
    }
}
