use super::{Candle, Optimizer, OptimizerSpec, Sharpness, Slot, Step, Tensors, elementwise, wrapped_once};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Another optimizer whose weights are pulled back to slow ones every few steps, as timm's `Lookahead`. Zhang et al.
/// 2019, arXiv:1907.08610.
///
/// As in timm the slow weights are first taken after `k` steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Lookahead {
    /// How far the slow weights go towards the fast ones.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub alpha: f64,
    /// Steps between two pulls.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub k: u64,
    /// The optimizer that makes the steps, with its learning rate.
    #[garde(dive, custom(wrapped_once("lookahead")))]
    pub base: Box<OptimizerSpec>,
}

impl Default for Lookahead {
    fn default() -> Self {
        Self { alpha: 0.5, k: 6, base: OptimizerSpec::adamw(Default::default()).into() }
    }
}

impl Optimizer for Lookahead {
    fn lr(&self) -> f64 {
        self.base.as_dyn().lr()
    }

    fn weight_decay(&self) -> f64 {
        self.base.as_dyn().weight_decay()
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        let mut slots = self.base.as_dyn().slots(shape);
        slots.push(Slot::like("lookahead_slow_buff", shape));
        slots
    }

    /// The base's step; every `k`-th time then `slow += alpha (p - slow)` and `p = slow`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let Some((slow, base)) = slots.split_last_mut() else { return };
        self.base.as_dyn().update(step, parameter, gradient, base);
        if step.count == self.k {
            slow.copy_from_slice(parameter);
        } else if step.count.is_multiple_of(self.k) {
            let alpha = self.alpha as f32;
            elementwise(parameter, gradient, [slow], |p, _, [slow]| {
                let slow = slow + alpha * (p - slow);
                (slow, [slow])
            });
        }
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        let (base, slow) = tensors.split_last_slot();
        self.base.as_dyn().gpu(step, &base)?;
        match step.count {
            count if count == self.k => slow.update("lookahead_take", []),
            count if count.is_multiple_of(self.k) => slow.update("lookahead_pull", [self.alpha as f32]),
            _ => Ok(()),
        }
    }

    fn matrix(&self, shape: &[usize]) -> Option<(usize, usize)> {
        self.base.as_dyn().matrix(shape)
    }

    fn needs_gradient_norm(&self) -> bool {
        self.base.as_dyn().needs_gradient_norm()
    }

    fn sharpness(&self) -> Option<Sharpness> {
        self.base.as_dyn().sharpness()
    }
}
