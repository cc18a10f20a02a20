//! One optimizer rule around all parameters: accumulation, clipping, groups, state.

use super::groups::{Group, Groups};
use crate::{
    error::{Cause, Error, Result},
    optim::{OptimizerSpec, Sharpness, Slot, Step},
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
    group: Group,
    kinds: Vec<Slot>,
    /// The values of the slots, in the order of `kinds`.
    slots: Vec<Vec<f32>>,
    gradient: Option<Tensor>,
}

impl Updater {
    pub fn new(rule: &OptimizerSpec, params: &Params, groups: &Groups) -> Self {
        let states = params.trainable().map(|weight| {
            let kinds = rule.as_dyn().slots(weight.var().dims());
            let slots = kinds.iter().map(Slot::fresh).collect();
            State { weight: weight.clone(), group: groups.of(weight), kinds, slots, gradient: None }
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
        let (mut scale, mut gradient_norm) = (1.0, 1.0);
        if clip_grad_norm.is_some() || self.rule.as_dyn().needs_gradient_norm() {
            gradient_norm = self.gradient_norm(|_, gradient| Ok(gradient.clone()))?;
        }
        if let Some(limit) = clip_grad_norm {
            scale = (limit / (gradient_norm + 1e-6)).min(1.0);
            gradient_norm *= scale;
        }
        self.count += 1;
        for state in &mut self.states {
            let Some(mut gradient) = state.gradient.take() else { continue };
            if scale < 1.0 {
                gradient = (gradient * scale)?;
            }
            let Group { lr_scale, weight_decay } = state.group;
            let weight_decay = weight_decay.unwrap_or(self.rule.as_dyn().weight_decay());
            let shape = state.weight.var().dims();
            let step = Step { count: self.count, lr: lr * lr_scale, weight_decay, momentum, shape, gradient_norm };
            let rule = Rule { rule: &self.rule, step, slots: Mutex::new(&mut state.slots) };
            state.weight.var().inplace_op2(&gradient.contiguous()?, &rule)?;
        }
        Ok(())
    }

    /// Moves every parameter up the gathered gradients, which it forgets, to where the loss is highest within the
    /// distance; give the returned values back with [`Raised::restore`].
    pub fn climb(&mut self, sharpness: Sharpness) -> Result<Raised> {
        let scaled = |weight: &Weight, gradient: &Tensor, power: i32| match sharpness.adaptive {
            true => {
                (0..power).try_fold(gradient.clone(), |moved, _| moved * weight.var().as_detached_tensor().abs()?)
            }
            false => Ok(gradient.clone()),
        };
        let scale = sharpness.rho / (self.gradient_norm(|weight, gradient| scaled(weight, gradient, 1))? + 1e-12);
        let mut before = Vec::new();
        for state in &mut self.states {
            let Some(gradient) = state.gradient.take() else { continue };
            let value = state.weight.var().as_detached_tensor().copy()?;
            state.weight.var().set(&(&value + (scaled(&state.weight, &gradient, 2)? * scale)?)?)?;
            before.push((state.weight.clone(), value));
        }
        Ok(Raised(before))
    }

    /// The norm over all gradients, as `torch.nn.utils.clip_grad_norm_`, each seen through `of`.
    fn gradient_norm(&self, of: impl Fn(&Weight, &Tensor) -> candle_core::Result<Tensor>) -> Result<f64> {
        let mut total = 0.0;
        for state in &self.states {
            let Some(gradient) = &state.gradient else { continue };
            total += f64::from(of(&state.weight, gradient)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
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
        let mut arrays = Vec::new();
        for state in &self.states {
            let weight = &state.weight;
            for (kind, values) in state.kinds.iter().zip(&state.slots) {
                let size = [values.len()];
                let dims = if values.len() == weight.count() { weight.var().dims() } else { &size };
                arrays.push(Array::new(slot_name(&kind.name, weight), dims, values.as_slice()));
            }
        }
        arrays
    }

    /// Takes back what [`Updater::arrays`] gave.
    pub fn restore(&mut self, count: u64, stored: &Stored) -> Result<()> {
        for state in &mut self.states {
            for (kind, slot) in state.kinds.iter().zip(&mut state.slots) {
                let values = stored.values(&slot_name(&kind.name, &state.weight))?;
                if values.len() != slot.len() {
                    return Err(Error::user(format!("{} of {} has another size", kind.name, state.weight.name())));
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

/// The parameters' values before [`Updater::climb`].
pub struct Raised(Vec<(Weight, Tensor)>);

impl Raised {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Builder, Device, Init, Key};
    use serde_json::Value;

    fn floats(value: &Value) -> Vec<f32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    /// A backward pass of the golden problem at the parameter's value.
    fn backward(weight: &Weight, problem: &Value) -> GradStore {
        let constant = |key: &str| Tensor::new(floats(&problem[key]), &Device::Cpu).unwrap();
        let distance = (weight.var().flatten_all().unwrap() - constant("target")).unwrap();
        let loss = (distance.sqr().unwrap() * constant("curvature")).unwrap().sum_all().unwrap() * 0.5;
        loss.unwrap().backward().unwrap()
    }

    /// The trajectories of tests/optim.rs again, with everything that stands around a rule in training.
    #[test]
    fn whole_steps_follow_the_originals() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/optim.json")).unwrap();
        for case in golden["cases"].as_array().unwrap().iter().filter(|case| case["cycled"] == false) {
            let rule: OptimizerSpec = serde_json::from_value(case["optimizer"].clone()).unwrap();
            let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
            let size = shape.iter().product::<usize>();
            let problems = golden["problems"].as_array().unwrap();
            let problem = problems.iter().find(|problem| floats(&problem["target"]).len() == size).unwrap();
            let builder = Builder::new(&Device::Cpu, Key::new(0));
            let weight = builder.param("x", shape.clone(), Init::ZEROS).unwrap();
            let start = Tensor::full(case["start"].as_f64().unwrap() as f32, shape, &Device::Cpu).unwrap();
            weight.var().set(&start).unwrap();
            let mut updater = Updater::new(&rule, &builder.params(), &Groups::default());
            for count in 1..=50 {
                updater.accumulate(&backward(&weight, problem)).unwrap();
                if let Some(sharpness) = rule.as_dyn().sharpness() {
                    let raised = updater.climb(sharpness).unwrap();
                    updater.accumulate(&backward(&weight, problem)).unwrap();
                    raised.restore().unwrap();
                }
                updater.step(rule.as_dyn().lr(), None, None).unwrap();
                let Some(expected) = case["x"].get(count.to_string()) else { continue };
                let ours = weight.var().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                for (ours, original) in ours.iter().zip(floats(expected)) {
                    let off = (ours - original).abs() / original.abs().max(1.0);
                    assert!(off < 1e-5, "{rule:?}, step {count}: {ours} and not {original}");
                }
            }
        }
    }
}
