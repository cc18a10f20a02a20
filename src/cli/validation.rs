//! What runs left behind about their validation images: the ground to choose weights, temperatures and thresholds on.

use super::{
    inputs::{classes, with_scores},
    models::Classifier,
};
use crate::{
    error::{Error, Result},
    event::{Prediction, Split},
    exec,
    metric::{Pooling, Scores},
    store::Store,
};
use std::path::Path;

/// Each model's stored predictions, of the same images in the same order; `None` where that cannot be had.
pub fn stored(results: &Path, models: &[Classifier]) -> Result<Option<Vec<Vec<Prediction>>>> {
    let Some(runs) = models.iter().map(|model| model.run.as_ref()).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let store = Store::read(&exec::store_path(results))?;
    let all = runs.iter().map(|run| store.predictions(&run.id, Split::Val)).collect::<Result<Vec<_>>>()?;
    let image = |row: &Prediction| (row.image.clone(), row.target);
    let images: Vec<_> = all.first().into_iter().flatten().map(image).collect();
    let same = |rows: &Vec<Prediction>| rows.iter().map(image).eq(images.iter().cloned());
    Ok((!images.is_empty() && all.iter().all(same)).then_some(all))
}

/// The models' weights, summing to one, as `--ensemble-weights` asks.
pub fn weights(
    how: &str,
    average: Pooling,
    models: &[Classifier],
    stored: Option<&[Vec<Prediction>]>,
) -> Result<Vec<f64>> {
    let count = models.len();
    match how {
        "equal" => Ok(vec![1.0 / count.max(1) as f64; count]),
        "fit" => match stored {
            Some(stored) => Ok(fit(average, stored)),
            None => Err(Error::user(
                "--ensemble-weights fit needs stored validation predictions of the same images from every run; name \
                 runs of one data set with --run, or give numbers",
            )),
        },
        numbers => given(numbers, count),
    }
}

fn given(numbers: &str, count: usize) -> Result<Vec<f64>> {
    let weight = |text: &str| text.trim().parse::<f64>().ok().filter(|weight| weight.is_finite() && *weight >= 0.0);
    let weights: Option<Vec<f64>> = numbers.split(',').map(weight).collect();
    let sum = weights.iter().flatten().sum::<f64>();
    match weights {
        Some(weights) if weights.len() == count && sum > 0.0 => Ok(weights.iter().map(|weight| weight / sum).collect()),
        Some(weights) if weights.len() != count => Err(Error::user(format!(
            "--ensemble-weights has {} numbers for {count} runs, in the order that --run names them",
            weights.len()
        ))),
        _ => Err(Error::user(format!(
            "--ensemble-weights {numbers}: say equal, fit, or one number for each run, none below 0 and not all 0"
        ))),
    }
}

fn fit(average: Pooling, stored: &[Vec<Prediction>]) -> Vec<f64> {
    let flat = |rows: &Vec<Prediction>| rows.iter().flat_map(|row| row.scores.iter().copied()).collect();
    let probabilities: Vec<Vec<f32>> = stored.iter().map(flat).collect();
    let Some(first) = stored.first() else { return Vec::new() };
    with_scores(first, |scores| {
        let model = |probabilities| Scores { probabilities, targets: scores.targets, classes: classes(first) };
        average.fit(&probabilities.iter().map(|rows| model(rows)).collect::<Vec<_>>())
    })
}

/// The models' predictions as the ensemble's.
pub fn pool(stored: &[Vec<Prediction>], average: Pooling, weights: &[f64]) -> Vec<Prediction> {
    let Some(first) = stored.first() else { return Vec::new() };
    let pooled = |(place, row): (usize, &Prediction)| {
        let each: Vec<&[f32]> = stored.iter().map(|rows| rows[place].scores.as_slice()).collect();
        Prediction { scores: average.mean(&each, weights), ..row.clone() }
    };
    first.iter().enumerate().map(pooled).collect()
}
