//! Where the runs of a plan stand, before anything starts.

use super::{journal, run_folders, store_path};
use crate::{
    error::{Cause, Result},
    event::{Event, Split},
    store::{Standing, Status, Store},
    sweep::PlannedRun,
};
use std::{collections::BTreeMap, fmt, path::Path};

/// Where a planned run stands.
#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    Finished,
    /// Begun, and goes on after this epoch.
    Partly {
        epoch: u32,
        epochs: u32,
    },
    Pending,
    /// Given up on at this epoch, in favour of others.
    Pruned {
        epoch: u32,
        epochs: u32,
    },
    /// The next start tries again.
    Failed {
        message: String,
    },
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Partly { epoch, epochs } => write!(f, "goes on after epoch {epoch} of {epochs}"),
            Self::Pruned { epoch, epochs } => write!(f, "pruned after epoch {epoch} of {epochs}"),
            Self::Pending => f.write_str("to do"),
            Self::Failed { message } => write!(f, "failed, tried again: {message}"),
        }
    }
}

/// Where each planned run stands, in the plan's order, also by what workers journalled after their coordinator died. Starts
/// nothing and writes nothing.
pub fn states(plan: &[PlannedRun], out: &Path) -> Result<Vec<RunState>> {
    let path = store_path(out);
    let stored = match path.exists() {
        true => Store::read(&path)?.standings()?,
        false => BTreeMap::new(),
    };
    let folders = run_folders(out);
    let state = |run: &PlannedRun| {
        let (state, offset) = match stored.get(&run.id) {
            Some(found) => (from_store(found, run.spec.epochs), found.journal_offset),
            None => (RunState::Pending, 0),
        };
        let unread = folders.get(&run.id).map(|dir| journal::read(dir, offset)).transpose()?.unwrap_or_default();
        Ok(unread.records.iter().fold(state, |state, record| after(state, &record.event, run.spec.epochs)))
    };
    plan.iter().map(state).collect()
}

fn from_store(run: &Standing, epochs: u32) -> RunState {
    match run.status {
        Status::Finished => RunState::Finished,
        Status::Pruned => RunState::Pruned { epoch: run.epoch, epochs },
        Status::Failed => RunState::Failed { message: run.error.clone().unwrap_or_default() },
        Status::Pending | Status::Running => begun(run.epoch, epochs),
    }
}

fn begun(epoch: u32, epochs: u32) -> RunState {
    if epoch > 0 { RunState::Partly { epoch, epochs } } else { RunState::Pending }
}

/// The state behind one more event.
fn after(state: RunState, event: &Event, epochs: u32) -> RunState {
    match event {
        Event::Started { epoch, .. } | Event::Epoch { epoch, split: Split::Train, .. } => begun(*epoch, epochs),
        Event::Finished { .. } => RunState::Finished,
        Event::Failed { cause: Cause::Interrupted | Cause::DiskFull, .. } => state,
        Event::Failed { message, .. } => RunState::Failed { message: message.clone() },
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_found_where_its_last_event_left_it() {
        let train = |epoch| Event::Epoch { epoch, split: Split::Train, values: Default::default() };
        let failed = |cause| Event::Failed { cause, message: "why".into() };
        let stands = |events: &[Event]| events.iter().fold(RunState::Pending, |state, event| after(state, event, 9));
        assert_eq!(stands(&[]), RunState::Pending);
        assert_eq!(stands(&[train(1), train(2)]), RunState::Partly { epoch: 2, epochs: 9 });
        assert_eq!(stands(&[train(1), failed(Cause::Interrupted)]), RunState::Partly { epoch: 1, epochs: 9 });
        assert_eq!(stands(&[train(1), failed(Cause::Bug)]), RunState::Failed { message: "why".into() });
        assert_eq!(stands(&[failed(Cause::Bug), train(3)]), RunState::Partly { epoch: 3, epochs: 9 });
        let finished = Event::Finished { best_epoch: 1, summary: Default::default() };
        assert_eq!(stands(&[train(1), finished]), RunState::Finished);
    }
}
