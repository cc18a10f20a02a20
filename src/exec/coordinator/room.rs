//! Which run a slot gets next: one that memory holds beside those at work, on the host and on a GPU that is shared.

use super::{Coordinator, Task};
use crate::{
    error::Cause,
    exec::{
        devices::Place,
        memory::{self, kind},
        protocol::Failure,
        sharing::{self, Sharing},
    },
};
use std::time::Instant;

impl Coordinator<'_> {
    /// The first run whose pause is over, if memory holds it beside those at work. On a GPU that is shared by measuring, a
    /// later one that fits goes ahead of one that does not.
    pub(super) fn next(&mut self, index: usize) -> Option<Task> {
        let now = Instant::now();
        let mut ready = (0..self.queue.len()).filter(|&place| self.queue[place].ready <= now);
        let device = &self.slots[index].place.device;
        let position = match &self.sharing {
            Some(_) if device != "cpu" => ready.find(|&place| self.may_join(index, &self.queue[place]))?,
            _ => ready.next().filter(|&place| device != "cpu" || self.fits(&self.queue[place]))?,
        };
        let at_once = 1 + self.beside(index).count();
        if let Some(sharing) = &mut self.sharing {
            sharing.joined(&self.slots[index].place.device, at_once);
        }
        self.queue.remove(position)
    }

    /// A run alone always fits: refusing it would never end.
    fn fits(&self, task: &Task) -> bool {
        let expected = |task: &Task| self.known.expected(&kind(&task.run.spec, "cpu"), &task.run.spec);
        let taken: u64 = self.slots.iter().filter_map(|slot| slot.task.as_ref()).map(expected).sum();
        taken == 0 || self.budget.is_none_or(|budget| taken + expected(task) <= budget)
    }

    fn may_join(&self, index: usize, task: &Task) -> bool {
        let device = &self.slots[index].place.device;
        let expected = |task: &Task| self.known.on_device(&kind(&task.run.spec, device));
        let at_work: Vec<Option<u64>> = self.beside(index).map(expected).collect();
        self.sharing.as_ref().is_none_or(|sharing| sharing.may_join(device, &at_work, expected(task)))
    }

    /// The runs at work on a slot's device, its own aside.
    fn beside(&self, index: usize) -> impl Iterator<Item = &Task> {
        let device = &self.slots[index].place.device;
        let others = self.slots.iter().enumerate().filter(move |(other, _)| *other != index);
        others.filter(move |(_, slot)| slot.place.device == *device).filter_map(|(_, slot)| slot.task.as_ref())
    }

    /// Whether runs are added to a GPU by measuring.
    pub(super) fn is_measured(&self) -> bool {
        self.sharing.as_ref().is_some_and(Sharing::is_measured)
    }

    /// The threads a run gets, and how many may share its device. Places of a GPU that is shared by measuring count on all
    /// of its cores, of which a run that joins others takes a part.
    pub(super) fn portion(&self, index: usize, place: &Place) -> (usize, usize) {
        let sharers = self.slots.iter().filter(|slot| slot.place.device == place.device).count();
        let parts = if self.is_measured() { 1 + self.beside(index).count() } else { 1 };
        ((place.threads / parts).max(1), sharers)
    }

    /// Remembers what a run takes of the host's memory.
    pub(super) fn measure(&mut self, index: usize) {
        let slot = &self.slots[index];
        if let (Some(worker), Some(task)) = (&slot.worker, &slot.task)
            && let Some(peak) = memory::peak(worker.id())
        {
            self.known.observe(&kind(&task.run.spec, &slot.place.device), peak);
        }
    }

    /// Remembers what a run takes of its GPU's memory, from the bytes it held.
    pub(super) fn measure_on_device(&mut self, index: usize, held: u64) {
        let slot = &self.slots[index];
        if let Some(task) = &slot.task {
            self.known.observe_on_device(&kind(&task.run.spec, &slot.place.device), held + sharing::PROCESS);
        }
    }

    /// Lets runs take turns from now on where the daemon that lets them share a GPU refuses them.
    pub(super) fn give_up_mps(&mut self, failure: &Failure) {
        if failure.message.contains("CUDA_ERROR_MPS_")
            && let Some(mps) = self.mps.take()
        {
            self.progress.say("runs take turns on a GPU from now on: the MPS daemon refuses them");
            drop(mps);
        }
    }

    /// Whether memory ran out on a GPU where it may help to have fewer runs beside this one; then there will be fewer.
    pub(super) fn crowded(&mut self, index: usize, failure: &Failure) -> bool {
        let others = self.beside(index).count();
        let device = &self.slots[index].place.device;
        failure.cause == Cause::OutOfMemory
            && self.sharing.as_mut().is_some_and(|sharing| sharing.crowded(device, others))
    }
}
