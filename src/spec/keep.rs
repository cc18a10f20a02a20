//! What stays of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Checkpoints that stay when a run has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The best epoch's weights.
    #[default]
    Best,
    /// What a longer run could go on from: the last epoch's weights, optimizer and averages.
    Last,
    /// The best epoch's and the last one's.
    All,
    None,
}
