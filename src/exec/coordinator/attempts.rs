//! What attempts come to: what workers say and journal, how they end, and what comes after.

use super::{Coordinator, GRACE, Slot, Task};
use crate::{
    error::{Cause, Result},
    event::{Event, Record},
    exec::{
        journal, memory,
        protocol::{Failure, Notice},
        retry::{self, Next},
        slot::{Message, cause_of_death},
    },
    progress::{Ending, Progress},
};
use std::time::{Duration, Instant};

impl Coordinator<'_> {
    /// Takes in what a worker says, or its death.
    pub(super) fn take(&mut self, message: Message) -> Result<()> {
        let from = |slot: &Slot| slot.worker.as_ref().is_some_and(|worker| worker.id() == message.worker);
        let Some(index) = self.slots.iter().position(from) else { return Ok(()) };
        match message.notice {
            Some(Notice::Grew) => self.ingest(index),
            // Images are made before there are runs; and what a run takes is known when it has come further.
            Some(Notice::Preparing(_) | Notice::HeldSoFar(_)) => Ok(()),
            Some(Notice::Held(bytes)) => {
                self.measure_on_device(index, bytes);
                Ok(())
            }
            Some(Notice::Ended { failure, leaving }) => {
                self.ingest(index)?;
                if leaving && let Some(mut worker) = self.slots[index].worker.take() {
                    worker.wait(GRACE);
                }
                match failure {
                    // Its worker could not write that down.
                    Some(failure) if self.slots[index].end.is_none() => {
                        self.fail(index, failure.cause, failure.message)
                    }
                    failure => self.settle(index, failure),
                }
            }
            None => self.bury(index),
        }
    }

    /// Takes new journal records into the store and onto the terminal.
    fn ingest(&mut self, index: usize) -> Result<()> {
        let slot = &mut self.slots[index];
        let Some(task) = &mut slot.task else { return Ok(()) };
        let tail = journal::read(&task.dir, task.offset)?;
        if tail.offset == task.offset {
            return Ok(());
        }
        let (store, run) = (&mut self.store, &task.run.id);
        let ingest = |_: &mut Progress| store.ingest(run, &tail.records, tail.offset);
        self.space.patiently(self.progress, self.interrupts, ingest)?;
        task.offset = tail.offset;
        if tail.damaged > 0 {
            self.progress.say(&format!(
                "damaged lines in the journal of {}, left out: {}",
                task.dir.display(),
                tail.damaged
            ));
        }
        for record in &tail.records {
            self.progress.record(index, record);
            if let Some(steering) = &mut self.steering {
                steering.saw(&task.run.id, &record.event);
            }
        }
        slot.end = last_words(&tail.records, task.attempt).or(slot.end.take());
        if tail.records.iter().any(|record| matches!(record.event, Event::Epoch { .. })) {
            self.measure(index);
        }
        Ok(())
    }

    /// A worker is gone, perhaps with its run.
    fn bury(&mut self, index: usize) -> Result<()> {
        let Some(mut worker) = self.slots[index].worker.take() else { return Ok(()) };
        let status = worker.wait(GRACE);
        self.ingest(index)?;
        let Some(task) = &self.slots[index].task else { return Ok(()) };
        match &self.slots[index].end {
            // It had written its last record and could not say so any more.
            Some(Event::Finished { .. } | Event::Paused { .. }) => self.settle(index, None),
            Some(Event::Failed { cause, message }) => {
                let failure = Failure { cause: *cause, message: message.clone() };
                self.settle(index, Some(failure))
            }
            _ => {
                let (cause, message) = match self.stopping {
                    Some(_) => (Cause::Interrupted, "stopped without a last checkpoint".into()),
                    None => cause_of_death(status, &task.dir, self.kernel_kills.rose()),
                };
                self.fail(index, cause, message)
            }
        }
    }

    /// Ends an attempt whose worker cannot write its journal any more.
    pub(super) fn fail(&mut self, index: usize, cause: Cause, message: String) -> Result<()> {
        if let Some(task) = &self.slots[index].task
            && !self.space.lacks(cause)
        {
            let event = Event::Failed { cause, message: message.clone() };
            let append = |_: &mut Progress| journal::Writer::open(&task.dir, task.attempt)?.append(event.clone());
            self.space.patiently(self.progress, self.interrupts, append)?;
        }
        self.ingest(index)?;
        self.settle(index, Some(Failure { cause, message }))
    }

    /// Decides what comes after an attempt.
    fn settle(&mut self, index: usize, failure: Option<Failure>) -> Result<()> {
        let Some(mut task) = self.slots[index].task.take() else { return Ok(()) };
        let aside = self.aside.remove(&task.run.id);
        let Some(failure) = failure else {
            if self.end(index) {
                return self.branch(task);
            }
            return self.disk.as_mut().map_or(Ok(()), |disk| disk.keep(&self.store, self.progress));
        };
        if self.space.lacks(failure.cause) {
            self.wait_for_room(index, task, aside, failure.message);
            return Ok(());
        }
        let batch = task.micro_batch.unwrap_or(task.run.spec.batch_size).min(task.run.spec.batch_size);
        self.give_up_mps(&failure);
        let next = match self.crowded(index, &failure) {
            true => Next::Again { pause: Duration::ZERO },
            false => retry::next(failure.cause, task.tries, batch),
        };
        let goes_on = next != Next::GiveUp || failure.cause == Cause::Interrupted;
        if goes_on && (self.stopping.is_some() || aside.is_some()) {
            return self.set_aside(index, task, aside);
        }
        let message = failure.message.clone();
        match next {
            Next::GiveUp => return self.give_up(index, task, failure),
            Next::Again { pause } => {
                task.ready = Instant::now() + pause;
                self.progress.ended(index, &Ending::Retried { message });
            }
            Next::Smaller { micro_batch } => {
                let kind = memory::kind(&task.run.spec, &self.slots[index].place.device);
                self.known.fits_only(&kind, micro_batch);
                task.micro_batch = Some(micro_batch);
                let message = format!("{message}; with {micro_batch} images at a time");
                self.progress.ended(index, &Ending::Retried { message });
            }
        }
        self.set_back(&task.run.id)?;
        match next {
            // The others learn from it how much memory holds.
            Next::Smaller { .. } => self.queue.push_front(task),
            _ => self.queue.push_back(task),
        }
        Ok(())
    }

    /// Counts an attempt that came as far as it was asked to; true where the run has more to do.
    fn end(&mut self, index: usize) -> bool {
        let paused = matches!(self.slots[index].end, Some(Event::Paused { .. }));
        if !paused {
            self.outcome.finished += 1;
        }
        self.progress.ended(index, if paused { &Ending::Paused } else { &Ending::Finished });
        paused
    }

    fn give_up(&mut self, index: usize, task: Task, failure: Failure) -> Result<()> {
        self.outcome.failed += 1;
        if let Some(steering) = &mut self.steering {
            steering.failed(&task.run.id);
        }
        let tries = if task.tries > 1 { format!(" ({} attempts)", task.tries) } else { String::new() };
        self.progress.ended(index, &Ending::Failed { message: format!("{}{tries}", failure.message) });
        if self.stopping.is_none() && self.breaker.trips(&task.run.id, &failure) {
            self.progress.say(&format!(
                "the sweep stops: three runs failed alike, and the rest would too ({}). Once the cause is gone, the same \
                 command goes on.",
                failure.message
            ));
            self.stop();
        }
        self.failed.push(task);
        Ok(())
    }
}

/// The record that ends an attempt, if these have it.
fn last_words(records: &[Record], attempt: u32) -> Option<Event> {
    let ends = |record: &&Record| {
        let last = matches!(record.event, Event::Finished { .. } | Event::Paused { .. } | Event::Failed { .. });
        record.attempt == attempt && last
    };
    records.iter().rev().find(ends).map(|record| record.event.clone())
}
