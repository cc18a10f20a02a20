use super::{BLOCK, Candle, Optimizer, Slot, Step, Tensors, vectorized};
use garde::Validate;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stochastic gradient descent with momentum and L2 weight decay, as `torch.optim.SGD`. Sutskever et al. 2013.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// Learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Share of the old buffer that each step keeps.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub momentum: f64,
    /// Share of the gradient that does not enter the buffer, from the second step on.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dampening: f64,
    /// Looks one step ahead; needs a momentum and no dampening.
    #[garde(custom(nesterov_allowed(self.momentum, self.dampening)))]
    pub nesterov: bool,
    /// L2 penalty, added to the gradient.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

fn nesterov_allowed(momentum: f64, dampening: f64) -> impl FnOnce(&bool, &()) -> garde::Result {
    move |nesterov, ()| match *nesterov && (momentum <= 0.0 || dampening != 0.0) {
        true => Err(garde::Error::new("needs a momentum above 0 and no dampening")),
        false => Ok(()),
    }
}

impl Optimizer for Sgd {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    /// Kept without momentum too: a schedule may cycle it.
    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::like("momentum_buffer", shape)]
    }

    /// `g += weight_decay p`; `b = momentum b + (1 - dampening) g`, the first `b` being `g`; `p -= lr (b or g + momentum b)`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [buffer] = slots else { return };
        let [lr, decay, keep, new, from_gradient, from_buffer] = self.numbers(step);
        let blocks = (parameter.par_chunks_mut(BLOCK), gradient.par_chunks(BLOCK), buffer.par_chunks_mut(BLOCK));
        blocks.into_par_iter().for_each(|(parameter, gradient, buffer)| {
            vectorized(|| {
                for ((p, &g), b) in parameter.iter_mut().zip(gradient).zip(buffer) {
                    let g = g + decay * *p;
                    *b = keep * *b + new * g;
                    *p -= lr * (from_gradient * g + from_buffer * *b);
                }
            });
        });
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        tensors.update("sgd", self.numbers(step))
    }
}

impl Sgd {
    /// In the order of the kernel's arguments.
    fn numbers(&self, step: &Step) -> [f32; 6] {
        let momentum = step.momentum.unwrap_or(self.momentum);
        let new = if step.count <= 1 { 1.0 } else { 1.0 - self.dampening };
        // What of the gradient and of the buffer moves the parameter.
        let (from_gradient, from_buffer) = match (momentum == 0.0, self.nesterov) {
            (true, _) => (1.0, 0.0),
            (false, true) => (1.0, momentum),
            (false, false) => (0.0, 1.0),
        };
        [step.lr, step.weight_decay, momentum, new, from_gradient, from_buffer].map(|value| value as f32)
    }
}
