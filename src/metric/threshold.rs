//! Where to cut: thresholds of two-class scores chosen on one set of images, to be used on others.

use super::{METRICS, Scores, confusion_matrix};
use crate::{
    error::{Error, Result},
    event::Values,
};
use std::{fmt, str::FromStr};

/// How a threshold is chosen. An image counts as class 1 when its probability is above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// The largest true positive rate minus false positive rate. Youden 1950.
    Youden,
    /// The largest share of right decisions.
    Accuracy,
    /// The largest true positive rate whose false positive rate is at most this.
    FalsePositiveRate(f64),
    /// This one.
    Fixed(f64),
}

/// The metrics that depend on a threshold.
const DECISIONS: [&str; 4] = ["accuracy", "balanced_accuracy", "f1", "mcc"];

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let share = |text: &str| text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
        let rule = match text.split_once('=') {
            None if text == "youden" => Some(Self::Youden),
            None if text == "accuracy" => Some(Self::Accuracy),
            None => share(text).map(Self::Fixed),
            Some(("fpr", rate)) => share(rate).map(Self::FalsePositiveRate),
            Some(_) => None,
        };
        let wrong = || format!("`{text}` is none of youden, accuracy, fpr=0.01 or a number between 0 and 1");
        rule.ok_or_else(|| Error::user(wrong()))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Youden => f.write_str("youden"),
            Self::Accuracy => f.write_str("accuracy"),
            Self::FalsePositiveRate(rate) => write!(f, "fpr={rate}"),
            Self::Fixed(value) => write!(f, "{value}"),
        }
    }
}

/// One way to cut: images above `threshold` by class.
struct Cut {
    threshold: f64,
    false_positives: f64,
    true_positives: f64,
}

impl Rule {
    /// The threshold on these scores, midway between two of them; of equally good ones the nearest to one half. `None`
    /// unless there are two classes and both occur.
    pub fn choose(self, scores: &Scores) -> Option<f64> {
        if let Self::Fixed(value) = self {
            return Some(value);
        }
        let (cuts, [negatives, positives]) = cuts(scores)?;
        let worth = |cut: &Cut| match self {
            Self::Accuracy => Some(cut.true_positives - cut.false_positives),
            Self::FalsePositiveRate(limit) => {
                (cut.false_positives <= limit * negatives).then_some(cut.true_positives / positives)
            }
            _ => Some(cut.true_positives / positives - cut.false_positives / negatives),
        };
        let off = |cut: &Cut| (cut.threshold - 0.5).abs();
        let valued = cuts.iter().filter_map(|cut| Some((worth(cut)?, cut)));
        let best = valued.reduce(|best, next| {
            let better = next.0 > best.0 || (next.0 == best.0 && off(next.1) < off(best.1));
            if better { next } else { best }
        });
        best.map(|(_, cut)| cut.threshold)
    }
}

/// Every cut between distinct scores from the highest down, before and behind all of them included; and the counts of
/// the two classes.
fn cuts(scores: &Scores) -> Option<(Vec<Cut>, [f64; 2])> {
    if scores.classes != 2 {
        return None;
    }
    let mut samples: Vec<(f32, usize)> = scores.rows().map(|(row, target)| (row[1], target.min(1))).collect();
    if samples.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    samples.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut above = [0.0; 2];
    let highest = f64::from(samples.first()?.0);
    let mut cuts = vec![Cut { threshold: highest, false_positives: 0.0, true_positives: 0.0 }];
    let mut tied = samples.chunk_by(|a, b| a.0 == b.0).peekable();
    while let Some(group) = tied.next() {
        group.iter().for_each(|(_, target)| above[*target] += 1.0);
        let here = f64::from(group[0].0);
        let threshold = tied.peek().map_or(here.next_down(), |below| (here + f64::from(below[0].0)) / 2.0);
        cuts.push(Cut { threshold, false_positives: above[0], true_positives: above[1] });
    }
    (above[0] > 0.0 && above[1] > 0.0).then_some((cuts, above))
}

/// What two-class scores come to when cut at `threshold`: the metrics of decisions, and both rates.
pub fn at_threshold(scores: &Scores, threshold: f64) -> Values {
    let decide = |(row, _): (&[f32], usize)| if f64::from(row[1]) > threshold { [0.0, 1.0] } else { [1.0, 0.0] };
    let decided: Vec<f32> = scores.rows().flat_map(decide).collect();
    let decided = Scores { probabilities: &decided, targets: scores.targets, classes: 2 };
    let metrics = METRICS.iter().filter(|metric| DECISIONS.contains(&metric.name));
    let mut values: Values =
        metrics.filter_map(|metric| Some((metric.name.to_string(), (metric.value)(&decided)?))).collect();
    for (name, counts) in ["fpr", "tpr"].into_iter().zip(confusion_matrix(&decided)) {
        let all = counts.iter().sum::<u64>();
        if all > 0 {
            values.insert(name.into(), counts[1] as f64 / all as f64);
        }
    }
    values
}
