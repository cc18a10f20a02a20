//! From an experiment file to its runs: what `sweep` and `plan` share.

use crate::{
    error::{Error, Result},
    exec,
    spec::{ExperimentFile, RunSpec},
    store::{Status, Store},
    sweep::{self, PlannedRun},
    tensor::params::matches,
    train,
};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct FileArgs {
    /// The experiment file
    pub file: PathBuf,
    /// Results folder
    #[arg(long, default_value = "results")]
    pub out: PathBuf,
    /// Only experiments of this name, in which `*` stands for anything; may be given several times
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Sets a value in every experiment, e.g. --set epochs=3; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to run: auto, cpu, cuda (the first one), cuda:0,1, ..; on CUDA, precision = "auto" means bf16
    #[arg(long, value_delimiter = ',', default_value = "auto")]
    pub device: Vec<String>,
}

/// Reads the file and lists its runs. Nothing is started and nothing but the index of image contents is written.
pub fn plan(args: &FileArgs) -> Result<(ExperimentFile, Vec<PlannedRun>)> {
    let mut file = ExperimentFile::load(&args.file, &args.set)?;
    // What "auto" means there is part of a run's identity.
    file.resolve_precision(exec::on_cuda(&args.device)?)?;
    check_only(&file, &args.only)?;
    if !args.only.is_empty() {
        file.partial = true;
        file.experiments.retain(|experiment| args.only.iter().any(|wanted| matches(wanted, &experiment.name)));
    }
    let fingerprint = exec::fingerprints(&exec::cache_path(&args.out));
    let store = exec::store_path(&args.out);
    let decided = match store.exists() && sweep::is_adaptive(&file) {
        // What cannot be read, a file of an older version say, is told or brought up to date by whoever opens it next.
        true => Store::read(&store).and_then(|store| exec::decided(&store, &file.name)).unwrap_or_default(),
        false => Vec::new(),
    };
    let runs = sweep::plan_with(&file, &fingerprint, &decided)?;
    runs.iter().try_for_each(|run| check_teacher(&run.spec, &args.out))?;
    Ok((file, runs))
}

/// A teacher must have finished, and look at images of the same size and channels.
fn check_teacher(spec: &RunSpec, out: &Path) -> Result<()> {
    let Some(distill) = &spec.distill else { return Ok(()) };
    let id = &distill.teacher;
    train::teacher::folder(out, id)?;
    let teacher = Store::read(&exec::store_path(out))?.find_run(id)?;
    if teacher.id != *id || teacher.status != Status::Finished {
        let what = format!("distill.teacher = {id:?}: run {} is {}", teacher.id, teacher.status);
        return Err(Error::user(format!("{what}; write the whole id of a finished run")));
    }
    let theirs: RunSpec = toml::from_str(&teacher.spec).map_err(Error::bug)?;
    train::teacher::check_inputs(distill, spec, &theirs)
}

fn check_only(file: &ExperimentFile, only: &[String]) -> Result<()> {
    let names: Vec<&str> = file.experiments.iter().map(|experiment| experiment.name.as_str()).collect();
    match only.iter().find(|wanted| !names.iter().any(|name| matches(wanted, name))) {
        None => Ok(()),
        Some(name) => Err(Error::user(format!("--only {name}: the file has {}", names.join(", ")))),
    }
}
