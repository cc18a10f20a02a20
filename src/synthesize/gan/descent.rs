//! One of the two players' optimizer.

use crate::{
    error::Result,
    optim::{CONTROL, Optimizer, Slot, Step, Tensors, adam::Adam, read_slots, slot_rooms},
    tensor::{
        Tensor, Weight,
        gpu::{Column, Many, Queue, Rooms},
        ops::Gradients,
        safetensors::{Array, Stored},
    },
};

/// Adam around a player's parameters.
pub struct Descent {
    rule: Adam,
    weights: Vec<Weight>,
    side: Side,
}

/// Where the slots are: of each parameter, by its kinds.
enum Side {
    Cpu(Vec<Vec<Vec<f32>>>),
    Gpu(Box<Gpu>),
}

/// All parameters in one launch.
struct Gpu {
    many: Many,
    parameters: Column,
    gradients: Column,
    slots: Rooms,
    control: Tensor,
}

impl Descent {
    /// Around the trainable parameters whose names begin with `player`, of which there is one at least.
    pub fn new<'a>(rule: Adam, weights: impl Iterator<Item = &'a Weight>, player: &str) -> Result<Self> {
        let own = weights.filter(|weight| weight.trainable() && weight.name().starts_with(player));
        let weights: Vec<Weight> = own.cloned().collect();
        let slots = |weight: &Weight| rule.slots(weight.var().dims()).iter().map(Slot::fresh).collect();
        let slots = weights.iter().map(slots).collect();
        let side = match Queue::of(weights[0].var())? {
            None => Side::Cpu(slots),
            Some(queue) => Side::Gpu(Box::new(Gpu::new(&queue, &weights, slots)?)),
        };
        Ok(Self { rule, weights, side })
    }

    /// Makes step number `count`, from 1.
    pub fn step(&mut self, count: u64, gradients: &Gradients) -> Result<()> {
        match &mut self.side {
            Side::Gpu(gpu) => gpu.step(&self.rule, &self.weights, count, gradients),
            Side::Cpu(slots) => {
                let mut each = self.weights.iter().zip(slots);
                each.try_for_each(|(weight, slots)| step_here(&self.rule, weight, slots, count, gradients))
            }
        }
    }

    /// Every slot by name: `exp_avg:generator.project.weight`, ..
    pub fn arrays(&self) -> Result<Vec<Array<'_>>> {
        let slots = match &self.side {
            Side::Cpu(slots) => slots.clone(),
            Side::Gpu(gpu) => read_slots(&gpu.slots, &self.kinds().map(|kinds| kinds.len()).collect::<Vec<_>>())?,
        };
        let of = |((weight, kinds), slots): ((&Weight, Vec<Slot>), Vec<Vec<f32>>)| {
            let array = |(slot, values): (Slot, _)| Array::new(named(&slot, weight), weight.var().dims(), values);
            kinds.into_iter().zip(slots).map(array).collect::<Vec<_>>()
        };
        Ok(self.weights.iter().zip(self.kinds()).zip(slots).flat_map(of).collect())
    }

    /// Takes back what [`Descent::arrays`] gave.
    pub fn restore(&mut self, stored: &Stored) -> Result<()> {
        let of = |(weight, kinds): (&Weight, Vec<Slot>)| -> Result<Vec<Vec<f32>>> {
            kinds.iter().map(|slot| stored.values(&named(slot, weight))).collect()
        };
        let slots = self.weights.iter().zip(self.kinds()).map(of).collect::<Result<Vec<_>>>()?;
        match &mut self.side {
            Side::Cpu(own) => *own = slots,
            Side::Gpu(gpu) => gpu.slots = slot_rooms(&gpu.many, gpu.control.device(), slots)?,
        }
        Ok(())
    }

    fn kinds(&self) -> impl Iterator<Item = Vec<Slot>> {
        self.weights.iter().map(|weight| self.rule.slots(weight.var().dims()))
    }
}

fn named(slot: &Slot, weight: &Weight) -> String {
    format!("{}:{}", slot.name, weight.name())
}

fn numbers<'a>(rule: &Adam, weight: &'a Weight, count: u64) -> Step<'a> {
    let shape = weight.var().dims();
    Step { count, lr: rule.lr, weight_decay: 0.0, momentum: None, shape, gradient_norm: 1.0 }
}

fn step_here(rule: &Adam, weight: &Weight, slots: &mut [Vec<f32>], count: u64, gradients: &Gradients) -> Result<()> {
    let Some(gradient) = gradients.get(weight.var()) else { return Ok(()) };
    let gradient: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
    let mut values: Vec<f32> = weight.var().as_detached_tensor().flatten_all()?.to_vec1()?;
    rule.update(&numbers(rule, weight, count), &mut values, &gradient, slots);
    Ok(weight.var().set(&Tensor::from_vec(values, weight.var().shape(), weight.var().device())?)?)
}

impl Gpu {
    fn new(queue: &Queue, weights: &[Weight], slots: Vec<Vec<Vec<f32>>>) -> Result<Self> {
        let many = Many::new(queue, &weights.iter().map(Weight::count).collect::<Vec<_>>())?;
        let addresses = weights.iter().map(|weight| queue.view(weight.var()).map(|view| view.address));
        let parameters = many.column(addresses.collect::<candle_core::Result<_>>()?)?;
        let (gradients, device) = (many.column(vec![0; many.len()])?, weights[0].var().device());
        let slots = slot_rooms(&many, device, slots)?;
        Ok(Self { parameters, gradients, slots, control: Tensor::new(&CONTROL, device)?, many })
    }

    fn step(&mut self, rule: &Adam, weights: &[Weight], count: u64, gradients: &Gradients) -> Result<()> {
        let queue = self.many.queue().clone();
        let gradients = weights.iter().map(|weight| gradients.get(weight.var()).map(Tensor::contiguous).transpose());
        let gradients = gradients.collect::<candle_core::Result<Vec<_>>>()?;
        let address = |gradient: &Option<Tensor>| -> candle_core::Result<u64> {
            gradient.as_ref().map_or(Ok(0), |gradient| Ok(queue.view(gradient)?.address))
        };
        self.gradients.set(&queue, gradients.iter().map(address).collect::<candle_core::Result<_>>()?)?;
        let Self { many, parameters, gradients, slots, control } = self;
        let tensors = Tensors {
            part: many.all(),
            many,
            parameters,
            gradients,
            slots: slots.column.address(),
            kinds: rule.slots(&[]).len(),
            control: queue.view(control)?.into(),
        };
        Ok(rule.gpu(&numbers(rule, &weights[0], count), &tensors)?)
    }
}
