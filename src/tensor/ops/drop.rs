//! Dropout and stochastic depth: masks come from the key and the turn alone and are drawn again in the backward pass.

use super::{
    elementwise::BLOCK,
    memory::{Fresh, Slot},
};
use crate::{
    error::{Error, Result},
    tensor::{
        Draw,
        gpu::{Arg, Array, Columns, Grid, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply1},
    },
};
use candle_core::{Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// Zeroes elements with probability `rate` and divides the others by `1 - rate`.
pub fn dropout(x: &Tensor, rate: f64, draw: impl Into<Draw>) -> Result<Tensor> {
    drop(x, rate, draw.into(), Whole::Element)
}

/// Stochastic depth: zeroes whole samples (axis 0) with probability `rate` and divides the others by `1 - rate`.
/// timm's `drop_path`; Huang et al. 2016, arXiv:1603.09382.
pub fn drop_path(x: &Tensor, rate: f64, draw: impl Into<Draw>) -> Result<Tensor> {
    drop(x, rate, draw.into(), Whole::Sample)
}

/// What is dropped at once.
#[derive(Clone, Copy)]
enum Whole {
    Element,
    Sample,
}

struct Drop {
    rate: f64,
    draw: Draw,
    whole: Whole,
}

fn drop(x: &Tensor, rate: f64, draw: Draw, whole: Whole) -> Result<Tensor> {
    match rate {
        0.0 => Ok(x.clone()),
        0.0..=1.0 => Ok(apply1(Drop { rate, draw, whole }, x)?),
        _ => Err(Error::bug(format!("a rate of dropping is within [0, 1], not {rate}"))),
    }
}

impl Op<1> for Drop {
    fn name(&self) -> &'static str {
        "drop"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let y = self.apply(x.values, x.shape.dims().first().copied().unwrap_or(1));
        Ok((y, x.shape.clone()))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let dx = self.apply(dy.values, x.shape.dims().first().copied().unwrap_or(1));
        Ok([Gradient::New(dx)])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        self.gpu_apply(queue, x)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        Ok([Gradient::New(self.gpu_apply(queue, dy)?)])
    }
}

impl Drop {
    /// What is kept grows by this.
    fn keep(&self) -> f32 {
        if self.rate < 1.0 { (1.0 / (1.0 - self.rate)) as f32 } else { 0.0 }
    }

    fn gpu_apply(&self, queue: &Queue, x: View) -> Candle<Array> {
        let y = queue.like(x)?;
        // What is recorded finds the turn on the device.
        let place = self.draw.turn.and_then(|turn| turn.place);
        let key = if place.is_some() { self.draw.key } else { self.draw.key() };
        let ([low, high], turn) = (key.words().map(|word| word as i32), Arg::Address(place.unwrap_or(0)));
        let (count, keep) = (x.count(), self.keep());
        match self.whole {
            Whole::Element => {
                let limit = (self.rate * 4_294_967_296.0) as usize;
                let arguments = args![x, &y, count, BLOCK, limit, keep, low, high, turn];
                queue.launch("dropout", x.dtype, Grid::blocks([count.div_ceil(BLOCK), 1], [256, 1]), arguments)?;
            }
            Whole::Sample => {
                let samples = x.dims().first().copied().unwrap_or(1);
                let size = count / samples.max(1);
                // Below it are just the 53 bits that make a smaller number than the rate.
                let limit = (self.rate * 9_007_199_254_740_992.0).ceil() as usize;
                let wide = size > 1 && Columns::of(x, &[]).wide;
                let arguments = args![x, &y, samples, size, limit, keep, low, high, turn, i32::from(wide)];
                queue.launch("drop_path", x.dtype, Grid::over(size.div_ceil(4)).for_each(samples), arguments)?;
            }
        }
        Ok(y)
    }

    fn apply(&self, x: &[f32], samples: usize) -> Vec<f32> {
        let keep = self.keep();
        let sample = (x.len() / samples.max(1)).max(1);
        let block = match self.whole {
            Whole::Element => BLOCK,
            Whole::Sample => sample,
        };
        let mut y = Fresh::new(x.len());
        let key = self.draw.key();
        y.slots().par_chunks_mut(block).zip(x.par_chunks(block)).enumerate().for_each(|(i, (y, x))| {
            let mut rng = key.with(i as u64).rng();
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
