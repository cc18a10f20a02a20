//! Losses on logits, one value a sample.

use super::{
    function::exp,
    memory::{Fresh, Slot, Values},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Grid, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply1},
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// Cross entropy against probabilities: `-sum_c weight_c target_c log softmax(logits)_c` for each sample.
/// `logits` and `targets` `(N, C)`, `weights (C)`; returns `(N)`, f32 whatever the type of the logits. No gradient flows into targets or weights.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
    let (_, classes) = logits.dims2()?;
    let weighted = weights.is_none_or(|weights| weights.dims() == [classes]);
    if targets.dims() != logits.dims() || !weighted || classes == 0 {
        return Err(Error::bug(format!(
            "soft_cross_entropy: logits {:?}, targets {:?}, weights {:?}",
            logits.dims(),
            targets.dims(),
            weights.map(Tensor::dims)
        )));
    }
    let targets = exact(targets)?;
    let targets = match weights {
        Some(weights) => targets.broadcast_mul(&exact(weights)?)?,
        None => targets,
    };
    Ok(apply1(SoftCrossEntropy { targets, classes }, logits)?)
}

/// Binary cross entropy of each logit against its target, stable for large logits: `max(x,0) - x t + log(1 + e^-|x|)`.
/// Any shape; returns the same shape in f32. No gradient flows into targets.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if targets.dims() != logits.dims() {
        return Err(Error::bug(format!("bce_with_logits: logits {:?}, targets {:?}", logits.dims(), targets.dims())));
    }
    Ok(apply1(BceWithLogits { targets: exact(targets)? }, logits)?)
}

/// Off the tape, in f32 whatever the type of the logits.
fn exact(tensor: &Tensor) -> Candle<Tensor> {
    tensor.detach().to_dtype(DType::F32)?.contiguous()
}

struct SoftCrossEntropy {
    /// Times the class weights.
    targets: Tensor,
    classes: usize,
}

impl Op<1> for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft-cross-entropy"
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let (x, targets) = (x.values, Values::of(&self.targets)?);
        let samples = x.par_chunks(self.classes).zip(targets.par_chunks(self.classes));
        let losses: Vec<f32> = samples.map(|(x, targets)| cross_entropy(x, targets)).collect();
        let count = losses.len();
        Ok((losses, count.into()))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let targets = Values::of(&self.targets)?;
        let mut dx = Fresh::new(x.count());
        let inputs = x.values.par_chunks(self.classes).zip(targets.par_chunks(self.classes)).zip(dy.values);
        dx.slots().par_chunks_mut(self.classes).zip(inputs).for_each(|(dx, ((x, targets), &d))| {
            cross_entropy_gradient(dx, x, targets, d);
        });
        // SAFETY: the samples cover all of `dx`.
        Ok([Gradient::New(unsafe { dx.done() })])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let rows = x.count() / self.classes;
        let losses = queue.array(rows, DType::F32)?;
        let arguments = args![x, queue.view(&self.targets)?, &losses, rows, self.classes];
        queue.launch("soft_cross_entropy", x.dtype, Grid::warps(rows), arguments)?;
        Ok(losses)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let rows = x.count() / self.classes;
        let dx = queue.like(x)?;
        let arguments = args![x, queue.view(&self.targets)?, dy, &dx, rows, self.classes];
        queue.launch("soft_cross_entropy_gradient", x.dtype, Grid::warps(rows), arguments)?;
        Ok([Gradient::New(dx)])
    }
}

/// The largest logit, and the sum of e^(logit - largest).
fn softmax_sum(x: &[f32]) -> (f32, f64) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut lanes = [0.0; 64];
    add_exponentials(&mut lanes, x, largest);
    (largest, lanes.iter().map(|&sum| f64::from(sum)).sum())
}

fn cross_entropy(x: &[f32], targets: &[f32]) -> f32 {
    let (largest, sum) = softmax_sum(x);
    let log_sum = sum.ln();
    let terms = x.iter().zip(targets).map(|(&x, &target)| match target {
        // A class without weight does not count, however unlikely it is.
        0.0 => 0.0,
        _ => f64::from(target) * (log_sum - f64::from(x - largest)),
    });
    terms.sum::<f64>() as f32
}

fn cross_entropy_gradient(dx: &mut [Slot], x: &[f32], targets: &[f32], d: f32) {
    let (largest, sum) = softmax_sum(x);
    let total: f64 = targets.iter().map(|&target| f64::from(target)).sum();
    softmax_minus(dx, x, targets, [d, largest, (total / sum) as f32]);
}

vectorized! {
    fn add_exponentials(lanes: &mut [f32; 64], x: &[f32], largest: f32) {
        for x in x.chunks(lanes.len()) {
            lanes.iter_mut().zip(x).for_each(|(sum, &x)| *sum += exp(x - largest));
        }
    }

    fn softmax_minus(dx: &mut [Slot], x: &[f32], targets: &[f32], scales: [f32; 3]) {
        let [d, largest, share] = scales;
        for ((dx, &x), &target) in dx.iter_mut().zip(x).zip(targets) {
            dx.write(d * (exp(x - largest) * share - target));
        }
    }
}

struct BceWithLogits {
    targets: Tensor,
}

impl Op<1> for BceWithLogits {
    fn name(&self) -> &'static str {
        "bce-with-logits"
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let shape = x.shape;
        let (x, targets) = (x.values, Values::of(&self.targets)?);
        let pairs = x.iter().zip(targets.iter());
        let losses = pairs.map(|(&x, &target)| relu(x) - x * target + (-x.abs()).exp().ln_1p()).collect();
        Ok((losses, shape.clone()))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let targets = Values::of(&self.targets)?;
        let triples = x.values.iter().zip(targets.iter()).zip(dy.values);
        let dx = triples.map(|((&x, &target), &d)| d * (super::function::sigmoid(x) - target)).collect();
        Ok([Gradient::New(dx)])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let losses = queue.array(x.shape.clone(), DType::F32)?;
        let arguments = args![x, queue.view(&self.targets)?, &losses, x.count()];
        queue.launch("bce_with_logits", x.dtype, Grid::over(x.count()), arguments)?;
        Ok(losses)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let dx = queue.like(x)?;
        let arguments = args![x, queue.view(&self.targets)?, dy, &dx, x.count()];
        queue.launch("bce_with_logits_gradient", x.dtype, Grid::over(x.count()), arguments)?;
        Ok([Gradient::New(dx)])
    }
}

fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}
