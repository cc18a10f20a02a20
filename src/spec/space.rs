//! The searched spaces of a sweep: keys with a distribution each, in place of lists of values.

mod read;

use super::{
    mistake::{Mistakes, Source},
    sweep::Axis,
    tree::{Node, Value, parse},
};
use crate::error::Result;
use read::read_alone;
pub(super) use read::{Reader, flatten};
use schemars::JsonSchema;
use std::{collections::BTreeMap, sync::Arc};

/// What a key may take, and when there is such a key at all.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Distribution")]
#[allow(dead_code)] // read as a schema only
pub(super) struct DistributionTable {
    /// Any number between two, all equally likely.
    uniform: Option<[f64; 2]>,
    /// Any number between two positive ones, all orders of magnitude equally likely.
    log_uniform: Option<[f64; 2]>,
    /// A whole number between two, both included.
    int: Option<[i64; 2]>,
    /// One of these values.
    #[schemars(length(min = 1))]
    choice: Option<Vec<serde_json::Value>>,
    /// With `int`: all orders of magnitude are equally likely.
    log: Option<bool>,
    /// With `int`: only every so many numbers, counted from the first; default: 1.
    #[schemars(range(min = 1))]
    step: Option<u32>,
    /// Only where these other keys of the space, which have a `choice`, took this value or one of a list. A component is
    /// meant by its name: `{ optimizer = "adam" }`.
    when: Option<BTreeMap<String, serde_json::Value>>,
}

/// How points of a space are picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampler {
    /// Independently of results.
    Random,
    /// By the results so far: tree-structured Parzen estimators.
    Tpe,
}

impl Sampler {
    pub const ALL: [Self; 2] = [Self::Random, Self::Tpe];

    /// As written in an experiment file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Tpe => "tpe",
        }
    }
}

/// Keys that are searched, and for how long.
#[derive(Clone, Debug)]
pub struct Space {
    pub sampler: Sampler,
    /// Points to try in all.
    pub trials: usize,
    /// What the draws depend on.
    pub seed: u64,
    /// Those that others depend on come first.
    pub dimensions: Vec<Dimension>,
}

/// One value for each dimension: a number, or the position of a choice; `None` where its condition does not hold.
pub type Sample = Vec<Option<f64>>;

/// One key of a space.
#[derive(Clone, Debug)]
pub struct Dimension {
    /// The key, and the choices where it has some.
    pub(super) axis: Axis,
    pub domain: Domain,
    /// All of these must hold.
    pub when: Vec<Condition>,
}

/// An earlier dimension took one of these choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its position in the space.
    pub dimension: usize,
    pub choices: Vec<usize>,
}

/// The values a dimension takes; both ends are included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Domain {
    Real { low: f64, high: f64, log: bool },
    Int { low: i64, high: i64, step: i64, log: bool },
    Choice { of: usize },
}

impl Domain {
    /// The nearest value it holds. Real numbers keep four digits, so that they can be read and written down.
    pub fn tidy(&self, value: f64) -> f64 {
        match *self {
            Self::Choice { of } => value.round().clamp(0.0, of.saturating_sub(1) as f64),
            Self::Int { low, high, step, .. } => {
                let steps = ((high - low) / step) as f64;
                low as f64 + ((value - low as f64) / step as f64).round().clamp(0.0, steps) * step as f64
            }
            Self::Real { low, high, log } => {
                let scale = if log { value.abs() } else { high - low };
                rounded(value, 3 - scale.log10().floor() as i32).clamp(low, high)
            }
        }
    }

    /// Values worth a check before anything starts: the ends, or every choice.
    fn extremes(&self) -> Vec<f64> {
        match *self {
            Self::Real { low, high, .. } => vec![low, high],
            Self::Int { low, high, step, .. } => vec![low as f64, (high - (high - low) % step) as f64],
            Self::Choice { of } => (0..of).map(|choice| choice as f64).collect(),
        }
    }
}

/// A number to so many decimals, as its shortest decimal text reads.
fn rounded(value: f64, decimals: i32) -> f64 {
    let text = match decimals {
        0.. => format!("{value:.0$}", decimals.min(300) as usize),
        _ => format!("{}", (value / 10f64.powi(-decimals)).round() * 10f64.powi(-decimals)),
    };
    text.parse().unwrap_or(value)
}

impl Dimension {
    /// Dotted, e.g. `optimizer.adam.lr`.
    pub fn path(&self) -> &str {
        &self.axis.path
    }

    /// Whether it exists beside these values of earlier dimensions.
    pub fn exists(&self, sample: &[Option<f64>]) -> bool {
        let holds = |condition: &Condition| {
            let taken = sample.get(condition.dimension).copied().flatten();
            taken.is_some_and(|taken| condition.choices.contains(&(taken as usize)))
        };
        self.when.iter().all(holds)
    }

    fn node(&self, value: f64) -> Node {
        let of = |value| Node { value, place: self.axis.place.clone(), origin: "sweep".into() };
        match self.domain {
            Domain::Real { .. } => of(Value::Float(value)),
            Domain::Int { .. } => of(Value::Integer(value as i64)),
            Domain::Choice { .. } => self.axis.values[value as usize].clone(),
        }
    }
}

impl Space {
    /// Reads a space on its own, whose keys are no experiment's: a TOML table of distributions.
    pub fn alone(sampler: Sampler, trials: usize, seed: u64, text: &str) -> Result<Self> {
        let source = Arc::new(Source { file: Some("the space".into()), text: text.into() });
        let mut mistakes = Mistakes::default();
        let dimensions = parse(&source, "", &mut mistakes).map(|mut node| read_alone(&mut node, &mut mistakes));
        mistakes.into_result("the space")?;
        Ok(Self { sampler, trials, seed, dimensions: dimensions.unwrap_or_default() })
    }

    /// The keys that exist in a sample, and their values.
    pub(super) fn nodes(&self, sample: &[Option<f64>]) -> Vec<(&Axis, Node)> {
        let node = |(dimension, value): (&'_ Dimension, &Option<f64>)| value.map(|value| dimension.node(value));
        let all = self.dimensions.iter().zip(sample);
        all.filter_map(|at| Some((&at.0.axis, node(at)?))).collect()
    }

    /// Samples in which every dimension takes its ends or each of its choices once, with the dimension each is about.
    pub(super) fn probes(&self) -> Vec<(usize, Sample)> {
        let probe = |index: usize, value: f64| (index, self.with(index, value));
        let all = self.dimensions.iter().enumerate();
        all.flat_map(|(index, dimension)| dimension.domain.extremes().into_iter().map(move |value| probe(index, value)))
            .collect()
    }

    /// A sample in which one dimension has this value; the others are at their first.
    fn with(&self, index: usize, value: f64) -> Sample {
        let mut wanted: Sample = vec![None; self.dimensions.len()];
        wanted[index] = Some(value);
        self.require(index, &mut wanted);
        let mut sample = Sample::new();
        for (dimension, wanted) in self.dimensions.iter().zip(wanted) {
            let first = || dimension.domain.extremes().first().copied();
            sample.push(if dimension.exists(&sample) { wanted.or_else(first) } else { None });
        }
        sample
    }

    /// Sets what a dimension's conditions ask for, and what theirs do.
    fn require(&self, index: usize, wanted: &mut Sample) {
        for condition in &self.dimensions[index].when {
            wanted[condition.dimension] = condition.choices.first().map(|choice| *choice as f64);
            self.require(condition.dimension, wanted);
        }
    }

    /// A sample as the point it makes: dotted keys and values.
    pub fn values(&self, sample: &[Option<f64>]) -> Vec<(String, toml::Value)> {
        self.nodes(sample).into_iter().map(|(axis, node)| (axis.path.clone(), node.plain())).collect()
    }

    /// What decides about its points, as text: two spaces with the same one are the same search.
    pub fn describe(&self) -> String {
        let dimension = |dimension: &Dimension| {
            let choices: Vec<String> = dimension.axis.values.iter().map(|node| node.plain().to_string()).collect();
            format!("{} {:?} {choices:?} {:?}", dimension.axis.path, dimension.domain, dimension.when)
        };
        let dimensions: Vec<String> = self.dimensions.iter().map(dimension).collect();
        format!("{} {} {}", self.sampler.name(), self.seed, dimensions.join("\n"))
    }
}
