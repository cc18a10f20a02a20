//! What a data source was understood to hold, in a line: the first thing to look at when a result is odd.

use super::Experiment;
use std::fmt;

/// Images of each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub classes: Vec<String>,
    pub train: Vec<usize>,
    pub val: Vec<usize>,
}

/// How many classes are told one by one.
const NAMED: usize = 5;

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |counts: &[usize]| counts.iter().sum::<usize>();
        let (train, val) = (self.each(&self.train), self.each(&self.val));
        write!(f, "{} training images ({train}), {} for validation ({val})", total(&self.train), total(&self.val))
    }
}

impl Images {
    fn each(&self, counts: &[usize]) -> String {
        if self.classes.len() <= NAMED {
            let named = self.classes.iter().zip(counts).map(|(class, count)| format!("{count} {class}"));
            return named.collect::<Vec<_>>().join(", ");
        }
        let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
        let each = if least == most { least.to_string() } else { format!("{least} to {most}") };
        format!("{each} of each of {} classes", self.classes.len())
    }
}

/// A line for each data set that the experiments use.
pub fn lines(experiments: &[Experiment]) -> Vec<String> {
    let mut sets: Vec<(&Images, Vec<&str>)> = Vec::new();
    for experiment in experiments {
        let Some(images) = &experiment.images else { continue };
        match sets.iter_mut().find(|(known, _)| *known == images) {
            Some((_, names)) => names.push(&experiment.name),
            None => sets.push((images, vec![&experiment.name])),
        }
    }
    match sets.as_slice() {
        [(images, _)] => vec![format!("data: {images}")],
        sets => sets.iter().map(|(images, names)| format!("data of {}: {images}", names.join(", "))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_classes_are_named_and_many_counted() {
        let images = |n: usize, train: Vec<usize>| Images {
            classes: (0..n).map(|class| format!("c{class}")).collect(),
            val: vec![7; n],
            train,
        };
        let two = images(2, vec![30, 12]).to_string();
        assert_eq!(two, "42 training images (30 c0, 12 c1), 14 for validation (7 c0, 7 c1)");
        let ten = images(10, (10..20).collect()).to_string();
        assert_eq!(
            ten,
            "145 training images (10 to 19 of each of 10 classes), 70 for validation (7 of each of 10 classes)"
        );
    }
}
