//! The worker process behind the hidden `runner exec`: takes one run after the other, keeps the data set and the thread
//! pool between them, and leaves when its coordinator does.

use super::{
    devices, images, journal, memory, prepare,
    protocol::{Assignment, Failure, Notice, Order},
    provenance, signals,
};
use crate::{
    error::{Cause, Context, Error, Result, log},
    event::{Event, Origin},
    tensor::{Device, gpu, safetensors},
    train::{self, Job},
};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, Write},
    os::fd::{AsFd, AsRawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

/// A run's log in its folder: standard output and error of everything that ran in it.
pub const LOG: &str = "log.txt";

/// How long a run may take to write its checkpoint once the coordinator is gone.
const GRACE: Duration = Duration::from_secs(20);

/// Takes runs from the coordinator on standard input until it closes or says stop.
pub fn worker() -> Result<()> {
    let notices = take_standard_output()?;
    leave_with_parent();
    let stop = signals::stop_flag()?;
    let orders = listen(stop.clone());
    let mut worker = Worker { notices, stop, images: images::Open::default(), pool: None, device: None };
    for order in orders {
        let (failure, leaving) = match order {
            Order::Run(assignment) => worker.run(&assignment),
            Order::Prepare(task) => (worker.prepare(&task).err(), true),
            Order::Stop => break,
        };
        let failure = failure.map(|error| Failure { cause: error.cause, message: error.to_string() });
        worker.notices.tell(&Notice::Ended { failure, leaving })?;
        if leaving {
            break;
        }
    }
    Ok(())
}

struct Worker {
    notices: Notices,
    stop: Arc<AtomicBool>,
    images: images::Open,
    pool: Option<(usize, rayon::ThreadPool)>,
    device: Option<(String, Device)>,
}

impl Worker {
    /// One attempt at one run. Returns what it failed by, and whether this process has to leave.
    fn run(&mut self, assignment: &Assignment) -> (Option<Error>, bool) {
        let failure = self.take(assignment).err();
        // What ran out of memory or panicked may have left anything behind: the slot gets a fresh process.
        let spoilt = failure.as_ref().is_some_and(|error| match error.cause {
            Cause::OutOfMemory | Cause::Bug => true,
            // A GPU that has failed once answers this process no more.
            Cause::Environment => assignment.device != "cpu",
            _ => false,
        });
        // Where memory is short, what the allocator keeps of one run would lack the next.
        (failure, spoilt || part_of_batch(assignment).is_some() || self.stop.load(SeqCst))
    }

    /// Images that networks make.
    fn prepare(&mut self, task: &prepare::Task) -> Result<()> {
        let tell = |news| {
            // The coordinator is gone, and the stop flag on its way.
            let _ = self.notices.tell(&Notice::Preparing(news));
        };
        catch_unwind(AssertUnwindSafe(|| task.run(&tell)))
            .unwrap_or_else(|panic| Err(Error::bug(panic_message("preparing images", &*panic))))
    }

    /// The same, but for what becomes of the process.
    fn take(&mut self, job: &Assignment) -> Result<()> {
        redirect_output(&job.dir.join(LOG))?;
        let (process, device, threads) = (std::process::id(), &job.device, job.threads);
        log(format_args!("attempt {} in process {process} on {device}, threads: {threads}", job.attempt));
        memory::reset_peak();
        let mut journal = journal::Writer::open(&job.dir, job.attempt)?;
        safetensors::remove_unfinished(&job.dir.join("checkpoints"))?;
        let result = match catch_unwind(AssertUnwindSafe(|| self.train(job, &mut journal))) {
            Ok(result) => result,
            Err(panic) => Err(Error::bug(panic_message("training", &*panic))),
        };
        if let Err(error) = &result {
            log(format_args!("error: {error}"));
            // The next attempt looks at its images anew.
            self.images = images::Open::default();
            journal.append(Event::Failed { cause: error.cause, message: error.to_string() })?;
            self.notices.tell(&Notice::Grew)?;
        }
        result
    }

    fn train(&mut self, assignment: &Assignment, journal: &mut journal::Writer) -> Result<()> {
        self.open_pool(assignment.threads)?;
        let device = self.open_device(&assignment.device)?;
        let data = self.images.of(assignment, &device)?;
        // Behind it: images that are no longer needed have left the device.
        gpu::share(&device, assignment.sharers)?;
        let Some((_, pool)) = &self.pool else { return Err(Error::bug("a worker without threads")) };
        let notices = &self.notices;
        let queue = gpu::Queue::of_device(&device)?;
        let mut ended = false;
        let mut emit = |event: Event| {
            ended |= matches!(event, Event::Finished { .. } | Event::Paused { .. });
            let begins = matches!(event, Event::Started { .. });
            let epoch_is_over = matches!(event, Event::Checkpoint { .. });
            journal.append(event)?;
            if begins {
                journal.append(origin(assignment))?;
            }
            notices.tell(&Notice::Grew)?;
            match queue.as_ref().filter(|_| epoch_is_over).map(gpu::Queue::held_memory).transpose()?.flatten() {
                Some(bytes) => notices.tell(&Notice::Held(bytes)),
                None => Ok(()),
            }
        };
        let warnings = data.notices().into_iter().chain(micro_batch_warning(assignment));
        warnings.into_iter().try_for_each(|message| emit(Event::Warning { message }))?;
        let job = Job {
            spec: &assignment.spec,
            seed: assignment.seed,
            data: &data,
            device,
            dir: &assignment.dir,
            until: assignment.until,
            threads: assignment.threads,
            attempt: assignment.attempt,
            micro_batch: assignment.micro_batch,
        };
        let stop = &self.stop;
        let result = pool.install(|| train::run(&job, &mut emit, stop));
        if let Some(queue) = queue.as_ref().filter(|_| stop.load(SeqCst))
            && let Some(bytes) = queue.held_memory()?
        {
            notices.tell(&Notice::HeldSoFar(bytes))?;
        }
        result?;
        match ended {
            true => Ok(()),
            false => Err(Error::bug("training ended without saying how")),
        }
    }

    fn open_device(&mut self, name: &str) -> Result<Device> {
        match &self.device {
            Some((open, device)) if open == name => Ok(device.clone()),
            _ => Ok(self.device.insert((name.into(), devices::open(name)?)).1.clone()),
        }
    }

    fn open_pool(&mut self, threads: usize) -> Result<()> {
        if self.pool.as_ref().is_none_or(|(open, _)| *open != threads) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            self.pool = Some((threads, pool.map_err(|error| Error::new(Cause::Environment, error))?));
        }
        Ok(())
    }
}

/// What the coordinator knows of an attempt's origin, and what only its worker does.
fn origin(job: &Assignment) -> Event {
    let hardware = provenance::hardware(&job.device);
    Event::Origin(Box::new(Origin { hardware, micro_batch: part_of_batch(job), ..job.origin.clone() }))
}

/// The images of a batch that memory holds at a time, where that is not the whole batch.
fn part_of_batch(job: &Assignment) -> Option<usize> {
    job.micro_batch.filter(|&micro_batch| micro_batch < job.spec.batch_size)
}

fn micro_batch_warning(job: &Assignment) -> Option<String> {
    let part = part_of_batch(job)?;
    Some(format!(
        "memory holds {part} of the {} images of a batch at a time; their gradients are accumulated, but batch \
         normalization sees the smaller batch",
        job.spec.batch_size
    ))
}

fn panic_message(what: &str, panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("{what} panicked: {}", text.unwrap_or("no message"))
}

/// The line to the coordinator.
struct Notices(File);

impl Notices {
    fn tell(&self, notice: &Notice) -> Result<()> {
        let mut line = serde_json::to_vec(notice).map_err(Error::bug)?;
        line.push(b'\n');
        match (&self.0).write_all(&line) {
            // The coordinator is gone: the journal has everything, and the stop flag is on its way.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => result.context(|| "cannot reach the coordinator".into()),
        }
    }
}

/// Keeps the real standard output for notices and sends what anyone prints to standard error, which is the run's log.
fn take_standard_output() -> Result<Notices> {
    let notices = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    duplicate(&std::io::stderr(), libc::STDOUT_FILENO)?;
    Ok(Notices(notices))
}

/// Sends standard output and error, panics and native libraries included, to a run's log.
fn redirect_output(log: &Path) -> Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(log).context(|| log.display().to_string())?;
    duplicate(&file, libc::STDOUT_FILENO)?;
    duplicate(&file, libc::STDERR_FILENO)
}

fn duplicate(from: &impl AsRawFd, to: libc::c_int) -> Result<()> {
    // SAFETY: `dup2` touches no memory; both descriptors are open, and `to` is one of the standard ones, which no Rust
    // object in this process owns.
    match unsafe { libc::dup2(from.as_raw_fd(), to) } {
        -1 => Err(std::io::Error::last_os_error().into()),
        _ => Ok(()),
    }
}

/// Asks the kernel for SIGTERM when the coordinator dies; the end of standard input says the same everywhere else.
fn leave_with_parent() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets one attribute of this process and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
    }
}

/// Hears orders on a thread of its own, so that a stop reaches a run at work.
fn listen(stop: Arc<AtomicBool>) -> mpsc::Receiver<Order> {
    let (sender, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Order::Stop) => stop.store(true, SeqCst),
                Ok(order) => {
                    if sender.send(order).is_err() {
                        break;
                    }
                }
                Err(error) => log(format_args!("order not understood: {error}: {line}")),
            }
        }
        stop.store(true, SeqCst);
        drop(sender);
        // Nobody is left to end this process if its run does not.
        std::thread::sleep(GRACE);
        log("the coordinator is gone and the run did not stop in time");
        std::process::exit(1);
    });
    orders
}
