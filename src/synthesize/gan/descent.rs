//! One of the two players' optimizer.

use crate::{
    error::Result,
    optim::{Optimizer, Slot, Step, adam::Adam},
    tensor::{
        Tensor, Weight,
        ops::Gradients,
        safetensors::{Array, Stored},
    },
};

/// Adam around a player's parameters.
pub struct Descent {
    rule: Adam,
    states: Vec<(Weight, Vec<Vec<f32>>)>,
}

impl Descent {
    /// Around the trainable parameters whose names begin with `player`.
    pub fn new<'a>(rule: Adam, weights: impl Iterator<Item = &'a Weight>, player: &str) -> Self {
        let own = weights.filter(|weight| weight.trainable() && weight.name().starts_with(player));
        let slots = |weight: &Weight| rule.slots(weight.var().dims()).iter().map(Slot::fresh).collect();
        Self { states: own.map(|weight| (weight.clone(), slots(weight))).collect(), rule }
    }

    /// Makes step number `count`, from 1. Returns the gradient's norm over all parameters.
    pub fn step(&mut self, count: u64, gradients: &Gradients) -> Result<f64> {
        let mut squares = 0.0;
        for (weight, slots) in &mut self.states {
            let Some(gradient) = gradients.get(weight.var()) else { continue };
            let gradient: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
            squares += gradient.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
            let mut values: Vec<f32> = weight.var().as_detached_tensor().flatten_all()?.to_vec1()?;
            let step = Step {
                count,
                lr: self.rule.lr,
                weight_decay: 0.0,
                momentum: None,
                shape: weight.var().dims(),
                gradient_norm: 1.0,
            };
            self.rule.update(&step, &mut values, &gradient, slots);
            weight.var().set(&Tensor::from_vec(values, weight.var().shape(), weight.var().device())?)?;
        }
        Ok(squares.sqrt())
    }

    /// Every slot by name: `exp_avg:generator.project.weight`, ..
    pub fn arrays(&self) -> Vec<Array<'_>> {
        let arrays = |(weight, slots): &(Weight, Vec<Vec<f32>>)| {
            let named = self.rule.slots(weight.var().dims()).into_iter().zip(slots.clone());
            let array = |(slot, values): (Slot, Vec<f32>)| {
                Array::new(format!("{}:{}", slot.name, weight.name()), weight.var().dims(), values)
            };
            named.map(array).collect::<Vec<_>>()
        };
        self.states.iter().flat_map(arrays).collect()
    }

    /// Takes back what [`Descent::arrays`] gave.
    pub fn restore(&mut self, stored: &Stored) -> Result<()> {
        for (weight, slots) in &mut self.states {
            for (slot, values) in self.rule.slots(weight.var().dims()).iter().zip(slots) {
                *values = stored.values(&format!("{}:{}", slot.name, weight.name()))?;
            }
        }
        Ok(())
    }
}
