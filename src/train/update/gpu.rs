//! The step on a GPU: all parameters in a few launches, and no wait for what they come to. Clipping, skipped steps and the
//! scale of losses are decided on the device.

use super::{Shared, State, non_finite};
use crate::{
    error::{Cause, Error, Result},
    optim::{CONTROL, Optimizer, Sharpness, Slot, Tensors, read_slots, slot_rooms},
    tensor::{
        DType, Device, Tensor, Weight,
        gpu::{self, Arg, Column, Grid, Many, Part, Queue, Rooms, args},
        ops::{self, Gradients},
        safetensors::{Array, Stored},
    },
};
use std::{borrow::Cow, sync::Arc};

/// Which of the numbers of [`CONTROL`].
const LOSS_SCALE: usize = 3;
const SKIPPED: usize = 5;
const NON_FINITE: usize = 6;

/// The name of those numbers in a checkpoint.
const SCALE_NAME: &str = "loss_scale:state";

/// `torch.amp.GradScaler`'s: where the scale starts, what it grows by after as many good steps, and shrinks by after a bad
/// one.
const FIRST_SCALE: f32 = 65536.0;
const GROWTH: f32 = 2.0;
const GROWTH_INTERVAL: f32 = 2000.0;
const BACKOFF: f32 = 0.5;

/// Below this scale gradients are not finite for another reason than the scale.
const SMALLEST_SCALE: f32 = 1.0 / 65536.0;

/// The state of loss scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// What losses are multiplied by.
    pub scale: f32,
    /// Steps skipped so far, because a gradient was not finite.
    pub skipped: u64,
}

/// Every parameter at once, by places on the device.
pub struct Gpu {
    parameters: Arc<Parameters>,
    /// Parameters that share the numbers of a step.
    parts: Vec<Part>,
    gradients: Column,
    /// Slot after slot of all parameters; empty where one has fewer than the others.
    slots: Rooms,
    control: Tensor,
    scales: bool,
    skipped: Skipped,
    sums: Option<Sums>,
    /// Room for the values before a climb.
    before: Option<Arc<Rooms>>,
}

/// How many steps were skipped before the one at hand, which the device decides and tells a step later: there is work
/// enough for it meanwhile.
#[derive(Default)]
struct Skipped {
    known: u64,
    told: Option<Box<dyn FnOnce() -> candle_core::Result<Vec<f32>> + Send + Sync>>,
}

/// The parameters and where they lie.
struct Parameters {
    weights: Vec<Weight>,
    many: Many,
    column: Column,
}

/// Gradients of more than one backward pass.
struct Sums {
    rooms: Rooms,
    /// What is added to, and what is added.
    olds: Column,
    news: Column,
}

impl Gpu {
    /// Brings the states into the order of the parts.
    pub fn new(queue: &Queue, rule: &dyn Optimizer, states: &mut Vec<State>) -> Result<Self> {
        let counts = bring_together(rule, states);
        let many = Many::new(queue, &states.iter().map(|state| state.weight.count()).collect::<Vec<_>>())?;
        let mut parts = Vec::with_capacity(counts.len());
        for count in counts {
            parts.push(many.part(parts.last().map_or(0, |last: &Part| last.first + last.count), count));
        }
        let addresses = states.iter().map(|state| address(queue, state.weight.var().as_tensor()));
        let column = many.column(addresses.collect::<Result<_>>()?)?;
        let weights = states.iter().map(|state| state.weight.clone()).collect();
        let values = states.iter().map(|state| state.kinds.iter().map(Slot::fresh).collect()).collect();
        Ok(Self {
            parts,
            gradients: many.column(vec![0; many.len()])?,
            slots: slot_rooms(&many, device(states), values)?,
            control: Tensor::new(&CONTROL, device(states))?,
            scales: false,
            skipped: Skipped::default(),
            sums: None,
            before: None,
            parameters: Arc::new(Parameters { weights, many, column }),
        })
    }

    fn many(&self) -> &Many {
        &self.parameters.many
    }

    fn queue(&self) -> &Queue {
        self.many().queue()
    }

    fn control(&self) -> Result<Arg> {
        Ok(self.queue().view(&self.control)?.into())
    }

    /// As [`super::Updater::scale_losses`].
    pub fn scale_losses(&mut self) -> Result<()> {
        let mut control = CONTROL;
        control[LOSS_SCALE] = FIRST_SCALE;
        self.control = Tensor::new(&control, self.control.device())?;
        (self.scales, self.skipped) = (true, Skipped::default());
        Ok(())
    }

    /// As [`super::Updater::scaled`].
    pub fn scaled(&self, loss: &Tensor) -> Result<Tensor> {
        if !self.scales {
            return Ok(loss.clone());
        }
        ops::scale(loss, &self.control.narrow(0, LOSS_SCALE, 1)?)
    }

    /// As [`super::Updater::check`].
    pub fn check(&self) -> Result<Option<LossScale>> {
        let control = self.control.to_vec1::<f32>()?;
        let scale = LossScale { scale: control[LOSS_SCALE], skipped: control[SKIPPED] as u64 };
        if control[NON_FINITE] != 0.0 {
            return Err(non_finite());
        }
        if self.scales && scale.scale < SMALLEST_SCALE {
            let message = format!(
                "the gradient is not finite at any scale of the loss ({} steps were skipped); try a smaller learning \
                 rate, or precision = \"bf16\"",
                scale.skipped
            );
            return Err(Error::new(Cause::NonFinite, message));
        }
        Ok(self.scales.then_some(scale))
    }

    /// As [`super::Updater::accumulate`].
    pub fn accumulate(&mut self, states: &mut [State], gradients: &Gradients) -> Result<()> {
        // The new ones that stand on top of others, which live until they are added.
        let mut added: Vec<(usize, Tensor)> = Vec::new();
        for (place, state) in states.iter_mut().enumerate() {
            let Some(new) = gradients.get(state.weight.var()) else { continue };
            let new = new.contiguous()?;
            match &state.gradient {
                None => state.gradient = Some(new),
                Some(_) => added.push((place, new)),
            }
        }
        if added.is_empty() { Ok(()) } else { self.add(states, &added) }
    }

    fn add(&mut self, states: &mut [State], added: &[(usize, Tensor)]) -> Result<()> {
        let many = &self.parameters.many;
        let mut news = vec![0; many.len()];
        for (place, new) in added {
            news[*place] = address(many.queue(), new)?;
        }
        let olds = addresses(many.queue(), states)?;
        let sums = match &mut self.sums {
            Some(sums) => sums,
            none => none.insert(Sums::new(many, states)?),
        };
        sums.olds.set(many.queue(), olds)?;
        sums.news.set(many.queue(), news)?;
        many.launch("add_many", many.all(), args![&sums.rooms.column, &sums.olds, &sums.news])?;
        for (place, _) in added {
            states[*place].gradient = Some(sums.rooms.tensor(*place, states[*place].dims())?);
        }
        Ok(())
    }

    /// As [`super::Updater::step`].
    pub fn step(&mut self, rule: &dyn Optimizer, states: &mut [State], shared: &Shared) -> Result<()> {
        self.gradients.set(self.parameters.many.queue(), addresses(self.queue(), states)?)?;
        if self.scales || shared.clip_grad_norm.is_some() || rule.needs_gradient_norm() {
            let sums = self.squares(false)?;
            let limit = shared.clip_grad_norm.unwrap_or(0.0) as f32;
            let growth = if self.scales { GROWTH } else { 0.0 };
            let blocks = self.many().all().blocks;
            let arguments = args![&sums, blocks, self.control()?, limit, growth, BACKOFF, GROWTH_INTERVAL];
            self.settle("settle_gradients", arguments)?;
        }
        let shared = &Shared { count: shared.count.saturating_sub(self.skipped()?), ..*shared };
        for &part in &self.parts {
            let first = &states[part.first];
            let tensors = Tensors {
                many: self.many(),
                part,
                parameters: &self.parameters.column,
                gradients: &self.gradients,
                slots: self.slots.column.address(),
                kinds: first.kinds.len(),
                control: self.control()?,
            };
            rule.gpu(&first.step(rule, shared, 1.0), &tensors)?;
        }
        states.iter_mut().for_each(|state| state.gradient = None);
        Ok(())
    }

    /// Steps skipped before this one: for a rule they do not count.
    fn skipped(&mut self) -> Result<u64> {
        if !self.scales {
            return Ok(0);
        }
        if let Some(told) = self.skipped.told.take() {
            self.skipped.known = told()?.first().map_or(0, |skipped| *skipped as u64);
        }
        let told = self.queue().download(&self.control.narrow(0, SKIPPED, 1)?)?;
        self.skipped.told = Some(Box::new(told));
        Ok(self.skipped.known)
    }

    /// The sum of squares of each chunk of the gradients.
    fn squares(&self, adaptive: bool) -> Result<gpu::Array> {
        let many = self.many();
        let sums = self.queue().array(many.all().blocks, DType::F32)?;
        let parameters = &self.parameters.column;
        let arguments = args![parameters, &self.gradients, self.control()?, &sums, i32::from(adaptive)];
        many.launch("gradient_squares", many.all(), arguments)?;
        Ok(sums)
    }

    /// Starts a kernel of one block that decides something.
    fn settle(&self, kernel: &'static str, arguments: &[Arg]) -> Result<()> {
        Ok(self.queue().launch(kernel, DType::F32, Grid::blocks([1, 1], [256, 1]), arguments)?)
    }

    /// As [`super::Updater::climb`].
    pub fn climb(&mut self, states: &mut [State], sharpness: Sharpness) -> Result<Before> {
        self.gradients.set(self.parameters.many.queue(), addresses(self.queue(), states)?)?;
        let sums = self.squares(sharpness.adaptive)?;
        let (many, parameters) = (self.many(), &self.parameters);
        let scales = i32::from(self.scales);
        let arguments = args![&sums, many.all().blocks, self.control()?, sharpness.rho as f32, scales];
        self.settle("settle_climb", arguments)?;
        let rooms = match &self.before {
            Some(rooms) => rooms.clone(),
            None => Arc::new(Rooms::uncleared(many, parameters.weights.iter().map(Weight::count))?),
        };
        let adaptive = i32::from(sharpness.adaptive);
        let arguments = args![&parameters.column, &self.gradients, &rooms.column, self.control()?, adaptive];
        many.launch("climb", many.all(), arguments)?;
        states.iter_mut().for_each(|state| state.gradient = None);
        self.before = Some(rooms.clone());
        Ok(Before { parameters: parameters.clone(), rooms })
    }

    /// The slots of each parameter, after the work asked for so far.
    pub fn read(&self, states: &[State]) -> Result<Vec<Vec<Cow<'static, [f32]>>>> {
        let counts: Vec<usize> = states.iter().map(|state| state.kinds.len()).collect();
        let slots = read_slots(&self.slots, &counts)?.into_iter();
        Ok(slots.map(|slots| slots.into_iter().map(Cow::from).collect()).collect())
    }

    /// The state of loss scaling, where there is any.
    pub fn read_scale(&self) -> Result<Option<Array<'static>>> {
        self.scales.then(|| Array::of_tensor(SCALE_NAME, &self.control)).transpose()
    }

    /// Takes the slots back, and the state of loss scaling where a checkpoint has it.
    pub fn restore(&mut self, states: &[State], values: Vec<Vec<Vec<f32>>>, stored: &Stored) -> Result<()> {
        self.slots = slot_rooms(self.many(), device(states), values)?;
        if self.scales && stored.shape(SCALE_NAME) == Some(&[CONTROL.len()]) {
            self.control = stored.tensor(SCALE_NAME)?.to_device(self.control.device())?;
            let known = stored.values(SCALE_NAME)?[SKIPPED] as u64;
            self.skipped = Skipped { known, told: None };
        }
        Ok(())
    }
}

impl Sums {
    fn new(many: &Many, states: &[State]) -> Result<Self> {
        let column = || many.column(vec![0; many.len()]);
        let rooms = Rooms::uncleared(many, states.iter().map(|state| state.weight.count()))?;
        Ok(Self { rooms, olds: column()?, news: column()? })
    }
}

/// The parameters' values before a climb.
pub struct Before {
    parameters: Arc<Parameters>,
    rooms: Arc<Rooms>,
}

impl Before {
    /// Gives the values back.
    pub fn restore(self) -> Result<()> {
        let Parameters { many, column, .. } = &*self.parameters;
        Ok(many.launch("copy_many", many.all(), args![column, &self.rooms.column])?)
    }
}

/// Orders parameters so that those follow each other that share the numbers of a step, and counts each such row.
fn bring_together(rule: &dyn Optimizer, states: &mut Vec<State>) -> Vec<usize> {
    let mut rows: Vec<Vec<State>> = Vec::new();
    for state in states.drain(..) {
        let alike =
            |row: &Vec<State>| row[0].group == state.group && rule.matrix(row[0].dims()) == rule.matrix(state.dims());
        match rows.iter().position(alike) {
            Some(row) => rows[row].push(state),
            None => rows.push(vec![state]),
        }
    }
    let counts = rows.iter().map(Vec::len).collect();
    states.extend(rows.into_iter().flatten());
    counts
}

fn device(states: &[State]) -> &Device {
    states.first().map_or(&Device::Cpu, |state| state.weight.var().device())
}

fn address(queue: &Queue, tensor: &Tensor) -> Result<u64> {
    match tensor.dtype() {
        DType::F32 => Ok(queue.view(tensor)?.address),
        other => Err(Error::bug(format!("parameters and their gradients are f32, got {other:?}"))),
    }
}

/// Where the gathered gradients lie; null where there is none.
fn addresses(queue: &Queue, states: &[State]) -> Result<Vec<u64>> {
    let gradient = |state: &State| state.gradient.as_ref().map_or(Ok(0), |gradient| address(queue, gradient));
    states.iter().map(gradient).collect()
}
