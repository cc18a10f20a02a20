//! One optimizer rule around all parameters: accumulation, clipping, groups, state.

use crate::{
    error::{Cause, Error, Result},
    optim::{OptimizerSpec, Step},
    spec::WeightDecayOn,
    tensor::{
        Params, Tensor, Weight,
        safetensors::{Array, Stored},
    },
};
use candle_core::{CpuStorage, InplaceOp2, Layout, backprop::GradStore};
use std::sync::Mutex;

pub struct Updater {
    rule: OptimizerSpec,
    states: Vec<State>,
    /// Steps made.
    count: u64,
}

/// One trainable parameter, its optimizer slots and the gradient gathered for the next step.
struct State {
    weight: Weight,
    weight_decay: f64,
    slots: Vec<Vec<f32>>,
    gradient: Option<Tensor>,
}

impl Updater {
    pub fn new(rule: &OptimizerSpec, params: &Params, decay_on: WeightDecayOn) -> Self {
        let behaviour = rule.as_dyn();
        let states = params.trainable().map(|weight| State {
            weight: weight.clone(),
            weight_decay: if decays(weight, decay_on) { behaviour.weight_decay() } else { 0.0 },
            slots: behaviour.slots().iter().map(|_| vec![0.0; weight.count()]).collect(),
            gradient: None,
        });
        Self { states: states.collect(), rule: rule.clone(), count: 0 }
    }

    /// Adds a backward pass's gradients to what the next step uses.
    pub fn accumulate(&mut self, gradients: &GradStore) -> Result<()> {
        for state in &mut self.states {
            let Some(new) = gradients.get(state.weight.var()) else { continue };
            state.gradient = Some(match state.gradient.take() {
                None => new.clone(),
                Some(old) => (old + new)?,
            });
        }
        Ok(())
    }

    /// Updates every parameter from the gathered gradients and forgets them.
    pub fn step(&mut self, lr: f64, momentum: Option<f64>, clip_grad_norm: Option<f64>) -> Result<()> {
        let scale = match clip_grad_norm {
            None => 1.0,
            Some(limit) => (limit / (self.gradient_norm()? + 1e-6)).min(1.0),
        };
        self.count += 1;
        for state in &mut self.states {
            let Some(mut gradient) = state.gradient.take() else { continue };
            if scale < 1.0 {
                gradient = (gradient * scale)?;
            }
            let step = Step { count: self.count, lr, weight_decay: state.weight_decay, momentum };
            let rule = Rule { rule: &self.rule, step, slots: Mutex::new(&mut state.slots) };
            state.weight.var().inplace_op2(&gradient.contiguous()?, &rule)?;
        }
        Ok(())
    }

    /// The norm over all gradients, as `torch.nn.utils.clip_grad_norm_`.
    fn gradient_norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for gradient in self.states.iter().filter_map(|state| state.gradient.as_ref()) {
            total += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        match total.is_finite() {
            true => Ok(total.sqrt()),
            false => Err(Error::new(Cause::NonFinite, "the gradient is no longer finite; try a smaller learning rate")),
        }
    }

    /// Steps made.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Every slot by name: `exp_avg:layer1.0.conv1.weight`, ..
    pub fn arrays(&self) -> Vec<Array<'_>> {
        let names = self.rule.as_dyn().slots();
        let of = |state: &'_ State, name: &str, slot| {
            Array::new(slot_name(name, &state.weight), state.weight.var().dims(), slot)
        };
        let slots =
            self.states.iter().flat_map(|state| names.iter().zip(&state.slots).map(move |(n, s)| (state, n, s)));
        slots.map(|(state, name, slot)| of(state, name, slot.as_slice())).collect()
    }

    /// Takes back what [`Updater::arrays`] gave.
    pub fn restore(&mut self, count: u64, stored: &Stored) -> Result<()> {
        for state in &mut self.states {
            for (name, slot) in self.rule.as_dyn().slots().iter().zip(&mut state.slots) {
                let values = stored.values(&slot_name(name, &state.weight))?;
                if values.len() != slot.len() {
                    return Err(Error::user(format!("{name} of {} has another size", state.weight.name())));
                }
                *slot = values;
            }
        }
        self.count = count;
        Ok(())
    }
}

fn slot_name(slot: &str, weight: &Weight) -> String {
    format!("{slot}:{}", weight.name())
}

fn decays(weight: &Weight, on: WeightDecayOn) -> bool {
    on == WeightDecayOn::All || weight.var().dims().len() >= 2
}

/// The rule as an operation on a parameter's storage.
struct Rule<'a> {
    rule: &'a OptimizerSpec,
    step: Step,
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
