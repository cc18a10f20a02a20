//! Fans runs out: slots, worker processes, retries; the one event dispatcher; the one SQLite writer.
//!
//! A sweep is one loop ([`coordinator`]) around a worker process per slot ([`worker`]). A worker appends what happens to
//! its run's [`journal`]; the coordinator reads it by offset into the store. So nothing depends on the coordinator staying
//! alive, and nothing is counted twice.

mod clean;
pub mod control;
mod coordinator;
mod devices;
mod edit;
mod images;
mod journal;
mod load;
mod lock;
mod memory;
mod mps;
mod prefix;
mod prepare;
mod price;
mod protocol;
mod prove;
mod provenance;
mod reproduce;
mod retry;
mod sharing;
mod signals;
mod slot;
mod solo;
mod space;
mod state;
mod steering;
mod worker;

use crate::{
    data,
    error::{Context, Error, Result},
    progress::{Label, Progress},
    spec::{ExperimentFile, RunSpec, RunsPerGpu},
    store::{NewRun, NewSweep, Status, Store},
    sweep::{self, Fingerprint, PlannedRun},
    tensor::safetensors,
};
pub use clean::{Cleaned, clean};
use coordinator::{Coordinator, Task};
pub use devices::{cuda_report, open as open_device};
pub use edit::Edit;
pub use price::Price;
pub use prove::prove;
pub use reproduce::{Reproduced, reproduce};
use signals::Interrupts;
pub use state::{RunState, states};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    rc::Rc,
};
use steering::Steering;
pub use steering::decided;
pub use worker::worker;

/// How a sweep is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The results folder.
    pub out: PathBuf,
    /// Runs at once; `None` measures.
    pub jobs: Option<usize>,
    /// `auto`, `cpu`, `cuda:0`, ..
    pub devices: Vec<String>,
    /// Runs at once on each GPU, where `jobs` does not say.
    pub runs_per_gpu: RunsPerGpu,
}

impl Options {
    /// Those that the command line gives for a file.
    pub fn new(file: &ExperimentFile, out: &Path, jobs: Option<usize>, devices: &[String]) -> Self {
        let runs_per_gpu = file.sweep.runs_per_gpu;
        Self { out: out.to_path_buf(), jobs, devices: devices.to_vec(), runs_per_gpu }
    }

    /// Where runs may go, at most; of those that are added by measuring nobody knows yet whether there will be any.
    fn places(&self, devices: &[String], runs: usize) -> Vec<devices::Place> {
        devices::places(devices, self.jobs, self.runs_per_gpu, runs, devices::cores())
    }

    /// Where runs go in any case.
    fn sure_places(&self, devices: &[String], runs: usize) -> Vec<devices::Place> {
        let runs_per_gpu = match self.runs_per_gpu {
            RunsPerGpu::Auto => RunsPerGpu::default(),
            count => count,
        };
        Self { runs_per_gpu, ..self.clone() }.places(devices, runs)
    }
}

/// What a sweep came to, in runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub finished: usize,
    /// Finished before, by this sweep or another one.
    pub reused: usize,
    pub failed: usize,
    /// Given up on early, in favour of others.
    pub pruned: usize,
    /// Left to do: interrupted, or given up on after others failed alike.
    pub pending: usize,
    pub interrupted: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { finished, reused, failed, pruned, pending, .. } = self;
        let runs = control::runs(*finished);
        write!(f, "{runs} finished, {reused} finished before, {failed} failed, {pending} left")?;
        if *pruned > 0 { write!(f, ", {pruned} pruned") } else { Ok(()) }
    }
}

/// Whether runs on these devices (`auto`, `cpu`, `cuda:0`, ..) are computed by CUDA.
///
/// # Errors
/// Where some are and some are not: the same run would come to other numbers on another device.
pub fn on_cuda(devices: &[String]) -> Result<bool> {
    let devices = devices::resolve(devices)?;
    match devices.iter().filter(|device| *device != "cpu").count() {
        0 => Ok(false),
        all if all == devices.len() => Ok(true),
        _ => {
            Err(Error::user(format!("--device {}: a sweep runs on the CPU or on CUDA, not on both", devices.join(","))))
        }
    }
}

/// What a plan changes of its sweep as it was last run; `None` where that is nothing, or it was never run. Writes nothing.
pub fn edited(file: &ExperimentFile, plan: &[PlannedRun], out: &Path) -> Result<Option<Edit>> {
    let path = store_path(out);
    if path.exists() { edit::edit(&Store::read(&path)?, file, plan) } else { Ok(None) }
}

/// What is left of a plan costs, as these options would run it; probes what nothing is known of where `tell` is given.
pub fn price(plan: &[PlannedRun], options: &Options, tell: Option<&mut dyn FnMut(&str)>) -> Result<Price> {
    let (out, states) = (&options.out, states(plan, &options.out)?);
    let devices = devices::resolve(&options.devices)?;
    let left = states.iter().filter(|state| **state != RunState::Finished).count();
    let places = options.sure_places(&devices, left);
    if let Some(tell) = tell {
        price::probe(out, plan, &states, &places, tell)?;
    }
    price::price(out, plan, &states, &places)
}

/// The results folder's SQLite file.
pub fn store_path(out: &Path) -> PathBuf {
    out.join("runner.sqlite")
}

/// The cache of decoded images, shared by every sweep of a results folder.
pub fn cache_path(out: &Path) -> PathBuf {
    out.join("cache")
}

/// Runs what is missing and returns when nothing is left to do.
///
/// # Errors
/// The user's mistakes and a results folder that cannot be written, before anything starts. A run that fails is no error
/// but a number in the outcome.
pub fn sweep(file: &ExperimentFile, plan: &[PlannedRun], options: &Options) -> Result<Outcome> {
    let devices = devices::resolve(&options.devices)?;
    let (out, cache) = (&options.out, cache_path(&options.out));
    let (interrupts, mut progress) = (Interrupts::listen()?, Progress::new());
    let _lock = take_folder(out, &file.name, &interrupts, &mut progress)?;
    let mut store = Store::open(&store_path(out))?;
    if let Some(edit) = edit::edit(&store, file, plan)? {
        progress.say(edit.to_string().trim_end());
    }
    record_plan(&mut store, file, plan, &cache)?;
    let fingerprint = fingerprints(&cache);
    let steering = match sweep::is_adaptive(file) {
        true => Some(Steering::new(&mut store, file, plan, &fingerprint, out)?),
        false => None,
    };
    let (tasks, reused) = missing(&mut store, file, plan, out)?;
    let (held, tasks) = part_held(&store, tasks)?;
    if !held.is_empty() {
        let held = control::runs(held.len());
        progress.say(&format!("left out: {held} paused; `runner resume {}` lets them go on", file.name));
    }
    let price = price(plan, options, None)?;
    if let Some(estimate) = price.estimate().filter(|_| steering.is_none()) {
        store.add_estimate(&file.name, &estimate)?;
    }
    if tasks.is_empty() && steering.is_none() {
        return Ok(Outcome { reused, pending: held.len(), ..Outcome::default() });
    }
    for line in file.images().iter().chain(&sweep::twins(plan)) {
        progress.say(line);
    }
    let figures = out.join(&file.name).join("figures");
    let whole = devices::Place { device: devices[0].clone(), threads: devices::cores() };
    space::Space::new(out).patiently(&mut progress, &interrupts, |progress| {
        prepare::prepare(tasks.iter().map(|task| &*task.run), out, &figures, &whole, progress, &interrupts)
    })?;

    if let Some(why) = devices::why_cpu(&options.devices) {
        progress.say(&why);
    }
    progress.say(price.to_string().trim_end());
    let disk = file.sweep.disk.map(|bytes| clean::Budget::new(&file.name, out, bytes));
    let (tasks, followers) = match file.sweep.share_prefix && steering.is_none() {
        true => prefix::arrange(tasks, &cache, &devices[0])?,
        false => (tasks, Vec::new()),
    };
    let work = Work { tasks, followers, held, steering, disk };
    let result = coordinate(store, work, reused, options, &devices, &mut progress, &interrupts);
    progress.close();
    let outcome = Outcome { reused, ..result? };
    if outcome.interrupted {
        let left = control::runs(outcome.pending);
        progress.say(&format!("stopped with {left} to go; the same command goes on from here"));
    }
    Ok(outcome)
}

/// Makes a results folder ready for a sweep and nobody else.
fn take_folder(out: &Path, sweep: &str, interrupts: &Interrupts, progress: &mut Progress) -> Result<lock::FolderLock> {
    let place = || format!("cannot write to the results folder `{}` (--out names another)", out.display());
    std::fs::create_dir_all(out.join(sweep)).context(place)?;
    std::fs::create_dir_all(cache_path(out)).context(place)?;
    let lock = lock::FolderLock::take(out, &lock::holder(sweep), interrupts, |who| {
        progress.say(&format!(
            "{} is in use by {who}; waiting for it, then doing what is left (`runner stop` ends it sooner)",
            out.display()
        ));
    })?;
    control::Mailbox::new(out).clear();
    remove_leftovers(&out.join(sweep))?;
    Ok(lock)
}

/// What a sweep starts from.
struct Work<'a> {
    tasks: Vec<Task>,
    /// Runs that wait for one of these to come as far as both go together.
    followers: Vec<prefix::Follower>,
    /// Paused by another terminal.
    held: Vec<Task>,
    steering: Option<Steering<'a>>,
    disk: Option<clean::Budget>,
}

/// Runs the tasks on as many workers as the machine carries.
fn coordinate(
    store: Store,
    work: Work,
    reused: usize,
    options: &Options,
    devices: &[String],
    progress: &mut Progress,
    interrupts: &Interrupts,
) -> Result<Outcome> {
    let Work { tasks, followers, held, steering, disk } = work;
    let to_do = tasks.len() + followers.len();
    let most = if steering.is_some() { usize::MAX } else { to_do };
    let (places, sure) = (options.places(devices, most), options.sure_places(devices, most).len());
    progress.say(&opening(to_do, reused, &places, sure));
    let following = followers.iter().map(|follower| &follower.task);
    let labels: Vec<Label> = tasks.iter().chain(following).chain(&held).map(Task::label).collect();
    progress.plan(labels.iter(), labels.len() + reused, sure);
    // Results decide about the order of an adaptive sweep: its director gives out the tasks.
    let (queue, held) = if steering.is_some() { Default::default() } else { (tasks, held) };
    let sharing = share(options, devices, &places, progress);
    let mut coordinator = Coordinator::new(store, progress, interrupts, &options.out, queue, places);
    if let Some((sharing, mps)) = sharing {
        (coordinator.sharing, coordinator.mps) = (Some(sharing), mps);
    }
    (coordinator.held, coordinator.steering) = (held, steering);
    (coordinator.followers, coordinator.disk) = (followers, disk);
    coordinator.origin = provenance::origin(&options.out)?;
    // Who names a number of jobs has counted for himself.
    coordinator.budget = if options.jobs.is_some() { None } else { memory::available().map(|free| free / 10 * 9) };
    coordinator.run()
}

/// How runs share GPUs, where several may, and the daemon that lets them.
fn share(
    options: &Options,
    devices: &[String],
    places: &[devices::Place],
    progress: &mut Progress,
) -> Option<(sharing::Sharing, Option<mps::Mps>)> {
    if places.len() <= devices.len() || devices.iter().all(|device| device == "cpu") {
        return None;
    }
    // Who names a number of jobs has counted for himself.
    let rule = options.jobs.map_or(options.runs_per_gpu, RunsPerGpu::Count);
    let load = if rule == RunsPerGpu::Auto { load::Load::watch() } else { load::Load::default() };
    let gpus = devices.iter().map(|device| (device.clone(), devices::gpu(device))).collect();
    let (said, mps) = match mps::start(&cache_path(&options.out)) {
        mps::Way::SideBySide(mps) => {
            ("run side by side on a GPU: an MPS daemon is there for this sweep".into(), Some(mps))
        }
        mps::Way::Theirs => ("run side by side on a GPU, through the MPS daemon that is there already".into(), None),
        mps::Way::Turns(why) => (format!("take turns on a GPU: no MPS daemon ({why})"), None),
    };
    progress.say(&format!("runs {said}"));
    Some((sharing::Sharing::new(rule, gpus, load), mps))
}

fn opening(to_do: usize, reused: usize, places: &[devices::Place], sure: usize) -> String {
    let devices: BTreeSet<&str> = places.iter().map(|place| place.device.as_str()).collect();
    let devices = devices.into_iter().collect::<Vec<_>>().join(", ");
    let before = if reused > 0 { format!(", {reused} finished before") } else { String::new() };
    let threads = places.first().map_or(1, |place| place.threads);
    let more = if places.len() > sure { format!(" (up to {}, as they fit)", places.len()) } else { String::new() };
    let to_do = control::runs(to_do);
    format!("{to_do} to do{before}; {sure} at once{more} on {devices}, threads each: {threads}")
}

/// Removes what a sweep that was killed over its report left there.
fn remove_leftovers(sweep: &Path) -> Result<()> {
    [sweep, &sweep.join("figures")].into_iter().try_for_each(safetensors::remove_unfinished)
}

/// Writes the sweep and its runs into the store.
fn record_plan(store: &mut Store, file: &ExperimentFile, plan: &[PlannedRun], cache: &Path) -> Result<()> {
    let resolved = |spec| toml::to_string(spec).map_err(Error::bug);
    let experiments =
        file.experiments.iter().map(|experiment| Ok((experiment.name.clone(), resolved(&experiment.spec)?)));
    let fingerprint = fingerprints(cache);
    if file.sweep.race.is_none() {
        store.set_losses(&file.name, &[])?;
    }
    let runs: Vec<NewRun> = plan.iter().map(|run| new_run(run, &fingerprint)).collect::<Result<_>>()?;
    store.add_sweep(&NewSweep {
        name: &file.name,
        file: &file.text,
        path: &file.path.display().to_string(),
        partial: file.partial,
        experiments: &experiments.collect::<Result<Vec<_>>>()?,
        runs: &runs,
    })
}

/// A run as the store takes it.
fn new_run(run: &PlannedRun, fingerprint: &Fingerprint) -> Result<NewRun> {
    Ok(NewRun {
        id: run.id.clone(),
        experiment: run.experiment.clone(),
        point: label(&run.point),
        seed: run.seed,
        fold: run.fold(),
        spec: toml::to_string(&run.spec).map_err(Error::bug)?,
        data: fingerprint(&run.spec)?,
    })
}

/// Tells the fingerprints of data sets, each computed once; `cache` keeps the index of their contents.
pub fn fingerprints(cache: &Path) -> impl Fn(&RunSpec) -> Result<String> + use<> {
    let (cache, known) = (cache.to_path_buf(), RefCell::new(BTreeMap::<String, String>::new()));
    move |spec| {
        let source = serde_json::to_string(&spec.data).map_err(Error::bug)?;
        if let Some(data) = known.borrow().get(&source) {
            return Ok(data.clone());
        }
        let data = data::fingerprint(&spec.data, &cache)?;
        known.borrow_mut().insert(source, data.clone());
        Ok(data)
    }
}

/// What the axes set for a run, as the store keeps it.
fn label(point: &[(String, String)]) -> String {
    point.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>().join(", ")
}

/// Takes in what workers journalled while nobody listened, then tells which runs are left to do and how many are not.
fn missing(store: &mut Store, file: &ExperimentFile, plan: &[PlannedRun], out: &Path) -> Result<(Vec<Task>, usize)> {
    let folders = run_folders(out);
    let mut seen = BTreeSet::new();
    let mut tasks = Vec::new();
    for run in plan.iter().filter(|run| seen.insert(&run.id)) {
        let own = || out.join(&file.name).join("runs").join(&run.id);
        let dir = folders.get(&run.id).cloned().unwrap_or_else(own);
        if store.status(&run.id)? == Some(Status::Finished) {
            continue;
        }
        let offset = catch_up(store, &run.id, &dir)?;
        match store.status(&run.id)? {
            Some(Status::Finished) => continue,
            Some(Status::Running | Status::Failed | Status::Pruned) => store.reset(&run.id)?,
            Some(Status::Pending) | None => {}
        }
        let attempts = journal::attempts(&dir)?;
        tasks.push(Task::new(Rc::new(run.clone()), dir, offset, attempts));
    }
    let reused = seen.len() - tasks.len();
    Ok((tasks, reused))
}

/// The tasks that are paused, and the others.
fn part_held(store: &Store, tasks: Vec<Task>) -> Result<(Vec<Task>, Vec<Task>)> {
    let held = store.held()?;
    Ok(tasks.into_iter().partition(|task| held.contains(&task.run.id)))
}

/// Takes in what a run's journal has beyond the store; returns where it ends.
fn catch_up(store: &mut Store, run: &str, dir: &Path) -> Result<u64> {
    let offset = store.journal_offset(run)?;
    let tail = journal::read(dir, offset)?;
    if tail.offset != offset {
        store.ingest(run, &tail.records, tail.offset)?;
    }
    Ok(tail.offset)
}

/// Every run's folder, whichever sweep it was made for: one run has one journal.
fn run_folders(out: &Path) -> BTreeMap<String, PathBuf> {
    let children = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let runs = children(out).flat_map(|sweep| children(&sweep.join("runs")).collect::<Vec<_>>());
    runs.filter_map(|dir| Some((dir.file_name()?.to_str()?.to_string(), dir))).collect()
}
