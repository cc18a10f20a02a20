//! Whether something that is not the picture's content gives the classes away: learned on the training images, tried on
//! the validation images.

use super::Facts;

/// How well one class is told from the rest by one feature.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Shortcut {
    pub feature: &'static str,
    pub class: String,
    /// Area under the ROC curve on the validation images; 0.5 tells nothing.
    pub auc: f64,
    /// What chance alone makes of it: the standard error of a feature that tells nothing.
    pub error: f64,
}

/// Above this AUC, where chance does not explain it, a shortcut is worth a warning.
pub const SUSPICIOUS: f64 = 0.6;

impl Shortcut {
    pub fn is_suspicious(&self) -> bool {
        self.auc > SUSPICIOUS && self.auc > 0.5 + 2.0 * self.error
    }
}

/// A feature's numbers for one image; several are taken for independent.
type Feature = fn(&Facts) -> Vec<f64>;

const FEATURES: [(&str, Feature); 7] = [
    ("format", |facts| vec![facts.format.map_or(0.0, |format| 1.0 + f64::from(format as u8))]),
    ("file size", |facts| vec![facts.bytes as f64]),
    ("width", |facts| vec![facts.size.map_or(0.0, |size| size.0 as f64)]),
    ("height", |facts| vec![facts.size.map_or(0.0, |size| size.1 as f64)]),
    ("bytes per pixel", |facts| {
        vec![facts.size.map_or(0.0, |(width, height)| facts.bytes as f64 / (width * height).max(1) as f64)]
    }),
    ("JPEG quality", |facts| vec![f64::from(facts.quality.unwrap_or(0))]),
    ("mean colour", |facts| facts.mean.to_vec()),
];

/// Every feature against every class; of two classes, the second.
pub fn shortcuts(classes: &[String], train: &[Facts], val: &[Facts]) -> Vec<Shortcut> {
    let usable = |facts: &'_ [Facts]| facts.iter().filter(|fact| fact.problem.is_none()).cloned().collect::<Vec<_>>();
    let (train, val) = (usable(train), usable(val));
    let mut found = Vec::new();
    for (index, class) in classes.iter().enumerate().skip(usize::from(classes.len() == 2)) {
        let labels = |facts: &[Facts]| facts.iter().map(|fact| fact.target as usize == index).collect::<Vec<_>>();
        let (learned, tried) = (labels(&train), labels(&val));
        for (feature, values) in FEATURES {
            let of = |facts: &[Facts]| facts.iter().map(values).collect::<Vec<_>>();
            let scores = scores(&of(&train), &learned, &of(&val));
            if let Some((auc, error)) = auc(&scores, &tried) {
                found.push(Shortcut { feature, class: class.clone(), auc, error });
            }
        }
    }
    found
}

/// Log odds of the class for each tried image, by how often its bin held the class among the learned ones.
fn scores(learned: &[Vec<f64>], labels: &[bool], tried: &[Vec<f64>]) -> Vec<f64> {
    let mut scores = vec![0.0; tried.len()];
    for axis in 0..learned.first().map_or(0, Vec::len) {
        let edges = edges(learned.iter().map(|values| values[axis]).collect());
        let bin = |value: f64| edges.partition_point(|edge| *edge <= value);
        let mut counts = vec![[1.0f64, 1.0]; edges.len() + 1];
        for (values, &label) in learned.iter().zip(labels) {
            counts[bin(values[axis])][usize::from(label)] += 1.0;
        }
        for (score, values) in scores.iter_mut().zip(tried) {
            let [others, class] = counts[bin(values[axis])];
            *score += (class / others).ln();
        }
    }
    scores
}

/// Where bins begin: at every value where there are few, otherwise such that each bin holds as many.
fn edges(mut values: Vec<f64>) -> Vec<f64> {
    let most = (values.len() / 20).clamp(2, 16);
    values.sort_by(f64::total_cmp);
    let mut distinct = values.clone();
    distinct.dedup();
    if distinct.len() <= most {
        return distinct;
    }
    let mut edges: Vec<f64> = (1..most).map(|bin| values[bin * values.len() / most]).collect();
    edges.dedup();
    edges
}

/// Area under the ROC curve by ranks, ties shared, and its standard error where scores tell nothing (Mann & Whitney
/// 1947); `None` where one side is empty.
fn auc(values: &[f64], labels: &[bool]) -> Option<(f64, f64)> {
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    let negatives = labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut rank, mut sum) = (0.0, 0.0);
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let size = tied.len() as f64;
        sum += tied.iter().filter(|&&index| labels[index]).count() as f64 * (rank + (size + 1.0) / 2.0);
        rank += size;
    }
    let area = (sum - positives * (positives + 1.0) / 2.0) / (positives * negatives);
    Some((area, ((positives + negatives + 1.0) / (12.0 * positives * negatives)).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_by_ranks() {
        let labels = [false, false, true, true];
        let area = |values: &[f64], labels: &[bool]| auc(values, labels).map(|(area, _)| area);
        assert_eq!(area(&[0.1, 0.4, 0.35, 0.8], &labels), Some(0.75));
        assert_eq!(area(&[1.0; 4], &labels), Some(0.5));
        assert_eq!(area(&[4.0, 3.0, 2.0, 1.0], &labels), Some(0.0));
        assert_eq!(area(&[1.0], &[true]), None);
    }

    #[test]
    fn a_feature_may_tell_in_the_middle() {
        let values: Vec<Vec<f64>> = (0..100).map(|i| vec![f64::from(i)]).collect();
        let labels: Vec<bool> = (0..100).map(|i| (40..60).contains(&i)).collect();
        assert_eq!(auc(&scores(&values, &labels, &values), &labels).map(|(area, _)| area), Some(1.0));
    }

    #[test]
    fn a_rare_value_has_its_own_bin() {
        let values: Vec<Vec<f64>> = (0..100).map(|i| vec![if i < 4 { 2.0 } else { 1.0 }]).collect();
        let labels: Vec<bool> = (0..100).map(|i| i < 4).collect();
        assert_eq!(auc(&scores(&values, &labels, &values), &labels).map(|(area, _)| area), Some(1.0));
    }
}
