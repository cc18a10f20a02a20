//! What happens after a failed attempt, by its cause; and when a sweep had better stop.

use super::protocol::Failure;
use crate::error::Cause;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Attempts at one run within one command, where trying again can help.
pub const ATTEMPTS: u32 = 3;

/// Runs that fail alike before a sweep stops.
const ALIKE: usize = 3;

/// What comes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same again, from the last checkpoint, after a pause.
    Again { pause: Duration },
    /// Again with fewer images in one forward pass.
    Smaller { micro_batch: usize },
    /// The run has failed.
    GiveUp,
}

/// Decides by cause. `attempts` counts those of this command, this one included; `micro_batch` is what this one used.
pub fn next(cause: Cause, attempts: u32, micro_batch: usize) -> Next {
    match cause {
        Cause::OutOfMemory if micro_batch > 1 => Next::Smaller { micro_batch: micro_batch / 2 },
        Cause::Environment | Cause::Interrupted if attempts < ATTEMPTS => {
            Next::Again { pause: Duration::from_secs(u64::from(attempts)) }
        }
        _ => Next::GiveUp,
    }
}

/// Notices when runs fail alike: then it is the setup that is broken, and the rest would fail the same way.
#[derive(Debug, Default)]
pub struct Breaker {
    runs: BTreeMap<String, BTreeSet<String>>,
}

impl Breaker {
    /// Takes note of a failed run; true when the sweep should stop. A diverged loss is the finding of a run, not the
    /// setup's fault, and never stops the others.
    pub fn trips(&mut self, run: &str, failure: &Failure) -> bool {
        if failure.cause == Cause::NonFinite {
            return false;
        }
        let alike = self.runs.entry(essence(&failure.message, run)).or_default();
        alike.insert(run.to_string());
        alike.len() >= ALIKE
    }
}

/// A message without what differs from run to run: the run's id and numbers.
fn essence(message: &str, run: &str) -> String {
    let mut text = String::new();
    for letter in message.replace(run, "").chars() {
        match letter.is_ascii_digit() {
            true if text.ends_with('#') => {}
            true => text.push('#'),
            false => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_answer() {
        let again = |seconds| Next::Again { pause: Duration::from_secs(seconds) };
        assert_eq!(next(Cause::Environment, 1, 40), again(1));
        assert_eq!(next(Cause::Environment, 2, 40), again(2));
        assert_eq!(next(Cause::Environment, 3, 40), Next::GiveUp);
        assert_eq!(next(Cause::Interrupted, 1, 40), again(1));
        assert_eq!(next(Cause::OutOfMemory, 5, 40), Next::Smaller { micro_batch: 20 });
        assert_eq!(next(Cause::OutOfMemory, 1, 1), Next::GiveUp);
        for cause in [Cause::User, Cause::NonFinite, Cause::Bug, Cause::RunsFailed, Cause::DiskFull] {
            assert_eq!(next(cause, 1, 40), Next::GiveUp);
        }
    }

    #[test]
    fn three_runs_that_fail_alike_stop_the_sweep() {
        let mut breaker = Breaker::default();
        let failure = |message: &str| Failure { cause: Cause::Bug, message: message.into() };
        assert!(!breaker.trips("aa", &failure("aa: shape 3x4")));
        assert!(!breaker.trips("aa", &failure("aa: shape 3x5")));
        assert!(!breaker.trips("bb", &failure("something else")));
        assert!(!breaker.trips("bb", &failure("bb: shape 7x12")));
        assert!(breaker.trips("cc", &failure("cc: shape 7x9")));
    }

    #[test]
    fn diverged_runs_never_stop_the_others() {
        let mut breaker = Breaker::default();
        let failure = Failure { cause: Cause::NonFinite, message: "the loss became NaN".into() };
        assert!(!["a", "b", "c", "d"].iter().any(|run| breaker.trips(run, &failure)));
    }
}
