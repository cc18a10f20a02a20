//! Whether probabilities mean what they say.

use super::{Scores, largest};

const BINS: usize = 15;

/// Samples whose largest probability falls into one bin.
#[derive(Clone, Copy, Default)]
struct Bin {
    confidence: f64,
    right: f64,
}

/// `sum_b |sum of right - sum of confidence| / N` over bins `(b / 15, (b + 1) / 15]`.
pub fn expected_calibration_error(scores: &Scores) -> Option<f64> {
    let mut bins = [Bin::default(); BINS];
    for (row, target) in scores.rows() {
        let class = largest(row);
        let confidence = f64::from(*row.get(class)?);
        let edge = |bin: usize| (bin + 1) as f64 / BINS as f64;
        let bin = (0..BINS).find(|bin| confidence <= edge(*bin)).unwrap_or(BINS - 1);
        bins[bin].confidence += confidence;
        bins[bin].right += if class == target { 1.0 } else { 0.0 };
    }
    let samples = scores.targets.len();
    let gaps: f64 = bins.iter().map(|bin| (bin.right - bin.confidence).abs()).sum();
    (samples > 0).then(|| gaps / samples as f64)
}
