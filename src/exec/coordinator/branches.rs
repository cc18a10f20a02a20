//! Runs that begin alike: what becomes of those that wait for another one.

use super::{Coordinator, Task};
use crate::{
    error::Result,
    exec::{catch_up, prefix},
};

impl Coordinator<'_> {
    /// A run has come as far as others go with it: they start from its checkpoint, and it goes on itself. Nothing happens
    /// where nobody waits for it.
    pub(super) fn branch(&mut self, mut leader: Task) -> Result<()> {
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.followers).into_iter().partition(|follower| follower.leader == leader.run.id);
        self.followers = waiting;
        if ready.is_empty() {
            return Ok(());
        }
        for mut follower in ready {
            let branch = |_: &mut _| prefix::branch(&leader, &follower);
            match self.space.patiently(self.progress, self.interrupts, branch) {
                Ok(()) => {
                    let task = &mut follower.task;
                    task.offset = self.desk().write(|store| catch_up(store, &task.run.id, &task.dir))?;
                }
                // Without a checkpoint it begins anew, which costs time and changes no number.
                Err(error) => self.progress.say(&format!("{error}; the run begins at its first epoch")),
            }
            self.queue.push_front(follower.task);
        }
        leader.until = None;
        leader.tries = 0;
        self.progress.more(&leader.label());
        self.queue.push_front(leader);
        Ok(())
    }

    /// Lets go of those whose leader will not come: it failed, was stopped, or ended early.
    pub(super) fn release_followers(&mut self) {
        if self.followers.is_empty() {
            return;
        }
        let at_work = self.slots.iter().filter_map(|slot| slot.task.as_ref());
        let alive: Vec<&String> = at_work.chain(&self.queue).chain(&self.held).map(|task| &task.run.id).collect();
        let (waiting, free): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.followers).into_iter().partition(|follower| alive.contains(&&follower.leader));
        self.followers = waiting;
        self.queue.extend(free.into_iter().map(|follower| follower.task));
    }
}
