//! Before the first run starts: every data set it needs is decoded and every synthesizer's images are made, once, with all
//! cores, so that a broken image is told before anything trains and workers only map what is there.

use super::{
    devices::Place,
    images::{self, data_key},
    protocol::Notice,
    signals::Interrupts,
    slot::{Worker, cause_of_death},
    solo::{GRACE, PREFIX},
};
use crate::{
    data,
    error::{Cause, Context, Error, Result},
    progress::Progress,
    spec::RunSpec,
    sweep::PlannedRun,
    synthesize,
    tensor::safetensors,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

/// Makes a run's folder and writes its specification into it.
pub fn write_spec(dir: &Path, run: &PlannedRun) -> Result<()> {
    let path = dir.join("spec.toml");
    let place = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(dir).context(place)?;
    let spec = toml::to_string(&run.spec).map_err(Error::bug)?;
    let text = format!("# run {} of experiment {}, seed {}\n{spec}", run.id, run.experiment, run.seed);
    std::fs::write(&path, text).context(place)
}

/// Makes what the cache does not hold yet, showing progress. `figures` gets a picture of what each experiment synthesizes;
/// networks make that on `place`.
pub fn prepare<'a>(
    runs: impl Iterator<Item = &'a PlannedRun>,
    out: &Path,
    figures: &Path,
    place: &Place,
    progress: &mut Progress,
    interrupts: &Interrupts,
) -> Result<()> {
    let (mut opened, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for run in runs {
        let shows = run.spec.synthesize.is_some() && shown.insert(&run.experiment);
        if opened.insert(data_key(&run.spec)?) || shows {
            let picture = figures.join(format!("synthesized-{}.png", run.experiment));
            let (spec, cache, device) = (run.spec.clone(), super::cache_path(out), place.device.clone());
            let task = Task { spec, cache, device, picture: shows.then_some(picture) };
            let trains = run.spec.synthesize.as_ref().is_some_and(|synthesizer| synthesizer.as_dyn().on_device());
            let result = match trains {
                true => open_elsewhere(task, out, place, progress, interrupts),
                false => open(task, progress, interrupts),
            };
            progress.data_done();
            result?;
        }
    }
    Ok(())
}

/// One data set to open, on which device what networks make is made, and where a picture of synthesized images goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    spec: RunSpec,
    cache: PathBuf,
    device: String,
    picture: Option<PathBuf>,
}

impl Task {
    pub fn run(&self, tell: &(dyn Fn(data::Progress) + Sync)) -> Result<()> {
        let data = images::open(&self.spec, &self.cache, &self.device, tell)?;
        let Some(path) = &self.picture else { return Ok(()) };
        match synthesize::sample_sheet(&data)? {
            Some(png) => safetensors::write_atomically(path, |file| Ok(file.write_all(&png)?)),
            None => Ok(()),
        }
    }
}

/// How often it is looked whether to go on.
const LOOK: Duration = Duration::from_millis(100);

fn interrupted() -> Error {
    Error::new(Cause::Interrupted, "stopped while preparing images; no run was started")
}

/// Opens one data set on a thread of its own: a data set that takes an hour must not take Ctrl-C with it.
fn open(task: Task, progress: &mut Progress, interrupts: &Interrupts) -> Result<()> {
    let (sender, news) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let tell = |news| {
            // Nobody listens any more when the sweep was stopped.
            let _ = sender.send(news);
        };
        task.run(&tell)
    });
    loop {
        match news.recv_timeout(LOOK) {
            Ok(news) => progress.data(news),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if thread.is_finished() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupts.count() > 0 {
            return Err(interrupted());
        }
    }
    let panicked = |_| Err(Error::bug("preparing the images panicked"));
    thread.join().unwrap_or_else(panicked)
}

/// Opens one data set in a worker, which takes what it held of the device's memory along when it leaves. Killed, it goes on
/// from its checkpoint the next time.
fn open_elsewhere(
    task: Task,
    out: &Path,
    place: &Place,
    progress: &mut Progress,
    interrupts: &Interrupts,
) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix(PREFIX).tempdir_in(out);
    let scratch = scratch.context(|| format!("cannot write to the results folder `{}`", out.display()))?;
    let (outbox, inbox) = mpsc::channel();
    let mut worker = Worker::start(place, scratch.path(), outbox, &[])?;
    worker.prepare(task)?;
    loop {
        match inbox.recv_timeout(LOOK).map(|message| message.notice) {
            Ok(Some(Notice::Preparing(news))) => progress.data(news),
            Ok(Some(Notice::Ended { failure, .. })) => {
                return failure.map_or(Ok(()), |failure| Err(Error::new(failure.cause, failure.message)));
            }
            Ok(Some(_)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(None) | Err(RecvTimeoutError::Disconnected) => {
                let (cause, message) = cause_of_death(worker.wait(GRACE), scratch.path(), false);
                return Err(Error::new(cause, format!("preparing images on {}: {message}", place.device)));
            }
        }
        if interrupts.count() > 0 {
            return Err(interrupted());
        }
    }
}
