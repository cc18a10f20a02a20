//! The step on the CPU: a rule is run on one parameter after another, on all threads of the pool.

use super::{Shared, State, non_finite};
use crate::{
    error::Result,
    optim::{OptimizerSpec, Sharpness, Slot, Step},
    tensor::{Tensor, Weight, ops::Gradients},
};
use candle_core::{CpuStorage, InplaceOp2, Layout};
use std::sync::Mutex;

/// The slots of every parameter.
pub struct Cpu {
    /// The values of the slots of each parameter, in the order of its kinds.
    pub slots: Vec<Vec<Vec<f32>>>,
}

impl Cpu {
    /// With the slots as they begin.
    pub fn new(states: &[State]) -> Self {
        Self { slots: states.iter().map(|state| state.kinds.iter().map(Slot::fresh).collect()).collect() }
    }

    /// As [`super::Updater::step`].
    pub fn step(&mut self, rule: &OptimizerSpec, states: &mut [State], shared: &Shared) -> Result<()> {
        let (mut scale, mut norm) = (1.0, 1.0);
        if shared.clip_grad_norm.is_some() || rule.as_dyn().needs_gradient_norm() {
            norm = gradient_norm(states, |_, gradient| Ok(gradient.clone()))?;
        }
        if let Some(limit) = shared.clip_grad_norm {
            scale = (limit / (norm + 1e-6)).min(1.0);
            norm *= scale;
        }
        for (state, slots) in states.iter_mut().zip(&mut self.slots) {
            let Some(mut gradient) = state.gradient.take() else { continue };
            if scale < 1.0 {
                gradient = (gradient * scale)?;
            }
            let step = state.step(rule.as_dyn(), shared, norm);
            let rule = Rule { rule, step, slots: Mutex::new(slots) };
            state.weight.var().inplace_op2(&gradient.contiguous()?, &rule)?;
        }
        Ok(())
    }
}

/// As [`super::Updater::accumulate`].
pub fn accumulate(states: &mut [State], gradients: &Gradients) -> Result<()> {
    for state in states {
        let Some(new) = gradients.get(state.weight.var()) else { continue };
        state.gradient = Some(match state.gradient.take() {
            None => new.clone(),
            Some(old) => (old + new)?,
        });
    }
    Ok(())
}

/// As [`super::Updater::climb`].
pub fn climb(states: &mut [State], sharpness: Sharpness) -> Result<Before> {
    let scaled = |weight: &Weight, gradient: &Tensor, power: i32| match sharpness.adaptive {
        true => (0..power).try_fold(gradient.clone(), |moved, _| moved * weight.var().as_detached_tensor().abs()?),
        false => Ok(gradient.clone()),
    };
    let scale = sharpness.rho / (gradient_norm(states, |weight, gradient| scaled(weight, gradient, 1))? + 1e-12);
    let mut before = Vec::new();
    for state in states {
        let Some(gradient) = state.gradient.take() else { continue };
        let value = state.weight.var().as_detached_tensor().copy()?;
        state.weight.var().set(&(&value + (scaled(&state.weight, &gradient, 2)? * scale)?)?)?;
        before.push((state.weight.clone(), value));
    }
    Ok(Before(before))
}

/// The norm over all gradients, as `torch.nn.utils.clip_grad_norm_`, each seen through `of`.
fn gradient_norm(states: &[State], of: impl Fn(&Weight, &Tensor) -> candle_core::Result<Tensor>) -> Result<f64> {
    let mut total = 0.0;
    for state in states {
        let Some(gradient) = &state.gradient else { continue };
        total += f64::from(of(&state.weight, gradient)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    if total.is_finite() { Ok(total.sqrt()) } else { Err(non_finite()) }
}

/// The parameters' values before a climb.
pub struct Before(Vec<(Weight, Tensor)>);

impl Before {
    /// Gives the values back.
    pub fn restore(self) -> Result<()> {
        self.0.iter().try_for_each(|(weight, value)| Ok(weight.var().set(value)?))
    }
}

/// The rule as an operation on a parameter's storage.
struct Rule<'a> {
    rule: &'a OptimizerSpec,
    step: Step<'a>,
    slots: Mutex<&'a mut Vec<Vec<f32>>>,
}

impl InplaceOp2 for Rule<'_> {
    fn name(&self) -> &'static str {
        self.rule.name()
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let CpuStorage::F32(parameter) = parameter else { candle_core::bail!("parameters are f32") };
        let (Some((p0, p1)), Some((g0, g1))) = (layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            candle_core::bail!("a parameter or its gradient is not contiguous")
        };
        let mut slots = self.slots.lock().map_err(|_| candle_core::Error::msg("an earlier step panicked"))?;
        let gradient = &gradient.as_slice::<f32>()?[g0..g1];
        self.rule.as_dyn().update(&self.step, &mut parameter[p0..p1], gradient, &mut slots);
        Ok(())
    }
}
