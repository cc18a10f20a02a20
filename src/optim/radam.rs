use super::{Candle, Optimizer, Slot, Step, Tensors, elementwise};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rectified Adam, as `torch.optim.RAdam`: without the root of the squares while their mean is not yet reliable.
/// Liu et al. 2020, arXiv:1908.03265.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Radam {
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
    /// Multiplies the parameter by `1 - lr * weight_decay` instead, as AdamW does.
    #[garde(skip)]
    pub decoupled_weight_decay: bool,
}

impl Default for Radam {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled_weight_decay: false }
    }
}

impl Optimizer for Radam {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::like("exp_avg", shape), Slot::like("exp_avg_sq", shape)]
    }

    /// `p -= lr m / (1 - beta1^t)`, times `rect sqrt(1 - beta2^t) / (sqrt(v) + eps)` where more than five steps count.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [mean, square] = slots else { return };
        let (adaptive, [size, l2, keep, new1, keep2, new2, eps]) = self.numbers(step);
        elementwise(parameter, gradient, [mean, square], |p, g, [m, v]| {
            let g = g + l2 * p;
            let (m, v) = (m + new1 * (g - m), keep2 * v + new2 * g * g);
            let scale = adaptive.map_or(1.0, |adaptive| adaptive / (v.sqrt() + eps));
            (keep * p - size * m * scale, [m, v])
        });
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        let (adaptive, [size, l2, keep, new1, keep2, new2, eps]) = self.numbers(step);
        tensors.update("radam", [size, adaptive.unwrap_or(0.0), l2, keep, new1, keep2, new2, eps])
    }
}

impl Radam {
    /// What stands above the root of the squares, where that is used, and the other numbers of a step.
    fn numbers(&self, step: &Step) -> (Option<f32>, [f32; 7]) {
        let (beta1, beta2) = (step.momentum.unwrap_or(self.betas[0]), self.betas[1]);
        let correction = |beta: f64| 1.0 - beta.powf(step.count as f64);
        let adaptive = rectification(beta2, step.count).map(|rect| (rect * correction(beta2).sqrt()) as f32);
        let (l2, keep) = match self.decoupled_weight_decay {
            true => (0.0, 1.0 - step.lr * step.weight_decay),
            false => (step.weight_decay, 1.0),
        };
        let numbers = [step.lr / correction(beta1), l2, keep, 1.0 - beta1, beta2, 1.0 - beta2, self.eps];
        (adaptive, numbers.map(|value| value as f32))
    }
}

/// How much the root of the squares can be trusted at a step; `None` where its variance is not yet finite.
fn rectification(beta2: f64, count: u64) -> Option<f64> {
    let longest = 2.0 / (1.0 - beta2) - 1.0;
    let decayed = beta2.powf(count as f64);
    let length = longest - 2.0 * count as f64 * decayed / (1.0 - decayed);
    let rect = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length);
    (length > 5.0).then(|| rect.sqrt())
}
