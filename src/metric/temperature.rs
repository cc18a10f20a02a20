//! Temperature scaling: one number that makes probabilities mean what they say. Guo et al. 2017, arXiv:1706.04599.

use super::{
    Scores,
    pool::{log, softmax},
};

/// Temperatures that can come out. A model that is never wrong on the validation images would ask for 0.
const RANGE: [f64; 2] = [0.01, 100.0];

/// `softmax(logits / temperature)` of a row of probabilities.
pub fn scale(row: &[f32], temperature: f64) -> Vec<f32> {
    let mut scaled: Vec<f64> = row.iter().map(|score| log(*score) / temperature).collect();
    softmax(&mut scaled);
    scaled.into_iter().map(|value| value as f32).collect()
}

/// The mean log loss in nats at a temperature; `None` of nothing.
pub fn log_loss(scores: &Scores, temperature: f64) -> Option<f64> {
    (!scores.targets.is_empty()).then(|| slopes(scores, 1.0 / temperature)[0])
}

/// The temperature of least log loss; `None` of nothing.
///
/// The loss is convex in `1 / temperature`: Newton's method, kept inside a shrinking bracket.
pub fn fit(scores: &Scores) -> Option<f64> {
    if scores.targets.is_empty() {
        return None;
    }
    let [mut low, mut high] = [1.0 / RANGE[1], 1.0 / RANGE[0]];
    let mut at: f64 = 1.0;
    for _ in 0..100 {
        let [_, slope, bend] = slopes(scores, at);
        if slope > 0.0 {
            high = at
        } else {
            low = at
        }
        let newton = at - slope / bend;
        let next = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
        let moved = (next - at).abs();
        at = next;
        if moved <= 1e-12 * at {
            break;
        }
    }
    Some((1.0 / at).clamp(RANGE[0], RANGE[1]))
}

/// The mean log loss at `1 / temperature`, and its first and second derivative there.
fn slopes(scores: &Scores, inverse: f64) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for (row, target) in scores.rows() {
        let logits: Vec<f64> = row.iter().map(|score| log(*score)).collect();
        let mut shares: Vec<f64> = logits.iter().map(|logit| logit * inverse).collect();
        softmax(&mut shares);
        let moment = |power: i32| -> f64 { shares.iter().zip(&logits).map(|(p, z)| p * z.powi(power)).sum() };
        let mean = moment(1);
        sums[0] -= shares[target].max(f64::MIN_POSITIVE).ln();
        sums[1] += mean - logits[target];
        sums[2] += moment(2) - mean * mean;
    }
    sums.map(|sum| sum / scores.targets.len() as f64)
}
