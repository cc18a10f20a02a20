//! The `race` of a sweep.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Further seeds for those still in contention: once every point has the seeds of the sweep, one more seed at a time goes
/// to each that no paired t test against the best has shown worse. The report says who was dropped, and why. After the
/// races of Maron & Moore 1994 and Birattari et al. 2002.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Race {
    /// Seeds in all, at most.
    #[garde(range(min = 2, max = 1000))]
    #[schemars(range(min = 2, max = 1000))]
    pub seeds: usize,
    /// How likely the race may be, over all its rounds together, to drop one that is as good as the best; corrected for
    /// the number of rounds (Bonferroni) and of comparisons in a round (Holm).
    #[serde(default = "five_in_a_hundred")]
    #[garde(range(min = 0.0001, max = 0.5))]
    #[schemars(range(min = 0.0001, max = 0.5))]
    pub alpha: f64,
}

fn five_in_a_hundred() -> f64 {
    0.05
}
