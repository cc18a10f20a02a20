//! What the runs to come will cost, from past runs of the same kind on this machine; where there are none, from a few steps
//! taken on purpose. What is not known is said to be.

use super::{
    RunState, cache_path,
    devices::Place,
    images::data_key,
    memory::{self, Known},
    sharing,
    signals::Interrupts,
    solo::{Solo, Then},
    space, store_path,
};
use crate::{
    error::{Cause, Result},
    event::Event,
    spec::{Keep, RunSpec},
    store::{Estimate, Past, Store},
    sweep::PlannedRun,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

/// Steps of a probe, the first of which warm up.
const STEPS: u64 = 8;
const WARM_UP: u64 = 3;

/// How far a single measurement may be off, either way.
const DOUBT: f64 = 0.3;

/// A span of seconds, or of anything else that adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    pub low: f64,
    pub about: f64,
    pub high: f64,
}

impl Span {
    fn add(&mut self, other: Self, times: f64) {
        self.low += other.low * times;
        self.about += other.about * times;
        self.high += other.high * times;
    }

    fn over(self, parts: f64) -> Self {
        Self { low: self.low / parts, about: self.about / parts, high: self.high / parts }
    }

    /// From measurements; `None` without any. One alone may be off.
    fn of(values: &[f64]) -> Option<Self> {
        let (low, high) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        let about = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { low: low.min(about * (1.0 - DOUBT)), about, high: high.max(about * (1.0 + DOUBT)) })
    }
}

/// What is left of a plan costs this.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Price {
    /// Runs to do, and those among them of which nothing is known.
    pub runs: usize,
    pub unknown: usize,
    /// Runs at once.
    pub at_once: usize,
    /// Until the last run ends, in seconds.
    pub wall: Span,
    /// Seconds of a core, or of a GPU.
    pub device: Span,
    /// GPUs that runs are put on; 0 on the CPU.
    pub gpus: usize,
    /// Bytes of the machine's memory of all runs at once; `None` where none was measured.
    pub memory: Option<u64>,
    /// Bytes of memory of the GPU that gets most, as far as measured.
    pub gpu_memory: Option<u64>,
    /// Bytes that will be added to the disk, as far as known.
    pub disk: Option<u64>,
    /// Past runs this rests on.
    pub past: usize,
}

/// Prices what is left of a plan on these places.
pub fn price(out: &Path, plan: &[PlannedRun], states: &[RunState], places: &[Place]) -> Result<Price> {
    let memories = Memories::read(out)?;
    let device = places.first().map_or("cpu", |place| place.device.as_str());
    let gpus: BTreeSet<&str> = places.iter().map(|place| place.device.as_str()).filter(|name| *name != "cpu").collect();
    let mut price = Price { at_once: places.len(), gpus: gpus.len(), ..Price::default() };
    let (mut longest, mut seen) = (Span::default(), BTreeSet::new());
    let (mut peaks, mut gpu_peaks) = (Vec::new(), Vec::new());
    for (run, state) in plan.iter().zip(states) {
        let Some(epochs) = to_go(run, state).filter(|_| seen.insert(&run.id)) else { continue };
        price.runs += 1;
        let kind = memory::kind(&run.spec, device);
        peaks.extend(memories.known.measured(&kind));
        gpu_peaks.extend(memories.known.on_device(&kind));
        match memories.seconds_per_epoch(run, &kind) {
            Some(seconds) => {
                price.device.add(seconds, f64::from(epochs));
                let mut whole = Span::default();
                whole.add(seconds, f64::from(epochs));
                longest = if whole.about > longest.about { whole } else { longest };
            }
            None => price.unknown += 1,
        }
    }
    price.past = memories.past.len();
    price.at_once = price.at_once.min(price.runs.max(1));
    let shared = price.device.over(price.at_once as f64);
    let longer = |a: f64, b: f64| a.max(b);
    price.wall = Span {
        low: longer(shared.low, longest.low),
        about: longer(shared.about, longest.about),
        high: longer(shared.high, longest.high),
    };
    let threads = places.first().map_or(1, |place| place.threads) as f64;
    if price.gpus == 0 {
        price.device = price.device.over(1.0 / threads);
    }
    price.memory = largest(peaks, price.at_once);
    price.gpu_memory = largest(gpu_peaks, price.at_once.div_ceil(price.gpus.max(1)));
    price.disk = memories.disk(out, plan, states, price.at_once);
    Ok(price)
}

/// The sum of the `count` largest; `None` where there is none.
fn largest(mut values: Vec<u64>, count: usize) -> Option<u64> {
    values.sort_unstable_by(|a, b| b.cmp(a));
    (!values.is_empty()).then(|| values.iter().take(count).sum())
}

/// Epochs a run still has to do; `None` where it has finished.
fn to_go(run: &PlannedRun, state: &RunState) -> Option<u32> {
    match state {
        RunState::Partly { epoch, epochs } => Some(epochs.saturating_sub(*epoch)),
        RunState::Pending | RunState::Failed { .. } => Some(run.spec.epochs),
        _ => None,
    }
}

/// What earlier runs taught.
struct Memories {
    past: Vec<Past>,
    known: Known,
    /// Seconds of a step by kind.
    steps: BTreeMap<String, Vec<f64>>,
    /// Steps of an epoch by images and batch, as far as somebody asked.
    lengths: RefCell<BTreeMap<String, Option<u64>>>,
    /// Parameters by backbone.
    parameters: BTreeMap<String, u64>,
}

impl Memories {
    fn read(out: &Path) -> Result<Self> {
        let path = store_path(out);
        let past = if path.exists() { Store::read(&path)?.past()? } else { Vec::new() };
        let known = Known::load(&cache_path(out));
        let mut memories = Self {
            past: Vec::new(),
            known,
            steps: BTreeMap::new(),
            lengths: RefCell::default(),
            parameters: BTreeMap::new(),
        };
        for run in past {
            let Ok(spec) = toml::from_str::<RunSpec>(&run.spec) else { continue };
            let steps = u64::from(run.epochs) * run.steps_per_epoch;
            let kind = memory::kind(&spec, &run.device);
            memories.steps.entry(kind).or_default().push(run.seconds / steps.max(1) as f64);
            memories.lengths.get_mut().insert(length_key(&spec)?, Some(run.steps_per_epoch));
            memories.parameters.insert(spec.backbone.name, run.parameters);
            memories.past.push(run);
        }
        Ok(memories)
    }

    fn seconds_per_epoch(&self, run: &PlannedRun, kind: &str) -> Option<Span> {
        let probed = || self.known.step_seconds(kind).map(|seconds| vec![seconds]);
        let step = Span::of(&self.steps.get(kind).cloned().or_else(probed)?)?;
        let mut lengths = self.lengths.borrow_mut();
        let steps = (*lengths.entry(length_key(&run.spec).ok()?).or_insert_with(|| listed_steps(&run.spec)))?;
        let mut epoch = Span::default();
        epoch.add(step, steps as f64);
        Some(epoch)
    }

    /// Checkpoints that stay, and those that runs at work need beside.
    fn disk(&self, out: &Path, plan: &[PlannedRun], states: &[RunState], at_once: usize) -> Option<u64> {
        let left = plan.iter().zip(states).filter(|(run, state)| to_go(run, state).is_some());
        let mut stays = 0;
        let mut working = 0;
        for (run, _) in left {
            let weights = 4 * self.parameters.get(&run.spec.backbone.name)?;
            // Adam's two moments beside the weights; other rules need less, averages more.
            let resume = 3 * weights;
            // The last checkpoint, and the one before it.
            working = (2 * resume).max(working);
            let best = weights * run.spec.keep_best.unwrap_or(0) as u64;
            stays += best
                + match run.spec.keep {
                    Keep::Best => weights,
                    Keep::Last => resume,
                    Keep::All => weights + resume,
                    Keep::None => 0,
                };
        }
        Some(stays + working * at_once as u64 + images(out, plan))
    }
}

/// Equal for runs whose epochs have as many steps.
fn length_key(spec: &RunSpec) -> Result<String> {
    Ok(format!("{} {} {} {:?}", data_key(spec)?, spec.batch_size, spec.accumulate, spec.sampler))
}

/// Steps of an epoch, from the list of images.
fn listed_steps(spec: &RunSpec) -> Option<u64> {
    let images = spec.data.as_dyn().list().ok()?.train.len() as f64;
    let kept = spec.subset.as_ref().and_then(|subset| subset.fraction).unwrap_or(1.0);
    let folded = spec.fold.as_ref().map_or(1.0, |fold| 1.0 - 1.0 / f64::from(fold.of.max(2)));
    let batches = (images * kept * folded / spec.batch_size as f64).ceil();
    Some((batches / spec.accumulate as f64).ceil() as u64)
}

/// Bytes of decoded images that the cache does not hold yet.
fn images(out: &Path, plan: &[PlannedRun]) -> u64 {
    let cached: Vec<String> = std::fs::read_dir(cache_path(out))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let mut sets = BTreeMap::new();
    for run in plan {
        let size = run.spec.input.loaded();
        let Ok(key) = data_key(&run.spec) else { continue };
        sets.entry(key).or_insert((&run.spec.data, size));
    }
    let missing = |size: usize| !cached.iter().any(|name| name.contains(&format!("-{size}-")));
    let bytes = |(data, size): &(&crate::data::DataSpec, usize)| {
        let listing = data.as_dyn().list().ok()?;
        Some(((listing.train.len() + listing.val.len()) * size * size * 3) as u64)
    };
    sets.values().filter(|(_, size)| missing(*size)).filter_map(bytes).sum()
}

/// Takes a few steps of every kind of run to come of which nothing is known, and remembers what they cost.
pub fn probe(
    out: &Path,
    plan: &[PlannedRun],
    states: &[RunState],
    places: &[Place],
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let (Some(place), mut memories) = (places.first(), Memories::read(out)?) else { return Ok(()) };
    let interrupts = Interrupts::listen()?;
    std::fs::create_dir_all(cache_path(out))?;
    for (run, state) in plan.iter().zip(states) {
        let kind = memory::kind(&run.spec, &place.device);
        if to_go(run, state).is_none() || memories.seconds_per_epoch(run, &kind).is_some() {
            continue;
        }
        tell(&format!("probing {STEPS} steps of {}, {} px", run.spec.backbone.name, run.spec.input.size));
        let found = steps(out, run, place, &interrupts)?;
        memories.known.observe(&kind, found.peak);
        if let Some(held) = found.held {
            memories.known.observe_on_device(&kind, held + sharing::PROCESS);
        }
        if !found.seconds.is_finite() {
            // Too short to measure is too short to matter.
            continue;
        }
        memories.known.observe_step(&kind, found.seconds);
        memories.parameters.insert(run.spec.backbone.name.clone(), found.parameters);
        memories.steps.entry(kind).or_default().push(found.seconds);
    }
    Ok(())
}

/// What a probe found.
struct Found {
    seconds: f64,
    peak: u64,
    /// Of its GPU's memory.
    held: Option<u64>,
    parameters: u64,
}

fn steps(out: &Path, run: &PlannedRun, place: &Place, interrupts: &Interrupts) -> Result<Found> {
    let spec = RunSpec { log_every: 1, ..run.spec.clone() };
    let mut solo = Solo::new(out, &spec, run.seed, place.clone())?;
    let (mut first, mut last, mut parameters) = (None, None, 0);
    let failure = solo.attempt(interrupts, &mut |record| {
        match &record.event {
            Event::Started { parameters: found, .. } => parameters = *found,
            Event::Step { step, .. } if *step <= WARM_UP => first = Some((*step, record.time)),
            Event::Step { step, .. } => last = Some((*step, record.time)),
            _ => {}
        }
        if last.is_some_and(|(step, _)| step >= STEPS) { Then::Stop } else { Then::GoOn }
    })?;
    if let Some(failure) = failure.filter(|failure| failure.cause != Cause::Interrupted) {
        return Err(crate::error::Error::new(failure.cause, format!("the probe failed: {}", failure.message)));
    }
    let span = first.zip(last).map(|((from, began), (to, ended)): ((u64, f64), (u64, f64))| (ended - began, to - from));
    let seconds = span.map_or(f64::NAN, |(seconds, steps)| seconds / steps.max(1) as f64);
    Ok(Found { seconds, peak: solo.peak, held: solo.held, parameters })
}

impl Price {
    /// For the record, beside what it comes to.
    pub fn estimate(&self) -> Option<Estimate> {
        (self.unknown == 0 && self.runs > 0).then_some(Estimate {
            runs: self.runs,
            low: self.wall.low,
            about: self.wall.about,
            high: self.wall.high,
            device: self.device.about,
        })
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.runs == 0 {
            return writeln!(f, "nothing is left to do");
        }
        write!(f, "{} to do, {} at once: ", super::control::runs(self.runs), self.at_once)?;
        if self.unknown == self.runs {
            return writeln!(f, "how long is unknown, nothing like it ran here yet (`runner plan --probe` measures)");
        }
        let what = if self.gpus > 0 { "GPU" } else { "CPU" };
        let span = format!("{} to {}", time(self.wall.low), time(self.wall.high));
        write!(f, "about {} ({span}), about {} of {what} time", time(self.wall.about), time(self.device.about))?;
        let unknown = || "unknown".to_string();
        let [memory, gpu_memory, disk] = [self.memory, self.gpu_memory, self.disk]
            .map(|bytes| bytes.map_or_else(unknown, |b| format!("about {}", space::bytes(b))));
        match self.gpus {
            0 => write!(f, "; memory {memory}")?,
            1 => write!(f, "; GPU memory {gpu_memory}, memory beside it {memory}")?,
            _ => write!(f, "; memory of each GPU {gpu_memory}, memory beside them {memory}")?,
        }
        writeln!(f, ", disk {disk}")?;
        if self.unknown > 0 {
            let unknown = super::control::runs(self.unknown);
            writeln!(f, "without {unknown} of kinds that never ran here (`runner plan --probe` measures them)")?;
        }
        Ok(())
    }
}

/// `42 s`, `12 min`, `3.5 h`.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_make_a_span_and_one_alone_is_doubted() {
        assert_eq!(Span::of(&[]), None);
        let one = Span::of(&[10.0]).unwrap();
        assert_eq!((one.low, one.about, one.high), (7.0, 10.0, 13.0));
        let many = Span::of(&[5.0, 10.0, 15.0]).unwrap();
        assert_eq!((many.low, many.about, many.high), (5.0, 10.0, 15.0));
    }

    #[test]
    fn what_is_unknown_is_said_to_be() {
        let price = Price { runs: 3, unknown: 3, at_once: 2, ..Price::default() };
        assert!(price.to_string().contains("unknown"), "{price}");
        assert_eq!(price.estimate(), None);
        let wall = Span { low: 60.0, about: 100.0, high: 140.0 };
        let price = Price { runs: 3, unknown: 1, at_once: 2, wall, device: wall, ..Price::default() };
        let text = price.to_string();
        assert!(text.contains("about 2 min (60 s to 2 min)") && text.contains("without 1 run of kinds"), "{text}");
    }
    /// A run of this batch size, from a file.
    fn planned(batch_size: usize) -> PlannedRun {
        let spec = serde_json::json!({
            "data": { "synthetic": { "train": 40, "val": 4, "size": 32 } }, "epochs": 2, "batch_size": batch_size,
        });
        let spec: RunSpec = serde_json::from_value(spec).unwrap();
        PlannedRun { id: format!("{batch_size:016}"), experiment: "one".into(), point: Vec::new(), seed: 0, spec }
    }

    /// A results folder whose store holds such a run on a device, of ten seconds.
    fn results(run: &PlannedRun, device: &str) -> tempfile::TempDir {
        let out = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(cache_path(out.path())).unwrap();
        let spec = toml::to_string(&run.spec).unwrap();
        let new = crate::store::NewRun {
            id: run.id.clone(),
            experiment: "one".into(),
            point: String::new(),
            seed: 0,
            fold: None,
            spec: spec.clone(),
            data: String::new(),
        };
        let sweep = crate::store::NewSweep {
            name: "tiny",
            file: "",
            path: "",
            partial: false,
            experiments: &[("one".into(), spec)],
            runs: &[new],
        };
        let mut store = Store::open(&store_path(out.path())).unwrap();
        store.add_sweep(&sweep).unwrap();
        let started = Event::Started {
            attempt: 1,
            device: device.into(),
            threads: 1,
            epoch: 0,
            epochs: 2,
            steps_per_epoch: 10,
            parameters: 1000,
        };
        let trained = Event::Epoch { epoch: 2, split: crate::event::Split::Train, values: Default::default() };
        let record = |time, event| crate::event::Record { time, attempt: 1, event };
        store.ingest(&run.id, &[record(100.0, started), record(110.0, trained)], 1).unwrap();
        out
    }

    fn place(device: &str) -> Place {
        Place { device: device.into(), threads: 1 }
    }

    #[test]
    fn runs_for_gpus_are_priced_by_what_runs_took_of_one() {
        const GB: u64 = 1_000_000_000;
        let (small, large) = (planned(4), planned(8));
        let out = results(&small, "cuda:0");
        let plan = [small.clone(), PlannedRun { id: "another".into(), seed: 1, ..small.clone() }, large.clone()];
        let priced = |places: &[Place]| price(out.path(), &plan, &vec![RunState::Pending; 3], places).unwrap();
        let one = [place("cuda:0")];
        let text = priced(&one).to_string();
        assert!(text.contains("of GPU time; GPU memory unknown, memory beside it unknown, disk"), "{text}");

        let mut known = Known::load(&cache_path(out.path()));
        let kinds = [&small, &large].map(|run| memory::kind(&run.spec, "cuda:0"));
        known.observe(&kinds[0], 2 * GB);
        known.observe_on_device(&kinds[0], 5 * GB);
        known.observe_on_device(&kinds[1], 7 * GB);
        let text = priced(&one).to_string();
        assert!(text.contains("; GPU memory about 7.0 GB, memory beside it about 2.0 GB, disk"), "{text}");
        let two = priced(&[place("cuda:0"), place("cuda:0")]);
        assert_eq!((two.gpu_memory, two.memory), (Some(12 * GB), Some(4 * GB)), "the largest two share it");
        let of_two = priced(&[place("cuda:0"), place("cuda:1")]);
        assert_eq!(of_two.gpu_memory, Some(7 * GB), "one on each");
        assert!(of_two.to_string().contains("; memory of each GPU about 7.0 GB, memory beside them about 4.0 GB"));
        let text = priced(&[place("cpu")]).to_string();
        assert!(!text.contains("GPU memory"), "{text}");
    }
}
