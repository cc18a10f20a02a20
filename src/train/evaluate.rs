//! Scores of a model on a split.

use super::{ahead::ahead, images::Images, tally::read};
use crate::{
    backbone::Model,
    data::{Split, one_hot},
    error::Result,
    event::{Prediction, Values},
    loss::{Loss, Targets},
    metric::{self, Scores},
    tensor::{Pass, Tensor, gpu},
};

/// What a model makes of a split.
pub struct Evaluation {
    /// `loss` and every defined metric.
    pub values: Values,
    pub rows: Vec<Prediction>,
}

/// Evaluates in batches, off the tape. With the split come all of its images on the device, where they lie there; nothing
/// waits for the device before the end.
pub fn evaluate(
    model: &Model,
    loss: &dyn Loss,
    (split, there): (&Split, Option<&Tensor>),
    images: &Images,
    batch: usize,
) -> Result<Evaluation> {
    let (count, batch) = (split.items.len(), batch.max(1));
    let samples = |place: usize| place * batch..((place + 1) * batch).min(count);
    let (mut losses, mut probabilities) = (Vec::new(), Probabilities::default());
    ahead(
        count.div_ceil(batch),
        |place| images.of_split(split, samples(place), there),
        |place, plain| {
            let logits = model.net.forward(&images.load(&plain)?, &Pass::eval())?;
            let targets: Vec<u32> = split.items[samples(place)].iter().map(|item| item.target).collect();
            losses.push(batch_loss(loss, &logits, &targets)?);
            probabilities.push(logits)
        },
    )?;
    let weighted = read(losses.iter())?.into_iter().enumerate().map(|(place, loss)| loss * samples(place).len() as f64);
    let total: f64 = weighted.sum();
    let rows: Vec<Prediction> = split
        .items
        .iter()
        .zip(probabilities.read()?)
        .map(|(item, scores)| Prediction { image: item.name.clone(), target: item.target, scores })
        .collect();
    let mut values = score(&rows, rows.first().map_or(0, |row| row.scores.len()));
    values.insert("loss".into(), total / count.max(1) as f64);
    Ok(Evaluation { values, rows })
}

/// A scalar on the device.
fn batch_loss(loss: &dyn Loss, logits: &Tensor, classes: &[u32]) -> Result<Tensor> {
    let shape = logits.dims2()?;
    let probabilities = gpu::upload(&one_hot(classes, shape.1), shape, logits.device())?;
    let targets = Targets { probabilities: &probabilities, classes: Some(classes) };
    loss.loss(logits, &targets)
}

/// Every defined metric of scored rows.
pub fn score(rows: &[Prediction], classes: usize) -> Values {
    let probabilities: Vec<f32> = rows.iter().flat_map(|row| row.scores.iter().copied()).collect();
    let targets: Vec<u32> = rows.iter().map(|row| row.target).collect();
    metric::evaluate(&Scores { probabilities: &probabilities, targets: &targets, classes })
}

/// The class probabilities of one batch after another. Logits stay on the device until all are there, or many: reading
/// each batch's would make the host wait for it.
#[derive(Default)]
pub struct Probabilities {
    logits: Vec<Tensor>,
    /// How many logits wait.
    waiting: usize,
    rows: Vec<Vec<f32>>,
}

impl Probabilities {
    /// Logits that may wait.
    const MOST: usize = 1 << 24;

    /// Takes a batch's logits, `(N, classes)` in f32.
    pub fn push(&mut self, logits: Tensor) -> Result<()> {
        self.waiting += logits.elem_count();
        self.logits.push(logits);
        if self.waiting < Self::MOST { Ok(()) } else { self.fetch() }
    }

    /// A row of probabilities for each image, in the order they came.
    pub fn read(mut self) -> Result<Vec<Vec<f32>>> {
        self.fetch()?;
        Ok(self.rows)
    }

    fn fetch(&mut self) -> Result<()> {
        let logits = std::mem::take(&mut self.logits);
        self.waiting = 0;
        if !logits.is_empty() {
            self.rows.extend(softmax(&Tensor::cat(&logits, 0)?)?);
        }
        Ok(())
    }
}

/// Each row's class probabilities: `(N, C)` logits to N vectors of C.
fn softmax(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    let mut rows = logits.to_vec2::<f32>()?;
    for row in &mut rows {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|value| *value = (*value - top).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
    }
    Ok(rows)
}
