//! Losses: what training minimizes.

mod class_weights;
pub mod terms;

pub use class_weights::ClassWeights;

use crate::{
    error::Result,
    tensor::{Tensor, ops},
};

/// What a batch should have been.
pub struct Targets<'a> {
    /// `(N, C)` f32 probabilities: one-hot, or mixed by an augmentation.
    pub probabilities: &'a Tensor,
    /// The class of each sample, where no augmentation mixed the batch.
    pub classes: Option<&'a [u32]>,
}

/// A loss over a batch of logits.
pub trait Loss: Send + Sync {
    /// The mean loss, a scalar on the tape. `logits (N, C)`.
    fn loss(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor>;

    /// Makes weights that follow from the training images, of which each class has so many.
    fn settle(&mut self, _counts: &[usize]) {}

    /// What is wrong with these parameters for this number of classes.
    fn check(&self, _classes: usize) -> std::result::Result<(), String> {
        Ok(())
    }
}

crate::components! {
    /// The `loss` of an experiment.
    pub enum LossSpec: Loss {
        cross_entropy::CrossEntropy,
        focal::Focal,
        bce::Bce,
        asymmetric::Asymmetric,
    }
}

/// Targets mixed with the uniform distribution: `(1 - smoothing) t + smoothing / C`.
fn smoothed(targets: &Tensor, smoothing: f64) -> Result<Tensor> {
    match smoothing > 0.0 {
        true => ops::affine(&targets.detach(), 1.0 - smoothing, smoothing / targets.dim(1)? as f64),
        false => Ok(targets.detach()),
    }
}

/// One value a class as a `(C)` tensor beside `logits`.
fn per_class(values: &[f64], logits: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    Ok(Tensor::new(values, logits.device())?)
}

/// A list with one value a class must have as many as there are classes.
fn check_length(name: &str, weights: &Option<ClassWeights>, classes: usize) -> std::result::Result<(), String> {
    match class_weights::values(weights) {
        Some(values) if values.len() != classes => {
            Err(format!("{name} has {} values, the data set has {classes} classes", values.len()))
        }
        _ => Ok(()),
    }
}

/// Each row's log probabilities, of Candle's operations whose gradients are right.
fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
    Ok(shifted.broadcast_sub(&log_sum)?)
}
