//! Scores of a model on a split.

use super::batches::{Images, one_hot};
use crate::{
    backbone::Model,
    data::Split,
    error::Result,
    event::{Prediction, Values},
    loss::{Loss, Targets},
    metric::{self, Scores},
    tensor::{Pass, Tensor},
};

/// What a model makes of a split.
pub struct Evaluation {
    /// `loss` and every defined metric.
    pub values: Values,
    pub rows: Vec<Prediction>,
}

/// Evaluates in batches, off the tape.
pub fn evaluate(model: &Model, loss: &dyn Loss, split: &Split, images: &Images, batch: usize) -> Result<Evaluation> {
    let (mut total, mut rows) = (0.0, Vec::with_capacity(split.items.len()));
    let mut classes = 0;
    for begin in (0..split.items.len()).step_by(batch.max(1)) {
        let samples = begin..(begin + batch).min(split.items.len());
        let logits = model.net.forward(&images.plain(split, samples.clone())?, &Pass::eval())?;
        classes = logits.dim(1)?;
        let targets: Vec<u32> = split.items[samples.clone()].iter().map(|item| item.target).collect();
        total += batch_loss(loss, &logits, &targets)? * samples.len() as f64;
        for (item, scores) in split.items[samples].iter().zip(softmax(&logits)?) {
            rows.push(Prediction { image: item.name.clone(), target: item.target, scores });
        }
    }
    let mut values = score(&rows, classes);
    values.insert("loss".into(), total / split.items.len().max(1) as f64);
    Ok(Evaluation { values, rows })
}

fn batch_loss(loss: &dyn Loss, logits: &Tensor, classes: &[u32]) -> Result<f64> {
    let shape = logits.dims2()?;
    let probabilities = Tensor::from_vec(one_hot(classes, shape.1), shape, logits.device())?;
    let targets = Targets { probabilities: &probabilities, classes: Some(classes) };
    Ok(f64::from(loss.loss(logits, &targets)?.to_scalar::<f32>()?))
}

/// Every defined metric of scored rows.
pub fn score(rows: &[Prediction], classes: usize) -> Values {
    let probabilities: Vec<f32> = rows.iter().flat_map(|row| row.scores.iter().copied()).collect();
    let targets: Vec<u32> = rows.iter().map(|row| row.target).collect();
    metric::evaluate(&Scores { probabilities: &probabilities, targets: &targets, classes })
}

/// Each row's class probabilities: `(N, C)` logits to N vectors of C.
pub fn softmax(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    let mut rows = logits.to_vec2::<f32>()?;
    for row in &mut rows {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|value| *value = (*value - top).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
    }
    Ok(rows)
}
