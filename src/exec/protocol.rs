//! What coordinator and worker say to each other: one JSON object a line, orders on the worker's standard input, notices
//! on its standard output. What happens in a run goes through its journal, not through here.

use super::prepare::Task;
use crate::{data::Progress, error::Cause, event::Origin, spec::RunSpec};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// From the coordinator. The end of the stream means: finish what is running by a checkpoint and leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Run(Box<Assignment>),
    /// Images to make; then leave.
    Prepare(Box<Task>),
    /// Checkpoint, then leave.
    Stop,
}

/// One attempt at one run: everything a worker has to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub run: String,
    /// The run's folder: journal, log, checkpoints.
    pub dir: PathBuf,
    /// The cache of decoded images.
    pub cache: PathBuf,
    pub spec: RunSpec,
    pub seed: u64,
    /// `cpu`, `cuda:0`, ..
    pub device: String,
    pub threads: usize,
    pub attempt: u32,
    /// Pauses after this epoch; `None` trains to the end.
    pub until: Option<u32>,
    pub micro_batch: Option<usize>,
    /// Runs that may share the device, this one included.
    pub sharers: usize,
    pub origin: Origin,
}

/// From a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The run's journal has new lines.
    Grew,
    /// How far the images are.
    Preparing(Progress),
    /// The most bytes of its GPU's memory that the run has held so far, after a whole epoch.
    Held(u64),
    /// The same of a run that was stopped: it may come to hold more.
    HeldSoFar(u64),
    /// The attempt is over; without a failure the run is complete, or has come as far as it was asked to. A worker that is leaving takes no other run.
    Ended { failure: Option<Failure>, leaving: bool },
}

/// Why an attempt ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub cause: Cause,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_comes_back() {
        let notice = Notice::Ended {
            failure: Some(Failure { cause: Cause::NonFinite, message: "two\nlines".into() }),
            leaving: false,
        };
        let line = serde_json::to_string(&notice).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Notice>(&line).unwrap(), notice);
    }
}
