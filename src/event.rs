//! What happens during a run, as plain data. Training emits events; the journal, the store and the terminal consume
//! them; none of these knows another.

use crate::error::Cause;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The part of the data set a number speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Val,
    Test,
}

impl Split {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// Values by metric name: `loss`, `accuracy`, `auc`, `tpr_at_fpr_1e-3`, ..
pub type Values = BTreeMap<String, f64>;

/// One image's scores: the probability of every class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub image: String,
    pub target: u32,
    pub scores: Vec<f32>,
}

/// One thing that happened in a run. `epoch` counts finished epochs from 1; `step` counts optimizer steps from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An attempt begins, at this epoch (0, or where the checkpoint it resumes from stands).
    Started {
        /// The same number as the record's, under a name of its own: one JSON object holds both.
        #[serde(rename = "attempt_number")]
        attempt: u32,
        device: String,
        threads: usize,
        epoch: u32,
        epochs: u32,
        steps_per_epoch: u64,
        parameters: u64,
    },
    /// What the attempt that has just begun is made with.
    Origin(Box<Origin>),
    /// Values of one optimizer step (`loss`, `lr`, ..), every `log_every` steps; not about a whole epoch.
    Step {
        epoch: u32,
        step: u64,
        #[serde(serialize_with = "finite")]
        values: Values,
    },
    /// Values that speak for a whole epoch of one split.
    Epoch {
        epoch: u32,
        split: Split,
        #[serde(serialize_with = "finite")]
        values: Values,
    },
    /// Predictions of the selected epoch, whole; replaces what an earlier selected epoch left.
    Predictions { epoch: u32, split: Split, classes: Vec<String>, rows: Vec<Prediction> },
    /// A checkpoint was written; everything up to this epoch is safe.
    Checkpoint { epoch: u32, best: bool },
    /// Something a user should know, and the report repeats.
    Warning { message: String },
    /// The run is complete. `best_epoch` is the selected one; `summary` its values, plus `seconds` and `images_per_second`.
    Finished {
        best_epoch: u32,
        #[serde(serialize_with = "finite")]
        summary: Values,
    },
    /// The attempt ended after this epoch, as far as it was asked to go; the run may go on from its checkpoint.
    Paused { epoch: u32 },
    /// This attempt ended without completing the run.
    Failed { cause: Cause, message: String },
}

/// What an attempt is made with, beside specification, data and seed. What could not be found out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Of the program.
    pub version: String,
    /// SHA-256 of the program's file.
    pub binary: Option<String>,
    /// Of the working directory; `None` outside of git.
    pub commit: Option<String>,
    /// What differed from that commit: a file in `provenance/` of the results folder.
    pub patch: Option<String>,
    /// Command line of the sweep.
    pub command: String,
    /// Name of the machine.
    pub host: String,
    /// Model of the processor; of the GPU and its driver where the run is on one.
    pub hardware: String,
    /// The most images of one forward pass, where memory forced fewer than a batch.
    pub micro_batch: Option<usize>,
}

/// One line of a run's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since the Unix epoch.
    pub time: f64,
    pub attempt: u32,
    #[serde(flatten)]
    pub event: Event,
}

/// Leaves out what is not a number, such as the AUC of a single class: JSON has no word for it.
fn finite<S: serde::Serializer>(values: &Values, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter().filter(|(_, value)| value.is_finite()))
}
