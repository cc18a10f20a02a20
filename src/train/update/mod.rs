//! One optimizer rule around all parameters: accumulation, clipping, groups, state. What it computes with is in `cpu` and
//! in `gpu`, where nothing waits for the device.

mod cpu;
mod gpu;
#[cfg(test)]
mod tests;

use super::groups::{Group, Groups};
use crate::{
    error::{Cause, Error, Result},
    optim::{Optimizer, OptimizerSpec, Sharpness, Slot, Step},
    tensor::{
        Params, Tensor, Weight,
        gpu::Queue,
        ops::Gradients,
        safetensors::{Array, Stored},
    },
};
use cpu::Cpu;
use gpu::Gpu;
pub use gpu::LossScale;
use std::borrow::Cow;

pub struct Updater {
    rule: OptimizerSpec,
    states: Vec<State>,
    side: Side,
    /// Steps made.
    count: u64,
}

/// One trainable parameter, what its optimizer slots are, and the gradient gathered for the next step.
struct State {
    weight: Weight,
    group: Group,
    kinds: Vec<Slot>,
    gradient: Option<Tensor>,
}

/// The values of the slots, and what works on them.
enum Side {
    Cpu(Cpu),
    Gpu(Box<Gpu>),
}

/// What the parameters have in common in a step.
#[derive(Clone, Copy)]
struct Shared {
    count: u64,
    lr: f64,
    momentum: Option<f64>,
    clip_grad_norm: Option<f64>,
}

impl State {
    fn dims(&self) -> &[usize] {
        self.weight.var().dims()
    }

    fn step(&self, rule: &dyn Optimizer, shared: &Shared, gradient_norm: f64) -> Step<'_> {
        let Group { lr_scale, weight_decay } = self.group;
        let weight_decay = weight_decay.unwrap_or(rule.weight_decay());
        let &Shared { count, lr, momentum, .. } = shared;
        Step { count, lr: lr * lr_scale, weight_decay, momentum, shape: self.dims(), gradient_norm }
    }
}

impl Updater {
    pub fn new(rule: &OptimizerSpec, params: &Params, groups: &Groups) -> Result<Self> {
        let states = params.trainable().map(|weight| {
            let kinds = rule.as_dyn().slots(weight.var().dims());
            State { weight: weight.clone(), group: groups.of(weight), kinds, gradient: None }
        });
        let mut states: Vec<State> = states.collect();
        let queue = states.first().map(|state| Queue::of(state.weight.var())).transpose()?.flatten();
        let side = match queue {
            None => Side::Cpu(Cpu::new(&states)),
            Some(queue) => Side::Gpu(Box::new(Gpu::new(&queue, rule.as_dyn(), &mut states)?)),
        };
        Ok(Self { rule: rule.clone(), states, side, count: 0 })
    }

    /// Scales losses, so that small gradients do not vanish in f16: as `torch.amp.GradScaler`, by a factor that adapts and
    /// with steps skipped whose gradients are not finite. Losses must then go through [`Updater::scaled`].
    ///
    /// A skipped step counts for the schedule and not for the rule, as there.
    ///
    /// # Errors
    /// On the CPU, which computes in f32.
    pub fn scale_losses(&mut self) -> Result<()> {
        match &mut self.side {
            Side::Cpu(_) => Err(Error::user("the CPU computes in f32, where losses need no scale")),
            Side::Gpu(gpu) => gpu.scale_losses(),
        }
    }

    /// The loss to go backward from: `loss` itself where losses are not scaled.
    pub fn scaled(&self, loss: &Tensor) -> Result<Tensor> {
        match &self.side {
            Side::Cpu(_) => Ok(loss.clone()),
            Side::Gpu(gpu) => gpu.scaled(loss),
        }
    }

    /// Whether all went well so far, and the state of loss scaling where there is any. Waits for the device: for the ends of
    /// epochs and the like.
    ///
    /// # Errors
    /// `Cause::NonFinite` where a GPU has seen a gradient that is not finite (the CPU says so at once), or where loss
    /// scaling no longer helps.
    pub fn check(&self) -> Result<Option<LossScale>> {
        match &self.side {
            Side::Cpu(_) => Ok(None),
            Side::Gpu(gpu) => gpu.check(),
        }
    }

    /// Adds a backward pass's gradients to what the next step uses.
    pub fn accumulate(&mut self, gradients: &Gradients) -> Result<()> {
        match &mut self.side {
            Side::Cpu(_) => cpu::accumulate(&mut self.states, gradients),
            Side::Gpu(gpu) => gpu.accumulate(&mut self.states, gradients),
        }
    }

    /// Updates every parameter from the gathered gradients and forgets them.
    ///
    /// # Errors
    /// On the CPU `Cause::NonFinite` where the norm of the gradients is needed and not finite. A GPU leaves the parameters as
    /// they are then, and [`Updater::check`] tells.
    pub fn step(&mut self, lr: f64, momentum: Option<f64>, clip_grad_norm: Option<f64>) -> Result<()> {
        let shared = Shared { count: self.count + 1, lr, momentum, clip_grad_norm };
        match &mut self.side {
            Side::Cpu(cpu) => cpu.step(&self.rule, &mut self.states, &shared)?,
            Side::Gpu(gpu) => gpu.step(self.rule.as_dyn(), &mut self.states, &shared)?,
        }
        self.count += 1;
        Ok(())
    }

    /// Moves every parameter up the gathered gradients, which it forgets, to where the loss is highest within the
    /// distance; give the returned values back with [`Raised::restore`].
    pub fn climb(&mut self, sharpness: Sharpness) -> Result<Raised> {
        match &mut self.side {
            Side::Cpu(_) => cpu::climb(&mut self.states, sharpness).map(Raised::Cpu),
            Side::Gpu(gpu) => gpu.climb(&mut self.states, sharpness).map(Raised::Gpu),
        }
    }

    /// Steps made.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Every slot by name: `exp_avg:layer1.0.conv1.weight`, .., and the state of loss scaling.
    pub fn arrays(&self) -> Result<Vec<Array<'_>>> {
        let values = match &self.side {
            Side::Cpu(cpu) => {
                cpu.slots.iter().map(|slots| slots.iter().map(|slot| slot.as_slice().into()).collect()).collect()
            }
            Side::Gpu(gpu) => gpu.read(&self.states)?,
        };
        let mut arrays = Vec::new();
        for (state, values) in self.states.iter().zip::<Vec<Vec<Cow<[f32]>>>>(values) {
            for (kind, values) in state.kinds.iter().zip(values) {
                let size = [values.len()];
                let dims = if values.len() == state.weight.count() { state.dims() } else { &size };
                arrays.push(Array::new(slot_name(&kind.name, &state.weight), dims, values));
            }
        }
        if let Side::Gpu(gpu) = &self.side {
            arrays.extend(gpu.read_scale()?);
        }
        Ok(arrays)
    }

    /// Takes back what [`Updater::arrays`] gave.
    pub fn restore(&mut self, count: u64, stored: &Stored) -> Result<()> {
        let values: Result<Vec<_>> = self.states.iter().map(|state| state.stored(stored)).collect();
        match &mut self.side {
            Side::Cpu(cpu) => cpu.slots = values?,
            Side::Gpu(gpu) => gpu.restore(&self.states, values?, stored)?,
        }
        self.count = count;
        Ok(())
    }
}

impl State {
    /// The values of its slots in a checkpoint.
    fn stored(&self, stored: &Stored) -> Result<Vec<Vec<f32>>> {
        let slot = |kind: &Slot| {
            let values = stored.values(&slot_name(&kind.name, &self.weight))?;
            match values.len() == kind.size {
                true => Ok(values),
                false => Err(Error::user(format!("{} of {} has another size", kind.name, self.weight.name()))),
            }
        };
        self.kinds.iter().map(slot).collect()
    }
}

fn slot_name(slot: &str, weight: &Weight) -> String {
    format!("{slot}:{}", weight.name())
}

fn non_finite() -> Error {
    Error::new(Cause::NonFinite, "the gradient is no longer finite; try a smaller learning rate")
}

/// The parameters' values before [`Updater::climb`].
#[must_use]
pub enum Raised {
    #[doc(hidden)]
    Cpu(cpu::Before),
    #[doc(hidden)]
    Gpu(gpu::Before),
}

impl Raised {
    pub fn restore(self) -> Result<()> {
        match self {
            Self::Cpu(before) => before.restore(),
            Self::Gpu(before) => before.restore(),
        }
    }
}
