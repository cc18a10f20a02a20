use super::{Candle, Optimizer, Slot, Step, Tensors, elementwise, norm};
use crate::tensor::gpu::Arg;
use candle_core::DType;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adam whose step is scaled to each tensor's norm, for large batches, as timm's `Lamb`. You et al. 2020,
/// arXiv:1904.00962.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Lamb {
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
    /// Times the parameter, added to the direction of the step.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Corrects the running means for their start at zero.
    #[garde(skip)]
    pub bias_correction: bool,
    /// Takes `1 - beta1` of the gradient into its running mean, instead of all of it.
    #[garde(skip)]
    pub grad_averaging: bool,
    /// Divides gradients whose norm over all parameters is larger than this; 0 turns it off.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub max_grad_norm: f64,
    /// Never scales a step up. Fong et al. 2020, "LAMBC".
    #[garde(skip)]
    pub trust_clip: bool,
    /// Scales the steps of parameters without weight decay too.
    #[garde(skip)]
    pub always_adapt: bool,
    /// Multiplies the parameter by `1 - lr * weight_decay` instead, as AdamW does.
    #[garde(skip)]
    pub decoupled_decay: bool,
}

impl Default for Lamb {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-6,
            weight_decay: 0.01,
            bias_correction: true,
            grad_averaging: true,
            max_grad_norm: 1.0,
            trust_clip: false,
            always_adapt: false,
            decoupled_decay: false,
        }
    }
}

impl Optimizer for Lamb {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        vec![Slot::like("exp_avg", shape), Slot::like("exp_avg_sq", shape)]
    }

    fn needs_gradient_norm(&self) -> bool {
        self.max_grad_norm > 0.0
    }

    /// `u = m / (sqrt(v) + eps) + weight_decay p` of the corrected means; `p -= lr |p| / |u| u`, the norms of the tensor.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let [mean, square] = slots else { return };
        let [keep1, new1, keep2, new2, keep] = self.means(step);
        let clip = if self.max_grad_norm > 0.0 { (step.gradient_norm / self.max_grad_norm).max(1.0) } else { 1.0 };
        let clip = clip as f32;
        elementwise(parameter, gradient, [&mut *mean, &mut *square], |p, g, [m, v]| {
            let g = g / clip;
            (keep * p, [keep1 * m + new1 * g, keep2 * v + new2 * g * g])
        });
        let [scale, root, eps, l2] = self.direction(step);
        let direction = move |p: f32, m: f32, v: f32| m / scale / (v.sqrt() / root + eps) + l2 * p;
        let trust = match self.adapts(step) {
            true => self.trust(
                norm(parameter.len(), |i| parameter[i]),
                norm(parameter.len(), |i| direction(parameter[i], mean[i], square[i])),
            ),
            false => 1.0,
        };
        let size = (step.lr * trust) as f32;
        elementwise(parameter, gradient, [mean, square], |p, _, [m, v]| (p - size * direction(p, m, v), [m, v]));
    }

    /// The means and the norms of each chunk first; the blocks of the step itself add them up.
    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        let sums = tensors.queue().array(2 * tensors.part.blocks, DType::F32)?;
        let direction = self.direction(step).map(Arg::from);
        let most = Arg::from(self.max_grad_norm as f32);
        let means = self.means(step).map(Arg::from);
        tensors.launch("lamb_means", &[&[Arg::from(&sums), most][..], &means, &direction].concat())?;
        let options = [self.adapts(step), self.trust_clip].map(|on| Arg::Int(on.into()));
        let lr = Arg::from(step.lr as f32);
        tensors.launch("lamb_step", &[&[Arg::from(&sums), lr][..], &direction, &options].concat())
    }
}

impl Lamb {
    /// What is kept and taken of the running means and kept of the parameter, in the order of the kernel's arguments.
    fn means(&self, step: &Step) -> [f32; 5] {
        let (beta1, beta2) = (step.momentum.unwrap_or(self.betas[0]), self.betas[1]);
        let new1 = if self.grad_averaging { 1.0 - beta1 } else { 1.0 };
        let keep = if self.decoupled_decay { 1.0 - step.lr * step.weight_decay } else { 1.0 };
        [beta1, new1, beta2, 1.0 - beta2, keep].map(|value| value as f32)
    }

    /// The corrections of the means, eps and the L2 penalty, in the order of the kernels' arguments.
    fn direction(&self, step: &Step) -> [f32; 4] {
        let (beta1, beta2) = (step.momentum.unwrap_or(self.betas[0]), self.betas[1]);
        let correction = |beta: f64| if self.bias_correction { 1.0 - beta.powf(step.count as f64) } else { 1.0 };
        let l2 = if self.decoupled_decay { 0.0 } else { step.weight_decay };
        [correction(beta1), correction(beta2).sqrt(), self.eps, l2].map(|value| value as f32)
    }

    /// Whether the step is scaled to the norms.
    fn adapts(&self, step: &Step) -> bool {
        step.weight_decay != 0.0 || self.always_adapt
    }

    /// What a step is scaled by, of the tensor's norm and the step's.
    fn trust(&self, parameter: f64, direction: f64) -> f64 {
        let ratio = if parameter > 0.0 && direction > 0.0 { parameter / direction } else { 1.0 };
        if self.trust_clip { ratio.min(1.0) } else { ratio }
    }
}
