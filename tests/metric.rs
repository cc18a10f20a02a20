//! Metrics against scikit-learn's (tests/golden/metric.py).

use runner::metric::{METRICS, Scores, by_class, confusion_matrix, evaluate, roc_curve};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    samples: usize,
    classes: usize,
    seed: u32,
    levels: f64,
    skill: f64,
    only: Option<u32>,
    values: BTreeMap<String, Option<f64>>,
    checksum: f64,
    confusion: Vec<Vec<u64>>,
    /// Samples, precision, recall, F1 and AUC.
    by_class: Vec<[Option<f64>; 5]>,
    roc: Option<Vec<[f64; 2]>>,
}

impl Case {
    /// The scores that the script made.
    fn make(&self) -> (Vec<f32>, Vec<u32>) {
        let mut x = self.seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(x >> 16) / 65536.0
        };
        let (mut probabilities, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..self.samples {
            let raw: Vec<f64> = (0..=self.classes).map(|_| next()).collect();
            let drawn = ((raw[self.classes] * self.classes as f64) as u32).min(self.classes as u32 - 1);
            let target = self.only.unwrap_or(drawn);
            let score = |class: usize| {
                let bonus = if class == target as usize { self.skill } else { 0.0 };
                ((raw[class] * self.levels).floor() / self.levels + 1.0 / 64.0 + bonus) as f32
            };
            let row: Vec<f32> = (0..self.classes).map(score).collect();
            let total = row.iter().copied().reduce(|a, b| a + b).unwrap();
            probabilities.extend(row.iter().map(|value| value / total));
            targets.push(target);
        }
        (probabilities, targets)
    }
}

#[test]
fn values_are_those_of_scikit_learn() {
    let golden: Golden = serde_json::from_str(include_str!("golden/metric.json")).unwrap();
    assert!(golden.cases.len() >= 15);
    for case in &golden.cases {
        let (probabilities, targets) = case.make();
        let place = format!("{} samples, {} classes, seed {}", case.samples, case.classes, case.seed);
        let last: f64 = probabilities.chunks(case.classes).map(|row| f64::from(row[case.classes - 1])).sum();
        assert!((last - case.checksum).abs() < 1e-9, "{place}: the scores are not the script's");
        let scores = Scores { probabilities: &probabilities, targets: &targets, classes: case.classes };
        let ours = evaluate(&scores);
        for metric in METRICS {
            let (ours, wanted) = (ours.get(metric.name).copied(), case.values[metric.name]);
            let same = match (ours, wanted) {
                (Some(ours), Some(wanted)) => (ours - wanted).abs() < 1e-6,
                (ours, wanted) => ours == wanted,
            };
            assert!(same, "{place}: {} is {ours:?} and not {wanted:?}", metric.name);
        }
        assert_eq!(case.values.len(), METRICS.len());
        assert_eq!(confusion_matrix(&scores), case.confusion, "{place}");
        for (ours, wanted) in by_class(&scores).iter().zip(&case.by_class) {
            let ours = [Some(ours.samples as f64), ours.precision, ours.recall, ours.f1, ours.auc];
            let same = |(a, b): (&Option<f64>, &Option<f64>)| {
                a.is_some() == b.is_some() && a.zip(*b).is_none_or(|(a, b)| (a - b).abs() < 1e-9)
            };
            assert!(ours.iter().zip(wanted).all(same), "{place}: {ours:?} and not {wanted:?}");
        }
        if let Some(roc) = &case.roc {
            let ours = roc_curve(&scores, 1).unwrap();
            assert_eq!(ours.len(), roc.len(), "{place}");
            let off = ours.iter().flatten().zip(roc.iter().flatten()).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-12, "{place}");
        }
    }
}

#[test]
fn nothing_is_made_up_where_there_is_nothing() {
    let none = Scores { probabilities: &[], targets: &[], classes: 2 };
    assert!(evaluate(&none).is_empty());
    let nan = Scores { probabilities: &[f32::NAN, f32::NAN, 0.2, 0.8], targets: &[0, 1], classes: 2 };
    let values = evaluate(&nan);
    assert!(!values.contains_key("auc") && !values.contains_key("eer"), "{values:?}");
}
