use super::{Among, Judgement, Pruner, Standing};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Successive halving: after `min_epochs` epochs the best third goes on to three times as many, of these again the best
/// third, and so on to the end. Several at once do not wait for each other: whoever is among the best third of those that
/// have come as far goes on. Li et al. 2020, "A system for massively parallel hyperparameter tuning" (ASHA).
///
/// New points come before promotions, so that one run at a time promotes exactly the best of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Asha {
    /// Epochs that every trial gets.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub min_epochs: u32,
    /// One in so many goes on, to so many times the epochs.
    #[garde(range(min = 2))]
    #[schemars(range(min = 2))]
    pub reduction: u32,
    /// Whether the points of each experiment compete, or all of the sweep.
    #[garde(skip)]
    pub among: Among,
}

impl Default for Asha {
    fn default() -> Self {
        Self { min_epochs: 1, reduction: 3, among: Among::Points }
    }
}

impl Pruner for Asha {
    fn rungs(&self, epochs: u32) -> Vec<u32> {
        let next = |rung: &u32| rung.checked_mul(self.reduction.max(2));
        std::iter::successors(Some(self.min_epochs.max(1)), next).take_while(|rung| *rung < epochs).collect()
    }

    fn judge(&self, standing: &Standing) -> Judgement {
        let promoted = standing.losses.len() / self.reduction.max(2) as usize;
        match standing.closed {
            _ if standing.rank < promoted => Judgement::GoOn,
            // Somebody has to reach the end.
            true if standing.rank == 0 => Judgement::GoOn,
            true => Judgement::Drop,
            false => Judgement::Wait,
        }
    }

    fn continues_first(&self) -> bool {
        false
    }

    fn reconsiders(&self) -> bool {
        true
    }

    fn among(&self) -> Among {
        self.among
    }
}
