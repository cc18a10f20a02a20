//! Metrics of the class with the largest probability.

use super::{Scores, largest, ranking};

/// How often each class (row) was taken for each class (column).
pub fn confusion_matrix(scores: &Scores) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; scores.classes]; scores.classes];
    for (row, target) in scores.rows() {
        if let Some(count) = counts.get_mut(target).and_then(|counts| counts.get_mut(largest(row))) {
            *count += 1;
        }
    }
    counts
}

/// One class's part of a confusion matrix.
struct Tally {
    right: u64,
    /// Samples of the class.
    actual: u64,
    /// Samples taken for the class.
    predicted: u64,
}

fn tallies(scores: &Scores) -> Vec<Tally> {
    let matrix = confusion_matrix(scores);
    let tally = |class: usize| Tally {
        right: matrix[class][class],
        actual: matrix[class].iter().sum(),
        predicted: matrix.iter().map(|row| row[class]).sum(),
    };
    (0..scores.classes).map(tally).collect()
}

/// What one class comes to against the rest; a number is missing where it is not defined.
pub struct OfClass {
    /// Samples of the class.
    pub samples: u64,
    /// The share of it among what was taken for it.
    pub precision: Option<f64>,
    /// The share of it that was recognized.
    pub recall: Option<f64>,
    pub f1: Option<f64>,
    pub auc: Option<f64>,
}

/// Each class's numbers, scikit-learn's `precision_recall_fscore_support` and `roc_auc_score` of it against the rest.
pub fn by_class(scores: &Scores) -> Vec<OfClass> {
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let numbers = |(class, tally): (usize, &Tally)| OfClass {
        samples: tally.actual,
        precision: share(tally.right, tally.predicted),
        recall: share(tally.right, tally.actual),
        f1: share(2 * tally.right, tally.actual + tally.predicted),
        auc: ranking::auc_of(scores, class),
    };
    tallies(scores).iter().enumerate().map(numbers).collect()
}

pub fn accuracy(scores: &Scores) -> Option<f64> {
    let right = scores.rows().filter(|(row, target)| largest(row) == *target).count();
    (!scores.targets.is_empty()).then(|| right as f64 / scores.targets.len() as f64)
}

/// Over the classes that occur.
pub fn balanced_accuracy(scores: &Scores) -> Option<f64> {
    let tallies = tallies(scores);
    mean(tallies.iter().filter(|tally| tally.actual > 0).map(|tally| tally.right as f64 / tally.actual as f64))
}

/// Over the classes that occur or were predicted.
pub fn f1(scores: &Scores) -> Option<f64> {
    let tallies = tallies(scores);
    let counted = if scores.classes == 2 { tallies.get(1..)? } else { &tallies };
    let defined = counted.iter().filter(|tally| tally.actual + tally.predicted > 0);
    mean(defined.map(|tally| 2.0 * tally.right as f64 / (tally.actual + tally.predicted) as f64))
}

/// Gorodkin's generalization to any number of classes.
pub fn matthews(scores: &Scores) -> Option<f64> {
    let tallies = tallies(scores);
    let sum = |value: &dyn Fn(&Tally) -> f64| tallies.iter().map(value).sum::<f64>();
    let total = sum(&|tally| tally.actual as f64);
    let covariance = sum(&|t| t.right as f64) * total - sum(&|t| t.actual as f64 * t.predicted as f64);
    let actual = total * total - sum(&|t| (t.actual as f64).powi(2));
    let predicted = total * total - sum(&|t| (t.predicted as f64).powi(2));
    let scale = actual.sqrt() * predicted.sqrt();
    (total > 0.0).then(|| if scale > 0.0 { covariance / scale } else { 0.0 })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
