//! Metrics of the order that a score puts samples in: everything that follows from the ROC curve.

use super::Scores;

/// The counts of positives and negatives at or above each distinct score, from the highest score down.
struct Curve {
    /// `[false positives, true positives]`, from `[0, 0]` to all of both.
    counts: Vec<[u64; 2]>,
    negatives: f64,
    positives: f64,
}

impl Curve {
    /// Of one class against the rest; `None` unless both occur, or where a score is not a number.
    fn new(scores: &Scores, class: usize) -> Option<Self> {
        let mut samples: Vec<(f32, bool)> =
            scores.rows().map(|(row, target)| Some((*row.get(class)?, target == class))).collect::<Option<_>>()?;
        if samples.iter().any(|(score, _)| score.is_nan()) {
            return None;
        }
        samples.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut counts = vec![[0, 0]];
        let mut count = [0, 0];
        // Equal scores pass a threshold together.
        for tied in samples.chunk_by(|a, b| a.0 == b.0) {
            tied.iter().for_each(|(_, positive)| count[usize::from(*positive)] += 1);
            counts.push(count);
        }
        let [negatives, positives] = count;
        (negatives > 0 && positives > 0).then_some(Self {
            counts,
            negatives: negatives as f64,
            positives: positives as f64,
        })
    }

    fn area(&self) -> f64 {
        let area = |w: &[[u64; 2]]| (w[1][0] - w[0][0]) as f64 * (w[1][1] + w[0][1]) as f64 / 2.0;
        self.counts.windows(2).map(area).sum::<f64>() / (self.negatives * self.positives)
    }

    /// `[false positive rate, true positive rate]` of every threshold.
    fn rates(&self) -> impl Iterator<Item = [f64; 2]> {
        self.counts.iter().map(|[fp, tp]| [*fp as f64 / self.negatives, *tp as f64 / self.positives])
    }
}

/// The points `[fpr, tpr]` of one class against the rest, from (0, 0) to (1, 1), as scikit-learn's `roc_curve`: points on
/// a straight line between others are left out. `None` unless the class and another occur.
pub fn roc_curve(scores: &Scores, class: usize) -> Option<Vec<[f64; 2]>> {
    let curve = Curve::new(scores, class)?;
    let steps: Vec<[u64; 2]> = curve.counts.windows(2).map(|w| [w[1][0] - w[0][0], w[1][1] - w[0][1]]).collect();
    // The highest score counts as a bend there, whatever follows.
    let bends = |i: usize| i <= 1 || i == steps.len() || steps[i - 1] != steps[i];
    Some(curve.rates().enumerate().filter(|(i, _)| bends(*i)).map(|(_, point)| point).collect())
}

/// Of class 1, or the mean of every class against the rest.
fn macro_mean(scores: &Scores, value: impl Fn(&Curve) -> f64) -> Option<f64> {
    match scores.classes {
        0 | 1 => None,
        2 => Some(value(&Curve::new(scores, 1)?)),
        classes => {
            let sum: Option<f64> = (0..classes).map(|class| Some(value(&Curve::new(scores, class)?))).sum();
            Some(sum? / classes as f64)
        }
    }
}

/// The area under the ROC curve, by trapezoids.
pub fn auc(scores: &Scores) -> Option<f64> {
    macro_mean(scores, Curve::area)
}

/// The same of one class against the rest.
pub fn auc_of(scores: &Scores, class: usize) -> Option<f64> {
    Some(Curve::new(scores, class)?.area())
}

/// `sum (recall_n - recall_n-1) precision_n`.
pub fn average_precision(scores: &Scores) -> Option<f64> {
    macro_mean(scores, |curve| {
        let part = |w: &[[u64; 2]]| (w[1][1] - w[0][1]) as f64 * w[1][1] as f64 / (w[1][0] + w[1][1]) as f64;
        curve.counts.windows(2).map(part).sum::<f64>() / curve.positives
    })
}

/// Where `fpr = 1 - tpr`.
pub fn equal_error_rate(scores: &Scores) -> Option<f64> {
    macro_mean(scores, |curve| {
        let mut before = [0.0, 0.0];
        for point in curve.rates() {
            let excess = |p: [f64; 2]| p[0] + p[1] - 1.0;
            if excess(point) >= 0.0 {
                let share = -excess(before) / (excess(point) - excess(before));
                return before[0] + share * (point[0] - before[0]);
            }
            before = point;
        }
        1.0
    })
}

/// The best threshold within this false positive rate.
pub fn tpr_at_fpr(scores: &Scores, limit: f64) -> Option<f64> {
    macro_mean(scores, |curve| {
        curve.rates().take_while(|[fpr, _]| *fpr <= limit).map(|[_, tpr]| tpr).last().unwrap_or(0.0)
    })
}
