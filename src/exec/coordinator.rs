//! The one loop of a sweep: hands runs to workers, takes in what they journal, decides what comes after a failure. It is
//! the only writer of the store and the only one who talks to the terminal.

mod attempts;
mod branches;
mod orders;
mod room;

use super::{
    Outcome,
    clean::Budget,
    control::Mailbox,
    devices::Place,
    memory::{self, KernelKills, Known},
    mps::Mps,
    prefix::Follower,
    prepare,
    protocol::Assignment,
    retry::Breaker,
    sharing::Sharing,
    signals::Interrupts,
    slot::{Message, Worker},
    space::{Desk, Space},
    steering::Steering,
};
use crate::{
    error::Result,
    event::{Event, Origin},
    progress::{Label, Progress},
    store::Store,
    sweep::PlannedRun,
};
use orders::Aside;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

/// How long workers may take to write their checkpoints when a sweep is stopped.
const GRACE: Duration = Duration::from_secs(20);

/// How long the loop sleeps when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// A run to do.
pub struct Task {
    pub run: Rc<PlannedRun>,
    /// Pauses after this epoch; `None` goes to the end.
    pub until: Option<u32>,
    pub dir: PathBuf,
    /// The journal is in the store up to here.
    pub offset: u64,
    /// Attempts so far, over all commands.
    pub attempt: u32,
    /// Attempts of this command.
    tries: u32,
    micro_batch: Option<usize>,
    /// Not before.
    ready: Instant,
}

impl Task {
    /// A run whose journal is in the store up to `offset`, after so many attempts.
    pub fn new(run: Rc<PlannedRun>, dir: PathBuf, offset: u64, attempt: u32) -> Self {
        Self { run, until: None, dir, offset, attempt, tries: 0, micro_batch: None, ready: Instant::now() }
    }

    /// What the terminal calls it.
    pub fn label(&self) -> Label {
        Label {
            run: self.run.id.clone(),
            experiment: self.run.experiment.clone(),
            point: self.run.point.clone(),
            seed: self.run.seed,
            fold: self.run.fold(),
            epochs: self.run.spec.epochs,
            metric: self.run.spec.select.metric.clone(),
            log: self.dir.join(super::worker::LOG),
        }
    }
}

/// A place, its worker and the run it has.
struct Slot {
    place: Place,
    worker: Option<Worker>,
    task: Option<Task>,
    /// The attempt's last record, once the journal has it.
    end: Option<Event>,
}

/// One sweep at work.
pub struct Coordinator<'a> {
    pub store: Store,
    pub progress: &'a mut Progress,
    pub interrupts: &'a Interrupts,
    pub known: Known,
    /// Memory runs on the CPU share, in bytes; `None` where nobody counts.
    pub budget: Option<u64>,
    /// Where several runs may be on one GPU.
    pub sharing: Option<Sharing>,
    pub cache: PathBuf,
    /// What this process can say of the attempts it starts.
    pub origin: Origin,
    pub space: Space,
    pub disk: Option<Budget>,
    pub mailbox: Mailbox,
    /// Gives out tasks where results decide about them.
    pub steering: Option<Steering<'a>>,
    queue: VecDeque<Task>,
    /// Paused by another terminal.
    pub held: Vec<Task>,
    /// Left for the next sweep by another terminal.
    left: Vec<Task>,
    failed: Vec<Task>,
    /// Waiting for another run to come as far as both go together.
    pub followers: Vec<Follower>,
    /// Runs at work that were asked to stand aside.
    aside: BTreeMap<String, Aside>,
    /// Whether runs were paused while this sweep was at work.
    waits: bool,
    slots: Vec<Slot>,
    /// Lets workers share a GPU; ends after them.
    pub mps: Option<Mps>,
    inbox: Receiver<Message>,
    outbox: Sender<Message>,
    breaker: Breaker,
    kernel_kills: KernelKills,
    /// Once the sweep is stopping: when patience ends.
    stopping: Option<Instant>,
    outcome: Outcome,
}

impl<'a> Coordinator<'a> {
    /// With these tasks to do at these places; what else it knows is set on it.
    pub fn new(
        store: Store,
        progress: &'a mut Progress,
        interrupts: &'a Interrupts,
        out: &Path,
        tasks: Vec<Task>,
        places: Vec<Place>,
    ) -> Self {
        let cache = super::cache_path(out);
        let (outbox, inbox) = mpsc::channel();
        let slot = |place| Slot { place, worker: None, task: None, end: None };
        Self {
            store,
            progress,
            interrupts,
            known: Known::load(&cache),
            budget: None,
            sharing: None,
            cache,
            origin: Origin::default(),
            space: Space::new(out),
            disk: None,
            mailbox: Mailbox::new(out),
            steering: None,
            queue: tasks.into(),
            held: Vec::new(),
            left: Vec::new(),
            failed: Vec::new(),
            followers: Vec::new(),
            aside: BTreeMap::new(),
            waits: false,
            slots: places.into_iter().map(slot).collect(),
            mps: None,
            inbox,
            outbox,
            breaker: Breaker::default(),
            kernel_kills: KernelKills::new(),
            stopping: None,
            outcome: Outcome::default(),
        }
    }

    /// Runs until nothing is left to do or the sweep is stopped.
    pub fn run(mut self) -> Result<Outcome> {
        let result = self.work();
        if result.is_err() {
            // The workers write their checkpoints even when this process can no longer write anything.
            self.stop();
        }
        let deadline = Instant::now() + GRACE;
        for worker in self.slots.iter_mut().filter_map(|slot| slot.worker.as_mut()) {
            worker.wait(deadline.saturating_duration_since(Instant::now()));
        }
        self.mps = None;
        self.outcome.pending = self.queue.len() + self.held.len() + self.left.len() + self.followers.len();
        self.outcome.interrupted |= !self.left.is_empty();
        self.outcome.pruned = self.steering.as_ref().map_or(0, Steering::pruned);
        result.map(|()| self.outcome)
    }

    fn work(&mut self) -> Result<()> {
        loop {
            self.heed_interrupts();
            self.heed_requests()?;
            if self.stopping.is_none() && self.space.has_room(self.progress) {
                self.fill_slots()?;
            }
            let idle = self.slots.iter().all(|slot| slot.task.is_none());
            if idle && (self.stopping.is_some() || self.queue.is_empty()) && !self.waits_for_resume() {
                return Ok(());
            }
            if let Ok(message) = self.inbox.recv_timeout(TICK) {
                self.take(message)?;
            }
        }
    }

    fn heed_interrupts(&mut self) {
        let asked = self.interrupts.count();
        if asked > 0 && !self.outcome.interrupted {
            self.outcome.interrupted = true;
            self.progress.say("stopping: every run writes a checkpoint first; Ctrl-C again stops at once");
            self.stop();
        }
        if asked > 1 || self.stopping.is_some_and(|deadline| Instant::now() > deadline) {
            self.slots.iter_mut().filter_map(|slot| slot.worker.as_mut()).for_each(Worker::kill);
        }
    }

    /// Starts nothing new and asks every worker to write its checkpoint and leave.
    fn stop(&mut self) {
        self.stopping.get_or_insert(Instant::now() + GRACE);
        self.slots.iter_mut().filter_map(|slot| slot.worker.as_mut()).for_each(Worker::stop);
    }

    /// The store, to write what can wait for room and for others to let go of it.
    fn desk(&mut self) -> Desk<'_> {
        let Self { store, space, progress, interrupts, .. } = self;
        Desk { store, space, progress, interrupts }
    }

    /// Asks for further tasks where slots are free and nothing waits for them.
    fn refill(&mut self) -> Result<()> {
        // Slots of a GPU that is shared by measuring may stay empty, and what follows from results is decided late.
        let one_by_one = self.is_measured();
        let Some(mut steering) = self.steering.take() else { return Ok(()) };
        let now = Instant::now();
        let free = self.slots.iter().filter(|slot| slot.task.is_none()).count();
        let free = if one_by_one { free.min(1) } else { free };
        let ready = self.queue.iter().filter(|task| task.ready <= now).count();
        let tasks = steering.next(&mut self.desk(), free.saturating_sub(ready));
        self.steering = Some(steering);
        let tasks = tasks?;
        let held = if tasks.is_empty() { BTreeSet::new() } else { self.store.held()? };
        for task in tasks {
            self.progress.more(&task.label());
            match held.contains(&task.run.id) {
                true => self.held.push(task),
                false => self.queue.push_back(task),
            }
        }
        Ok(())
    }

    fn fill_slots(&mut self) -> Result<()> {
        self.refill()?;
        self.release_followers();
        for index in 0..self.slots.len() {
            if self.slots[index].task.is_some() {
                continue;
            }
            if self.queue.is_empty() {
                // Nothing left for this worker: its memory is better used by others.
                self.slots[index].worker = None;
            } else if let Some(task) = self.next(index) {
                self.assign(index, task)?;
            }
        }
        Ok(())
    }

    /// Gives a run to a slot.
    fn assign(&mut self, index: usize, mut task: Task) -> Result<()> {
        task.attempt += 1;
        task.tries += 1;
        self.progress.assigned(index, task.label());
        let place = self.slots[index].place.clone();
        let kind = memory::kind(&task.run.spec, &place.device);
        // What this run has learnt and what others have meanwhile: the smaller of both.
        task.micro_batch = task.micro_batch.into_iter().chain(self.known.micro_batch(&kind)).min();
        let begun = self.begin(index, &task, place);
        self.slots[index].end = None;
        self.slots[index].task = Some(task);
        match begun {
            Ok(()) => Ok(()),
            Err(error) => self.fail(index, error.cause, error.to_string()),
        }
    }

    fn begin(&mut self, index: usize, task: &Task, place: Place) -> Result<()> {
        prepare::write_spec(&task.dir, &task.run)?;
        let (threads, sharers) = self.portion(index, &place);
        let slot = &mut self.slots[index];
        if slot.worker.is_none() {
            let mps = self.mps.as_ref().map_or(Vec::new(), |mps| mps.environment().to_vec());
            slot.worker = Some(Worker::start(&place, &task.dir, self.outbox.clone(), &mps)?);
        }
        let assignment = Assignment {
            run: task.run.id.clone(),
            dir: task.dir.clone(),
            cache: self.cache.clone(),
            spec: task.run.spec.clone(),
            seed: task.run.seed,
            device: place.device,
            threads,
            attempt: task.attempt,
            until: task.until,
            micro_batch: task.micro_batch,
            sharers,
            origin: self.origin.clone(),
        };
        slot.worker.as_mut().map_or(Ok(()), |worker| worker.run(assignment))
    }
}
