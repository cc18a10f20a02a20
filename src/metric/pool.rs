//! Several models' scores, or one model's of several views, as one; and weights that make the best of them.

use super::Scores;

/// What is averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Class probabilities.
    #[default]
    Probabilities,
    /// Logits, by way of log-probabilities: softmax does not see the constant between the two.
    Logits,
}

/// The largest distance to the least loss at which weights count as found, in nats.
const ENOUGH: f64 = 1e-8;
const MOST_STEPS: usize = 5_000;

/// The logarithm of a probability, finite where it has become 0 in 32 bits.
pub(super) fn log(probability: f32) -> f64 {
    f64::from(probability.max(f32::MIN_POSITIVE)).ln()
}

/// `exp(logits)` divided by its sum, in place.
pub(super) fn softmax(logits: &mut [f64]) {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter_mut().for_each(|value| *value = (*value - top).exp());
    let sum: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|value| *value /= sum);
}

impl Pooling {
    /// One image's class probabilities from several rows of them; `weights` sum to one.
    pub fn mean(self, rows: &[&[f32]], weights: &[f64]) -> Vec<f32> {
        // One row stays what it is, to the bit.
        if let [row] = rows {
            return row.to_vec();
        }
        let value = |score: f32| match self {
            Self::Probabilities => f64::from(score),
            Self::Logits => log(score),
        };
        let classes = rows.first().map_or(0, |row| row.len());
        let sum = |class: usize| rows.iter().zip(weights).map(|(row, weight)| weight * value(row[class])).sum();
        let mut mean: Vec<f64> = (0..classes).map(sum).collect();
        if self == Self::Logits {
            softmax(&mut mean);
        }
        mean.into_iter().map(|value| value as f32).collect()
    }

    /// The mean log loss of pooled scores, and its slope in each model's weight.
    fn loss(self, models: &[Scores], weights: &[f64]) -> (f64, Vec<f64>) {
        let (mut loss, mut slopes) = (0.0, vec![0.0; models.len()]);
        let mut rows: Vec<_> = models.iter().map(Scores::rows).collect();
        let samples = models.first().map_or(0, |model| model.targets.len());
        for _ in 0..samples {
            let row: Vec<(&[f32], usize)> = rows.iter_mut().filter_map(Iterator::next).collect();
            match self {
                Self::Probabilities => mixed(&row, weights, &mut loss, &mut slopes),
                Self::Logits => log_linear(&row, weights, &mut loss, &mut slopes),
            }
        }
        let count = samples.max(1) as f64;
        (loss / count, slopes.into_iter().map(|slope| slope / count).collect())
    }

    /// The weights, none negative and summing to one, that minimize the log loss of the pooled scores: one model's
    /// scores each, of the same images.
    ///
    /// Exponentiated gradient descent (Kivinen & Warmuth 1997). The loss is convex in the weights, so the distance to
    /// its least value is known at every step, and the same scores always give the same weights.
    pub fn fit(self, models: &[Scores]) -> Vec<f64> {
        let mut weights = vec![1.0 / models.len().max(1) as f64; models.len()];
        let (mut loss, mut slopes) = self.loss(models, &weights);
        let mut rate = 1.0;
        for _ in 0..MOST_STEPS {
            let least = slopes.iter().copied().fold(f64::INFINITY, f64::min);
            let mean: f64 = weights.iter().zip(&slopes).map(|(weight, slope)| weight * slope).sum();
            if mean - least <= ENOUGH || rate < 1e-12 {
                break;
            }
            let moved = weights.iter().zip(&slopes).map(|(weight, slope)| weight * (-rate * (slope - least)).exp());
            let mut next: Vec<f64> = moved.collect();
            let sum: f64 = next.iter().sum();
            next.iter_mut().for_each(|weight| *weight /= sum);
            let (value, slope) = self.loss(models, &next);
            if value < loss {
                (weights, loss, slopes) = (next, value, slope);
                rate *= 1.5;
            } else {
                rate *= 0.5;
            }
        }
        weights
    }
}

fn mixed(row: &[(&[f32], usize)], weights: &[f64], loss: &mut f64, slopes: &mut [f64]) {
    let right = |(scores, target): &(&[f32], usize)| f64::from(scores[*target].max(f32::MIN_POSITIVE));
    let mean: f64 = row.iter().zip(weights).map(|(row, weight)| weight * right(row)).sum();
    *loss -= mean.ln();
    slopes.iter_mut().zip(row).for_each(|(slope, row)| *slope -= right(row) / mean);
}

fn log_linear(row: &[(&[f32], usize)], weights: &[f64], loss: &mut f64, slopes: &mut [f64]) {
    let Some((first, target)) = row.first() else { return };
    let logit = |class: usize| row.iter().zip(weights).map(|((scores, _), weight)| weight * log(scores[class])).sum();
    let mut pooled: Vec<f64> = (0..first.len()).map(logit).collect();
    softmax(&mut pooled);
    *loss -= pooled[*target].max(f64::MIN_POSITIVE).ln();
    for (slope, (scores, _)) in slopes.iter_mut().zip(row) {
        let expected: f64 = pooled.iter().zip(*scores).map(|(share, score)| share * log(*score)).sum();
        *slope += expected - log(scores[*target]);
    }
}
