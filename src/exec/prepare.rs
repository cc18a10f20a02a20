//! Before the first run starts: every data set it needs is decoded and every synthesizer's images are made, once, with all
//! cores, so that a broken image is told before anything trains and workers only map what is there.

use super::{
    images::{self, data_key},
    signals::Interrupts,
};
use crate::{
    error::{Cause, Context, Error, Result},
    progress::Progress,
    spec::RunSpec,
    sweep::PlannedRun,
    synthesize,
    tensor::safetensors,
};
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

/// Makes what the cache does not hold yet, showing progress. `figures` gets a picture of what each experiment synthesizes.
pub fn prepare<'a>(
    runs: impl Iterator<Item = &'a PlannedRun>,
    cache: &Path,
    figures: &Path,
    progress: &mut Progress,
    interrupts: &Interrupts,
) -> Result<()> {
    let (mut opened, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for run in runs {
        let shows = run.spec.synthesize.is_some() && shown.insert(&run.experiment);
        if opened.insert(data_key(&run.spec)?) || shows {
            let picture = figures.join(format!("synthesized-{}.png", run.experiment));
            let task = Task { spec: run.spec.clone(), cache: cache.into(), picture: shows.then_some(picture) };
            open(task, progress, interrupts)?;
        }
    }
    Ok(())
}

/// One data set to open, and where a picture of its synthesized images goes.
struct Task {
    spec: RunSpec,
    cache: PathBuf,
    picture: Option<PathBuf>,
}

impl Task {
    fn run(&self, tell: &(dyn Fn(crate::data::Progress) + Sync)) -> Result<()> {
        let data = images::open(&self.spec, &self.cache, tell)?;
        let Some(path) = &self.picture else { return Ok(()) };
        match synthesize::sample_sheet(&data)? {
            Some(png) => safetensors::write_atomically(path, |file| Ok(file.write_all(&png)?)),
            None => Ok(()),
        }
    }
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
        match news.recv_timeout(Duration::from_millis(100)) {
            Ok(news) => progress.data(news),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if thread.is_finished() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupts.count() > 0 {
            return Err(Error::new(Cause::Interrupted, "stopped while preparing images; no run was started"));
        }
    }
    let panicked = |_| Err(Error::bug("preparing the images panicked"));
    let result = thread.join().unwrap_or_else(panicked);
    progress.data_done();
    result
}
