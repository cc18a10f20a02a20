//! Tree-structured Parzen estimators: one density of what the best trials chose, one of what the others chose; the next
//! point is the candidate, drawn from the first, that is most likely under the first and least under the second. Bergstra
//! et al. 2011, "Algorithms for hyper-parameter optimization".
//!
//! Kernels, bandwidths, weights and the share of trials that count as best are those of Optuna 5's `TPESampler` (Watanabe
//! 2023, arXiv:2304.11127), with its `multivariate` and `group`: dimensions that exist together are modelled together, and
//! trials at work count among the worse ones, so that several at once do not flock.

use super::{Observation, Outcome};
use crate::{
    spec::{Dimension, Domain, Sample, Space},
    tensor::rng::{Key, Rng},
};
use candle_core::cpu::erf::erf_f64;

/// Candidates of which the best is taken.
const CANDIDATES: usize = 24;

/// The weight of the kernel that covers the whole range.
const PRIOR: f64 = 1.0;

/// The next point of a space.
pub fn suggest(space: &Space, history: &[Observation]) -> Sample {
    let mut rng = Key::new(space.seed).named("tpe").with(history.len() as u64).rng();
    let (best, rest) = split(history);
    let mut sample: Sample = vec![None; space.dimensions.len()];
    for group in groups(&space.dimensions) {
        if !space.dimensions[group[0]].exists(&sample) {
            continue;
        }
        let dimensions: Vec<&Dimension> = group.iter().map(|index| &space.dimensions[*index]).collect();
        let estimator = |trials: &[&Sample]| Estimator::new(&dimensions, &observed(trials, &group));
        let values = pick(&estimator(&best), &estimator(&rest), &mut rng);
        group.iter().zip(values).for_each(|(index, value)| sample[*index] = Some(value));
    }
    sample
}

/// Dimensions with the same conditions, which therefore exist together, in the space's order.
fn groups(dimensions: &[Dimension]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, dimension) in dimensions.iter().enumerate() {
        match groups.iter_mut().find(|group| dimensions[group[0]].when == dimension.when) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// The best tenth of the trials that have told something, at most 25, and all others, each in order. A trial that
/// finished is better than one that did not, one that came further better than one stopped earlier.
fn split(history: &[Observation]) -> (Vec<&Sample>, Vec<&Sample>) {
    let rank = |outcome: &Outcome| match *outcome {
        Outcome::Finished { loss } => Some((0, loss)),
        Outcome::Reached { epoch, loss } => Some((u32::MAX - epoch, loss)),
        Outcome::Running => None,
    };
    let mut told: Vec<(usize, (u32, f64))> =
        history.iter().enumerate().filter_map(|(index, trial)| Some((index, rank(&trial.outcome)?))).collect();
    told.sort_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let count = told.len().div_ceil(10).min(25);
    let best: Vec<usize> = told.iter().take(count).map(|(index, _)| *index).collect();
    let side = |wanted: bool| {
        let all = history.iter().enumerate().filter(|(index, _)| best.contains(index) == wanted);
        all.map(|(_, trial)| &trial.sample).collect()
    };
    (side(true), side(false))
}

/// What trials chose in a group of dimensions, of those in which it existed.
fn observed(trials: &[&Sample], group: &[usize]) -> Vec<Vec<f64>> {
    trials.iter().filter_map(|sample| group.iter().map(|index| sample[*index]).collect()).collect()
}

/// The best of some candidates drawn from `best`.
fn pick(best: &Estimator, rest: &Estimator, rng: &mut Rng) -> Vec<f64> {
    let candidates: Vec<Vec<f64>> = (0..CANDIDATES).map(|_| best.draw(rng)).collect();
    let merit = |candidate: &Vec<f64>| best.log_density(candidate) - rest.log_density(candidate);
    let first = candidates.first().cloned().unwrap_or_default();
    let valued = candidates.into_iter().map(|candidate| (merit(&candidate), candidate));
    valued.reduce(|best, next| if next.0 > best.0 { next } else { best }).map_or(first, |(_, candidate)| candidate)
}

/// A mixture of one kernel for each observation and one that covers everything.
struct Estimator {
    /// They sum to one.
    weights: Vec<f64>,
    /// By dimension.
    kernels: Vec<Kernels>,
}

impl Estimator {
    fn new(dimensions: &[&Dimension], observed: &[Vec<f64>]) -> Self {
        let mut weights = age_weights(observed.len());
        weights.push(PRIOR);
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        let column = |index: usize| observed.iter().map(|row| row[index]).collect::<Vec<f64>>();
        let kernels =
            dimensions.iter().enumerate().map(|(index, dimension)| Kernels::new(dimension.domain, &column(index)));
        Self { weights, kernels: kernels.collect() }
    }

    fn draw(&self, rng: &mut Rng) -> Vec<f64> {
        let kernel = weighted(&self.weights, rng);
        self.kernels.iter().map(|kernels| kernels.draw(kernel, rng)).collect()
    }

    fn log_density(&self, values: &[f64]) -> f64 {
        let kernel = |(index, weight): (usize, &f64)| {
            let parts = self.kernels.iter().zip(values).map(|(kernels, value)| kernels.log_density(index, *value));
            weight.ln() + parts.sum::<f64>()
        };
        log_sum(&self.weights.iter().enumerate().map(kernel).collect::<Vec<f64>>())
    }
}

/// The last 25 trials count in full, those before less and less.
fn age_weights(n: usize) -> Vec<f64> {
    let old = n.saturating_sub(25);
    let ramp = |index: usize| match old {
        1 => 1.0 / n as f64,
        _ => 1.0 / n as f64 + (1.0 - 1.0 / n as f64) * index as f64 / (old - 1) as f64,
    };
    (0..n).map(|index| if index < old { ramp(index) } else { 1.0 }).collect()
}

fn weighted(weights: &[f64], rng: &mut Rng) -> usize {
    let mut left = rng.uniform() * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return index;
        }
    }
    weights.len() - 1
}

fn log_sum(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most.is_finite() { most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln() } else { most }
}

/// The kernels of one dimension.
enum Kernels {
    /// Normal distributions cut off at the ends; of a logarithm where the domain is logarithmic.
    Numbers {
        domain: Domain,
        /// Ends, widened by half a step where the domain has steps, on the scale of the means.
        ends: [f64; 2],
        /// Mean and standard deviation.
        normals: Vec<(f64, f64)>,
    },
    /// Probabilities of the choices.
    Choices(Vec<Vec<f64>>),
}

impl Kernels {
    fn new(domain: Domain, observed: &[f64]) -> Self {
        match domain {
            Domain::Choice { of } => Self::choices(of, observed),
            Domain::Real { low, high, log } => Self::numbers(domain, [low, high], log, observed),
            Domain::Int { low, high, step, log } => {
                let half = step as f64 / 2.0;
                let top = high - (high - low) % step;
                Self::numbers(domain, [low as f64 - half, top as f64 + half], log, observed)
            }
        }
    }

    fn choices(of: usize, observed: &[f64]) -> Self {
        let kernels = observed.len() as f64 + 1.0;
        let row = |taken: Option<usize>| {
            let weight = |choice| PRIOR / kernels + if taken == Some(choice) { 1.0 } else { 0.0 };
            let row: Vec<f64> = (0..of).map(weight).collect();
            let sum: f64 = row.iter().sum();
            row.into_iter().map(|weight| weight / sum).collect()
        };
        Self::Choices(observed.iter().map(|value| row(Some(*value as usize))).chain([row(None)]).collect())
    }

    fn numbers(domain: Domain, ends: [f64; 2], log: bool, observed: &[f64]) -> Self {
        let scaled = |value: f64| if log { value.ln() } else { value };
        let [low, high] = ends.map(scaled);
        let means: Vec<f64> = observed.iter().map(|value| scaled(*value)).collect();
        let widths = bandwidths(&means, low, high);
        let all = means.into_iter().zip(widths).chain([((low + high) / 2.0, high - low)]);
        Self::Numbers { domain, ends: [low, high], normals: all.collect() }
    }

    fn draw(&self, kernel: usize, rng: &mut Rng) -> f64 {
        match self {
            Self::Choices(rows) => weighted(&rows[kernel], rng) as f64,
            Self::Numbers { domain, ends: [low, high], normals } => {
                let (mean, sd) = normals[kernel];
                // The mean lies inside, so that about every third draw does at worst.
                let draws = std::iter::repeat_with(|| mean + sd * rng.normal()).take(1000);
                let value = { draws }.find(|value| (*low..=*high).contains(value)).unwrap_or(mean);
                domain.tidy(if is_log(domain) { value.exp() } else { value })
            }
        }
    }

    fn log_density(&self, kernel: usize, value: f64) -> f64 {
        match self {
            Self::Choices(rows) => rows[kernel][value as usize].ln(),
            Self::Numbers { domain, ends: [low, high], normals } => {
                let (mean, sd) = normals[kernel];
                let scaled = |value: f64| if is_log(domain) { value.ln() } else { value };
                let mass = |from: f64, to: f64| below((to - mean) / sd) - below((from - mean) / sd);
                let inside = match *domain {
                    Domain::Int { step, .. } => {
                        let half = step as f64 / 2.0;
                        mass(scaled(value - half), scaled(value + half)).max(f64::MIN_POSITIVE).ln()
                    }
                    _ => -0.5 * ((scaled(value) - mean) / sd).powi(2) - (sd * std::f64::consts::TAU.sqrt()).ln(),
                };
                inside - mass(*low, *high).ln()
            }
        }
    }
}

fn is_log(domain: &Domain) -> bool {
    matches!(domain, Domain::Real { log: true, .. } | Domain::Int { log: true, .. })
}

/// The standard normal distribution function.
fn below(z: f64) -> f64 {
    0.5 * (1.0 + erf_f64(z / std::f64::consts::SQRT_2))
}

/// Each kernel is as wide as the gap to its farther neighbour, within bounds; an outermost one takes its one neighbour.
fn bandwidths(means: &[f64], low: f64, high: f64) -> Vec<f64> {
    let n = means.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| means[*a].total_cmp(&means[*b]));
    let at = |place: usize| order.get(place).map_or(high, |index| means[*index]);
    let range = high - low;
    let least = range / (n as f64 + 2.0).min(100.0);
    let mut widths = vec![range; n];
    for (place, index) in order.iter().enumerate() {
        let down = if place == 0 { means[*index] - low } else { means[*index] - at(place - 1) };
        let up = at(place + 1) - means[*index];
        let width = match place {
            _ if n < 2 => down.max(up),
            0 => up,
            _ if place + 1 == n => down,
            _ => down.max(up),
        };
        widths[*index] = width.clamp(least, range);
    }
    widths
}
