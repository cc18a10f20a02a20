//! What the coordinator does when another terminal asks: stop, pause, resume, retry.

use super::{Coordinator, Task};
use crate::{
    error::Result,
    exec::control::{Action, Request, runs},
    progress::Ending,
};
use std::collections::BTreeSet;

/// What becomes of a run at work that was asked to write its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// It waits until it is resumed.
    Held,
    /// It is left for the next sweep.
    Left,
    /// It was resumed before its checkpoint was written: back into the queue.
    Back,
}

impl Coordinator<'_> {
    /// Does what was asked since the last look.
    pub(super) fn heed_requests(&mut self) -> Result<()> {
        for (path, request) in self.mailbox.waiting() {
            let answer = self.obey(&request)?;
            self.progress.say(&answer);
            self.mailbox.answer(&path, &answer);
        }
        Ok(())
    }

    fn obey(&mut self, request: &Request) -> Result<String> {
        match request.action {
            Action::Stop => {
                // Also those that are paused: the next sweep goes on with all of them.
                self.hold(&request.runs, false)?;
                Ok(self.put_aside(&request.runs, Aside::Left))
            }
            Action::Pause => {
                self.hold(&request.runs, true)?;
                self.waits = true;
                Ok(self.put_aside(&request.runs, Aside::Held))
            }
            Action::Resume => self.resume(&request.runs),
            Action::Retry => self.retry(&request.runs),
        }
    }

    /// Writes into the store which runs are paused; those of other sweeps, too.
    fn hold(&mut self, runs: &BTreeSet<String>, held: bool) -> Result<()> {
        runs.iter().try_for_each(|run| self.desk().write(|store| store.hold(run, held)))
    }

    /// Takes runs out of the queue, and asks those at work for a checkpoint.
    fn put_aside(&mut self, asked: &BTreeSet<String>, aside: Aside) -> String {
        let (out, stay): (Vec<Task>, Vec<Task>) =
            std::mem::take(&mut self.queue).into_iter().partition(|task| asked.contains(&task.run.id));
        self.queue = stay.into();
        let (followers, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.followers).into_iter().partition(|follower| asked.contains(&follower.task.run.id));
        self.followers = stay;
        let out: Vec<Task> = out.into_iter().chain(followers.into_iter().map(|follower| follower.task)).collect();
        let mut waiting = out.len();
        let place = if aside == Aside::Held { &mut self.held } else { &mut self.left };
        place.extend(out);
        let mut at_work = 0;
        for slot in &mut self.slots {
            let Some(task) = slot.task.as_ref().filter(|task| asked.contains(&task.run.id)) else { continue };
            at_work += 1;
            self.aside.insert(task.run.id.clone(), aside);
            if let Some(worker) = &mut slot.worker {
                worker.stop();
            }
        }
        // A run that was paused and is now stopped waits no longer.
        if aside == Aside::Left {
            let (out, stay) = std::mem::take(&mut self.held).into_iter().partition(|task| asked.contains(&task.run.id));
            self.held = stay;
            let out: Vec<Task> = out;
            waiting += out.len();
            self.left.extend(out);
        }
        let done = if aside == Aside::Held { "paused" } else { "stopped" };
        let (at_work, waiting) = (runs(at_work), runs(waiting));
        format!("{done}: {at_work} at work, after a checkpoint; {waiting} waiting")
    }

    fn resume(&mut self, asked: &BTreeSet<String>) -> Result<String> {
        self.hold(asked, false)?;
        let (out, stay): (Vec<Task>, Vec<Task>) =
            std::mem::take(&mut self.held).into_iter().partition(|task| asked.contains(&task.run.id));
        self.held = stay;
        let mut count = out.len();
        for (_, aside) in self.aside.iter_mut().filter(|(run, _)| asked.contains(*run)) {
            *aside = Aside::Back;
            count += 1;
        }
        out.into_iter().rev().for_each(|task| self.queue.push_front(task));
        Ok(format!("resumed: {}", runs(count)))
    }

    fn retry(&mut self, asked: &BTreeSet<String>) -> Result<String> {
        let (out, stay): (Vec<Task>, Vec<Task>) =
            std::mem::take(&mut self.failed).into_iter().partition(|task| asked.contains(&task.run.id));
        self.failed = stay;
        let count = out.len();
        for mut task in out {
            self.set_back(&task.run.id)?;
            task.tries = 0;
            self.outcome.failed -= 1;
            self.progress.tried_again(&task.label());
            self.queue.push_back(task);
        }
        Ok(format!("tried again: {}", runs(count)))
    }

    /// Sets a run back to pending in the store.
    pub(super) fn set_back(&mut self, run: &str) -> Result<()> {
        self.desk().write(|store| store.reset(run))
    }

    /// Puts a run whose attempt was broken off where it was asked to go, or back into the queue of a sweep that stops.
    pub(super) fn set_aside(&mut self, index: usize, mut task: Task, aside: Option<Aside>) -> Result<()> {
        task.tries -= 1;
        self.set_back(&task.run.id)?;
        self.progress.ended(index, &Ending::Stopped);
        match aside {
            Some(Aside::Held) => self.held.push(task),
            Some(Aside::Left) => self.left.push(task),
            Some(Aside::Back) | None => self.queue.push_back(task),
        }
        Ok(())
    }

    /// A run that lacked room goes on from its last checkpoint once there is some; that is no failed try.
    pub(super) fn wait_for_room(&mut self, index: usize, mut task: Task, aside: Option<Aside>, message: String) {
        self.progress.ended(index, &Ending::Retried { message });
        self.space.ran_out(self.progress);
        task.tries -= 1;
        // Where that cannot be written either, the next sweep does it.
        let _ = self.store.reset(&task.run.id);
        match aside {
            Some(Aside::Held) => self.held.push(task),
            Some(Aside::Left) => self.left.push(task),
            Some(Aside::Back) | None => self.queue.push_front(task),
        }
    }

    /// Whether paused runs keep the sweep alive: somebody paused them while it was at work and can resume them.
    pub(super) fn waits_for_resume(&self) -> bool {
        self.waits && !self.held.is_empty() && self.stopping.is_none()
    }
}
