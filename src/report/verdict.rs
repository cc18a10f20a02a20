//! What a difference means, in words that promise no more than the numbers do.

use super::{
    statistics::{self, Paired},
    words,
};
use std::fmt;

/// The level at which a difference counts as shown.
const ALPHA: f64 = 0.05;

/// What can be said about one candidate against the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Better,
    Worse,
    /// About this many more pairs would show a difference of the observed size, four times in five; `None`: over a thousand.
    CannotTell {
        more: Option<usize>,
    },
    /// One pair: a difference, but no interval.
    OnePair,
    /// The same difference in every pair, not zero: no spread to judge by.
    NoSpread,
    /// Not one pair differs.
    Same,
}

/// What a pair shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seed,
    /// Seed and fold, of a cross-validation with so many folds.
    Fold {
        of: u32,
    },
    Image,
}

impl Unit {
    /// `seed`, as in "over 3 seeds"; a fold of one seed and the same fold of another are two folds.
    pub fn word(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Fold { .. } => "fold",
            Self::Image => "image",
        }
    }

    /// Test images for each training image of models that share training images; see [`statistics::resampled`].
    pub fn overlap(self) -> f64 {
        match self {
            Self::Fold { of } => 1.0 / f64::from(of.max(2) - 1),
            _ => 0.0,
        }
    }
}

/// A candidate against a reference on one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub reference: String,
    pub candidate: String,
    pub metric: String,
    pub larger_is_better: bool,
    /// Means over the shared pairs.
    pub reference_mean: f64,
    pub candidate_mean: f64,
    /// Candidate minus reference.
    pub paired: Paired,
    pub unit: Unit,
    /// Comparisons made together, over which p-values are corrected.
    pub family: usize,
    /// Holm's adjusted p-value, where there is one.
    pub adjusted_p: Option<f64>,
    pub verdict: Verdict,
    /// What a reader must know beside the numbers.
    pub notes: Vec<String>,
}

/// A reference and a candidate value that share a seed, and a fold where there are folds.
pub type Pair = (f64, f64);

impl Comparison {
    /// Compares values that share their seed, or seed and fold; `None` without a pair. The verdict stands after [`judge`].
    pub fn over_seeds(
        names: (&str, &str),
        metric: &str,
        larger_is_better: bool,
        unit: Unit,
        pairs: &[Pair],
    ) -> Option<Self> {
        let differences: Vec<f64> = pairs.iter().map(|(reference, candidate)| candidate - reference).collect();
        let side = |pick: fn(&Pair) -> f64| statistics::mean(&pairs.iter().map(pick).collect::<Vec<_>>());
        let mut comparison = Self {
            reference: names.0.into(),
            candidate: names.1.into(),
            metric: metric.into(),
            larger_is_better,
            reference_mean: side(|pair| pair.0)?,
            candidate_mean: side(|pair| pair.1)?,
            paired: statistics::resampled(&differences, unit.overlap())?,
            unit,
            family: 1,
            adjusted_p: None,
            verdict: Verdict::OnePair,
            notes: Vec::new(),
        };
        judge(&mut [&mut comparison]);
        Some(comparison)
    }

    /// How much better the candidate is; negative when worse.
    pub fn gain(&self) -> f64 {
        if self.larger_is_better { self.paired.difference } else { -self.paired.difference }
    }

    /// The digits its numbers support.
    pub fn decimals(&self) -> usize {
        words::decimals(self.paired.interval.map(|(low, high)| (high - low) / 2.0))
    }

    /// The verdict in a few words, for a table.
    pub fn brief(&self) -> String {
        let unit = self.unit.word();
        match self.verdict {
            Verdict::Better => "better".into(),
            Verdict::Worse => "worse".into(),
            Verdict::CannotTell { .. } if self.unit == Unit::Image => "cannot tell".into(),
            Verdict::CannotTell { more: Some(more) } => {
                format!("cannot tell: needs about {more} more {unit}{}", if more == 1 { "" } else { "s" })
            }

            Verdict::CannotTell { more: None } => format!("cannot tell: over 1000 {unit}s needed"),
            Verdict::OnePair => format!("cannot tell: one {unit}, no interval"),
            Verdict::NoSpread => format!("cannot tell: same in every {unit}, no spread"),
            Verdict::Same => "no difference at all".into(),
        }
    }

    /// The verdict as a sentence without names: `by 0.034 AUC (95 % interval ..)`.
    pub fn evidence(&self) -> String {
        let decimals = self.decimals();
        let (pairs, metric) = (words::plural(self.paired.n, self.unit.word()), words::metric(&self.metric));
        let amount = words::signed(self.paired.difference, decimals);
        match self.paired.interval {
            Some(interval) => {
                format!("{amount} {metric}, 95 % interval {}, paired over {pairs}", words::interval(interval, decimals))
            }
            None => format!("{amount} {metric}, paired over {pairs}, no interval"),
        }
    }

    /// Whether the interval alone would have said more than the correction for several comparisons allows.
    fn lost_to_correction(&self) -> bool {
        let apart = self.paired.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0);
        apart && matches!(self.verdict, Verdict::CannotTell { .. })
    }

    /// The verdict as a sentence.
    pub fn sentence(&self) -> String {
        let (candidate, reference, evidence) = (&self.candidate, &self.reference, self.evidence());
        match self.verdict {
            Verdict::Better => format!("{candidate} is better than {reference} ({evidence})."),
            Verdict::Worse => format!("{candidate} is worse than {reference} ({evidence})."),
            Verdict::Same => format!("{candidate} and {reference} do not differ at all ({evidence})."),
            _ => {
                let brief = self.brief();
                let why = brief.strip_prefix("cannot tell").unwrap_or_default();
                let corrected = match self.lost_to_correction() {
                    true => format!(" after correction for {} comparisons", self.family),
                    false => String::new(),
                };
                format!("Cannot tell whether {candidate} differs from {reference}{corrected}{why} ({evidence}).")
            }
        }
    }
}

/// Gives comparisons made together their verdicts: Holm's correction over all that have a p-value.
pub fn judge(comparisons: &mut [&mut Comparison]) {
    let p: Vec<f64> = comparisons.iter().filter_map(|comparison| comparison.paired.p).collect();
    let mut adjusted = statistics::holm(&p).into_iter();
    for comparison in comparisons {
        comparison.family = p.len().max(1);
        comparison.adjusted_p = comparison.paired.p.and_then(|_| adjusted.next());
        comparison.verdict = verdict(comparison);
    }
}

fn verdict(comparison: &Comparison) -> Verdict {
    let Paired { n, difference, sd, .. } = comparison.paired;
    match comparison.adjusted_p {
        Some(p) if p <= ALPHA && comparison.gain() > 0.0 => Verdict::Better,
        Some(p) if p <= ALPHA => Verdict::Worse,
        Some(_) => {
            let needed = statistics::pairs_needed(
                sd.unwrap_or(0.0),
                difference,
                ALPHA / comparison.family as f64,
                comparison.unit.overlap(),
            );
            Verdict::CannotTell { more: needed.map(|needed| needed.saturating_sub(n).max(1)) }
        }
        None if n == 1 => Verdict::OnePair,
        None if difference == 0.0 => Verdict::Same,
        None => Verdict::NoSpread,
    }
}

/// What `runner compare` prints.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = self.decimals();
        let width = self.reference.chars().count().max(self.candidate.chars().count()).max(10);
        let direction = if self.larger_is_better { "larger is better" } else { "smaller is better" };
        writeln!(f, "{}\n", self.sentence())?;
        writeln!(f, "{:<width$}  {} ({direction})", "", words::metric(&self.metric))?;
        writeln!(f, "{:<width$}  {}", self.reference, words::number(self.reference_mean, decimals))?;
        writeln!(f, "{:<width$}  {}", self.candidate, words::number(self.candidate_mean, decimals))?;
        writeln!(f, "{:<width$}  {}", "difference", words::signed(self.paired.difference, decimals))?;
        if let Some(interval) = self.paired.interval {
            writeln!(f, "{:<width$}  {}", "95 % from", words::interval(interval, decimals))?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}
