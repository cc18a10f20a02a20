use super::{Among, Judgement, Pruner, Standing};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Drops a trial whose best value so far is worse than the median of what the others had at the same epoch. Golovin et al.
/// 2017, "Google Vizier"; as Optuna's `MedianPruner`.
///
/// One trial after the other: with several at once, who has come as far by then decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Median {
    /// Epochs before the first comparison.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub min_epochs: u32,
    /// Epochs between two comparisons.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub every: u32,
    /// Others that must have come as far before a trial is dropped.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub startup: usize,
    /// Whether the points of each experiment compete, or all of the sweep.
    #[garde(skip)]
    pub among: Among,
}

impl Default for Median {
    fn default() -> Self {
        Self { min_epochs: 1, every: 1, startup: 5, among: Among::Points }
    }
}

impl Pruner for Median {
    fn rungs(&self, epochs: u32) -> Vec<u32> {
        (self.min_epochs.max(1)..epochs).step_by(self.every.max(1) as usize).collect()
    }

    fn judge(&self, standing: &Standing) -> Judgement {
        let (losses, rank) = (standing.losses, standing.rank);
        let others = losses.len().saturating_sub(1);
        if others < self.startup.max(1) {
            return Judgement::GoOn;
        }
        let other = |place: usize| losses[if place < rank { place } else { place + 1 }];
        let median = (other((others - 1) / 2) + other(others / 2)) / 2.0;
        if losses[rank] > median { Judgement::Drop } else { Judgement::GoOn }
    }

    fn continues_first(&self) -> bool {
        true
    }

    fn reconsiders(&self) -> bool {
        false
    }

    fn among(&self) -> Among {
        self.among
    }
}
