//! Metrics of a classifier's scores, equal to scikit-learn's.
//!
//! Two classes: class 1 is the positive one, and its probability is the score. More: the mean over the classes, each
//! against the rest ("macro"). A metric that is undefined on a set of scores has no value, rather than a made-up one.

mod calibration;
mod decisions;
mod pool;
mod ranking;
pub mod temperature;
pub mod threshold;

pub use decisions::{OfClass, by_class, confusion_matrix};
pub use pool::Pooling;
pub use ranking::roc_curve;

use crate::event::Values;

/// The scores of one split.
pub struct Scores<'a> {
    /// `(samples, classes)` probabilities, row by row.
    pub probabilities: &'a [f32],
    pub targets: &'a [u32],
    pub classes: usize,
}

impl<'a> Scores<'a> {
    /// Each sample's probabilities and its class.
    fn rows(&self) -> impl Iterator<Item = (&'a [f32], usize)> + use<'a> {
        let rows = self.probabilities.chunks_exact(self.classes.max(1));
        rows.zip(self.targets.iter().map(|target| *target as usize))
    }
}

/// One metric of the registry.
pub struct Metric {
    /// The name in files, the store and reports: `auc`, `tpr_at_fpr_1e-3`, ..
    pub name: &'static str,
    /// What it measures, in one line, with its source.
    pub about: &'static str,
    pub larger_is_better: bool,
    /// `None` where the metric is undefined (AUC with one class present).
    pub value: fn(&Scores) -> Option<f64>,
}

/// Every metric, in the order reports list them.
pub static METRICS: &[Metric] = &[
    Metric {
        name: "accuracy",
        about: "Share of samples whose largest probability is their class's. scikit-learn's `accuracy_score`.",
        larger_is_better: true,
        value: decisions::accuracy,
    },
    Metric {
        name: "balanced_accuracy",
        about: "Mean over the classes of the share that is recognized. scikit-learn's `balanced_accuracy_score`.",
        larger_is_better: true,
        value: decisions::balanced_accuracy,
    },
    Metric {
        name: "auc",
        about: "Area under the ROC curve; more than two classes: mean of each against the rest. scikit-learn's `roc_auc_score`.",
        larger_is_better: true,
        value: ranking::auc,
    },
    Metric {
        name: "ap",
        about: "Average precision, the step-wise area under the precision-recall curve. scikit-learn's `average_precision_score`.",
        larger_is_better: true,
        value: ranking::average_precision,
    },
    Metric {
        name: "eer",
        about: "Equal error rate: where the ROC curve, its points joined by straight lines, has as many misses as false alarms.",
        larger_is_better: false,
        value: ranking::equal_error_rate,
    },
    Metric {
        name: "tpr_at_fpr_1e-2",
        about: "Largest true positive rate of any threshold whose false positive rate is at most 0.01.",
        larger_is_better: true,
        value: |scores| ranking::tpr_at_fpr(scores, 1e-2),
    },
    Metric {
        name: "tpr_at_fpr_5e-3",
        about: "Largest true positive rate of any threshold whose false positive rate is at most 0.005.",
        larger_is_better: true,
        value: |scores| ranking::tpr_at_fpr(scores, 5e-3),
    },
    Metric {
        name: "tpr_at_fpr_1e-3",
        about: "Largest true positive rate of any threshold whose false positive rate is at most 0.001.",
        larger_is_better: true,
        value: |scores| ranking::tpr_at_fpr(scores, 1e-3),
    },
    Metric {
        name: "f1",
        about: "Harmonic mean of precision and recall of class 1; more than two classes: mean over them. scikit-learn's `f1_score`.",
        larger_is_better: true,
        value: decisions::f1,
    },
    Metric {
        name: "mcc",
        about: "Matthews correlation of decisions and classes, 0 where either never varies. scikit-learn's `matthews_corrcoef`.",
        larger_is_better: true,
        value: decisions::matthews,
    },
    Metric {
        name: "ece",
        about: "Expected calibration error of the largest probability, 15 bins of equal width. Guo et al. 2017, arXiv:1706.04599.",
        larger_is_better: false,
        value: calibration::expected_calibration_error,
    },
];

/// The metrics that are defined on any scores of samples of these classes.
pub fn defined(present: &[u32], classes: usize) -> Vec<&'static str> {
    let probabilities = vec![1.0 / classes.max(1) as f32; present.len() * classes];
    let scores = Scores { probabilities: &probabilities, targets: present, classes };
    METRICS.iter().filter(|metric| (metric.value)(&scores).is_some()).map(|metric| metric.name).collect()
}

/// Every defined metric's value.
pub fn evaluate(scores: &Scores) -> Values {
    METRICS.iter().filter_map(|metric| Some((metric.name.to_string(), (metric.value)(scores)?))).collect()
}

/// The place of the first of the largest: with two classes the second one wins above one half only.
fn largest(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, value)| if *value > row[best] { i } else { best })
}
