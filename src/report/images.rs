//! Intervals over images: how much a number of one run depends on which images happen to be in the split.

use super::{
    statistics::{self, Paired},
    verdict::{Comparison, Unit, Verdict},
};
use crate::{
    event::Prediction,
    metric::{self, METRICS, Metric, OfClass, Scores},
};
use std::collections::BTreeMap;

/// A metric of one run's predictions with its 95 % bootstrap interval; `None` where it is not in the registry or undefined.
pub fn interval(name: &str, predictions: &[Prediction]) -> Option<(f64, (f64, f64))> {
    let metric = find(name)?;
    let whole = value(metric, predictions, &all(predictions))?;
    let interval = statistics::bootstrap(predictions.len(), |images| value(metric, predictions, images))?;
    Some((whole, interval))
}

/// Two runs' predictions of the same images: the difference of a metric, with a bootstrap interval over images that
/// both are drawn together for. `None` where no image is shared or the metric undefined.
pub fn compare(
    names: (&str, &str),
    metric: &str,
    larger: bool,
    a: &[Prediction],
    b: &[Prediction],
) -> Option<Comparison> {
    let rule = find(metric)?;
    let (a, b) = shared(a, b);
    let side = |rows: &[Prediction], images: &[usize]| value(rule, rows, images);
    let images = all(&a);
    let (reference_mean, candidate_mean) = (side(&a, &images)?, side(&b, &images)?);
    let difference = candidate_mean - reference_mean;
    let interval = statistics::bootstrap(a.len(), |images| Some(side(&b, images)? - side(&a, images)?));
    let gain = |value: f64| if larger { value } else { -value };
    let verdict = match interval {
        Some((low, high)) if low > 0.0 || high < 0.0 => match gain(difference) > 0.0 {
            true => Verdict::Better,
            false => Verdict::Worse,
        },
        Some((0.0, 0.0)) => Verdict::Same,
        _ => Verdict::CannotTell { more: None },
    };
    let note = "The interval is over images: it says how much the difference depends on which images are in the split, \
                not whether another seed would repeat it.";
    Some(Comparison {
        reference: names.0.into(),
        candidate: names.1.into(),
        metric: metric.into(),
        larger_is_better: larger,
        reference_mean,
        candidate_mean,
        paired: Paired { n: a.len(), difference, sd: None, interval, p: None },
        unit: Unit::Image,
        family: 1,
        adjusted_p: None,
        verdict,
        notes: vec![note.into()],
    })
}

fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

fn all(predictions: &[Prediction]) -> Vec<usize> {
    (0..predictions.len()).collect()
}

/// Each class's numbers.
pub fn by_class(predictions: &[Prediction]) -> Vec<OfClass> {
    scored(predictions, &all(predictions), metric::by_class).unwrap_or_default()
}

fn value(metric: &Metric, predictions: &[Prediction], images: &[usize]) -> Option<f64> {
    scored(predictions, images, metric.value)?
}

/// What `of` makes of the scores of some of the predictions; `None` where there is none at all.
fn scored<T>(predictions: &[Prediction], images: &[usize], of: impl FnOnce(&Scores) -> T) -> Option<T> {
    let classes = predictions.first()?.scores.len();
    let mut probabilities = Vec::with_capacity(images.len() * classes);
    let mut targets = Vec::with_capacity(images.len());
    for row in images.iter().filter_map(|image| predictions.get(*image)) {
        probabilities.extend_from_slice(&row.scores);
        targets.push(row.target);
    }
    Some(of(&Scores { probabilities: &probabilities, targets: &targets, classes }))
}

/// The images both have, in one order.
fn shared(a: &[Prediction], b: &[Prediction]) -> (Vec<Prediction>, Vec<Prediction>) {
    let others: BTreeMap<&str, &Prediction> = b.iter().map(|row| (row.image.as_str(), row)).collect();
    let pairs = a.iter().filter_map(|row| Some((row, *others.get(row.image.as_str())?)));
    pairs
        .filter(|(a, b)| a.target == b.target && a.scores.len() == b.scores.len())
        .map(|(a, b)| (a.clone(), b.clone()))
        .unzip()
}
