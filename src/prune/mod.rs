//! Pruning: trials pause at certain epochs and are judged against others that came as far; the best go on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When trials are judged, and how.
pub trait Pruner: Send + Sync {
    /// The epochs a trial pauses after, ascending, all before the last.
    fn rungs(&self, epochs: u32) -> Vec<u32>;

    /// What becomes of a trial that paused.
    fn judge(&self, standing: &Standing) -> Judgement;

    /// Whether paused trials go on before new ones begin.
    fn continues_first(&self) -> bool;

    /// Whether a trial that was dropped may be taken up again when more trials have come.
    fn reconsiders(&self) -> bool;

    /// Which trials are compared with each other.
    fn among(&self) -> Among;
}

/// A trial among those that have come as far, itself included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing<'a> {
    /// Their losses, ascending: smaller is better.
    pub losses: &'a [f64],
    /// The trial's own place among these; of equal ones the earlier trial comes first.
    pub rank: usize,
    /// Whether no other trial can still come here.
    pub closed: bool,
}

/// What becomes of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    GoOn,
    /// It depends on trials that have not come here yet.
    Wait,
    Drop,
}

/// Which trials are compared with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Among {
    /// The points of each experiment among themselves: every experiment keeps its best.
    #[default]
    Points,
    /// Those of all experiments.
    All,
}

crate::components! {
    /// The `pruning` of a sweep.
    pub enum PrunerSpec: Pruner {
        asha::Asha,
        median::Median,
    }
}
