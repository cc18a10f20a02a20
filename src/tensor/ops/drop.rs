//! Dropout and stochastic depth: masks come from the key alone and are drawn again in the backward pass.

use super::{
    elementwise::BLOCK,
    memory::{Fresh, Slot, Values},
};
use crate::tensor::ops::op::{Given, Op, apply1};
use crate::{
    error::{Error, Result},
    tensor::Key,
};
use candle_core::{Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// Zeroes elements with probability `rate` and divides the others by `1 - rate`.
pub fn dropout(x: &Tensor, rate: f64, key: Key) -> Result<Tensor> {
    drop(x, rate, key, Whole::Element)
}

/// Stochastic depth: zeroes whole samples (axis 0) with probability `rate` and divides the others by `1 - rate`.
/// timm's `drop_path`; Huang et al. 2016, arXiv:1603.09382.
pub fn drop_path(x: &Tensor, rate: f64, key: Key) -> Result<Tensor> {
    drop(x, rate, key, Whole::Sample)
}

/// What is dropped at once.
#[derive(Clone, Copy)]
enum Whole {
    Element,
    Sample,
}

struct Drop {
    rate: f64,
    key: Key,
    whole: Whole,
}

fn drop(x: &Tensor, rate: f64, key: Key, whole: Whole) -> Result<Tensor> {
    match rate {
        0.0 => Ok(x.clone()),
        0.0..=1.0 => Ok(apply1(Drop { rate, key, whole }, x)?),
        _ => Err(Error::bug(format!("a rate of dropping is within [0, 1], not {rate}"))),
    }
}

impl Op<1> for Drop {
    fn name(&self) -> &'static str {
        "drop"
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let y = self.apply(x.values, x.shape.dims().first().copied().unwrap_or(1));
        Ok((y, x.shape.clone()))
    }

    fn cpu_gradients(&self, [x]: [&Tensor; 1], _y: &Tensor, dy: &Tensor) -> Candle<[Option<Tensor>; 1]> {
        let dx = self.apply(&Values::of(dy)?, x.dims().first().copied().unwrap_or(1));
        Ok([Some(Tensor::from_vec(dx, x.shape(), x.device())?)])
    }
}

impl Drop {
    fn apply(&self, x: &[f32], samples: usize) -> Vec<f32> {
        let keep = if self.rate < 1.0 { (1.0 / (1.0 - self.rate)) as f32 } else { 0.0 };
        let sample = (x.len() / samples.max(1)).max(1);
        let block = match self.whole {
            Whole::Element => BLOCK,
            Whole::Sample => sample,
        };
        let mut y = Fresh::new(x.len());
        y.slots().par_chunks_mut(block).zip(x.par_chunks(block)).enumerate().for_each(|(i, (y, x))| {
            let mut rng = self.key.with(i as u64).rng();
            match self.whole {
                Whole::Element => {
                    // The integers below this are the share `rate` of all.
                    let limit = (self.rate * 4_294_967_296.0) as u64;
                    scale(y, x, || if u64::from(rng.next_u32()) < limit { 0.0 } else { keep });
                }
                Whole::Sample => {
                    let factor = if rng.chance(self.rate) { 0.0 } else { keep };
                    scale(y, x, || factor);
                }
            }
        });
        // SAFETY: the blocks cover all of `y`.
        unsafe { y.done() }
    }
}

fn scale(y: &mut [Slot], x: &[f32], mut factor: impl FnMut() -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        // A dropped infinity or NaN is dropped too.
        let factor = factor();
        y.write(if factor == 0.0 { 0.0 } else { x * factor });
    }
}
