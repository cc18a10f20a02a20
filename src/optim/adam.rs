use super::{BLOCK, Candle, Optimizer, Slot, Step, Tensors, vectorized};
use garde::Validate;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam with coupled L2 weight decay, as `torch.optim.Adam`. Kingma & Ba 2015, arXiv:1412.6980.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Adam {
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
    /// L2 penalty, added to the gradient.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Optimizer for Adam {
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

impl Adam {
    fn numbers(&self, step: &Step) -> Numbers {
        Numbers::new(step, self.betas, self.eps, Decay { l2: step.weight_decay, keep: 1.0 })
    }
}

/// The two ways of weight decay.
pub(super) struct Decay {
    /// Times the parameter, added to the gradient.
    pub l2: f64,
    /// The parameter is multiplied by this before the step.
    pub keep: f64,
}

/// One step of Adam: `m = lerp(m, g, 1 - beta1)`, `v = beta2 v + (1 - beta2) g^2`,
/// `p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)`.
pub(super) struct Numbers {
    size: f32,
    root: f32,
    new1: f32,
    keep2: f32,
    new2: f32,
    eps: f32,
    l2: f32,
    keep: f32,
}

impl Numbers {
    pub fn new(step: &Step, betas: [f64; 2], eps: f64, decay: Decay) -> Self {
        let (beta1, beta2) = (step.momentum.unwrap_or(betas[0]), betas[1]);
        let correction = |beta: f64| 1.0 - beta.powf(step.count as f64);
        Self {
            size: (step.lr / correction(beta1)) as f32,
            root: correction(beta2).sqrt() as f32,
            new1: (1.0 - beta1) as f32,
            keep2: beta2 as f32,
            new2: (1.0 - beta2) as f32,
            eps: eps as f32,
            l2: decay.l2 as f32,
            keep: decay.keep as f32,
        }
    }

    pub fn update(&self, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [mean, square] = slots else { return };
        let &Self { size, root, new1, keep2, new2, eps, l2, keep } = self;
        let blocks = (
            parameter.par_chunks_mut(BLOCK),
            gradient.par_chunks(BLOCK),
            mean.par_chunks_mut(BLOCK),
            square.par_chunks_mut(BLOCK),
        );
        blocks.into_par_iter().for_each(|(parameter, gradient, mean, square)| {
            vectorized(|| {
                for (((p, &g), m), v) in parameter.iter_mut().zip(gradient).zip(mean).zip(square) {
                    let g = g + l2 * *p;
                    *m += new1 * (g - *m);
                    *v = keep2 * *v + new2 * g * g;
                    *p = keep * *p - size * *m / (v.sqrt() / root + eps);
                }
            });
        });
    }

    pub fn gpu(&self, tensors: &Tensors) -> Candle<()> {
        let &Self { size, root, new1, keep2, new2, eps, l2, keep } = self;
        tensors.update("adam", [size, root, new1, keep2, new2, eps, l2, keep])
    }
}
