//! What a results folder holds that nothing needs any more, and what has to go where a sweep has a budget.

use super::{cache_path, lock::FolderLock, run_folders, solo, space, store_path};
use crate::{
    error::{Context, Result},
    progress::Progress,
    spec::{Keep, RunSpec},
    store::{Run, Status, Store},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

/// What is removed, by what it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cleaned {
    /// Paths and bytes by kind.
    pub kinds: BTreeMap<&'static str, Vec<(PathBuf, u64)>>,
    /// Whether a sweep is at work, so that temporary files were left alone.
    pub busy: bool,
    pub dry_run: bool,
}

const RESUME: &str = "checkpoints to resume from, of finished runs";
const REMOVED: &str = "checkpoints of runs that no sweep describes any more";
const CACHE: &str = "decoded images that no run of a sweep uses";
const TEMPORARY: &str = "temporary files that were left behind";

/// Removes what nothing needs: metrics, predictions, logs and every checkpoint that a run was told to keep stay. May be
/// called while a sweep is at work.
pub fn clean(out: &Path, dry_run: bool) -> Result<Cleaned> {
    let store = Store::read(&store_path(out))?;
    let lock = FolderLock::try_take(out)?;
    let mut cleaned = Cleaned { busy: lock.is_none(), dry_run, ..Cleaned::default() };
    let teachers = teachers(&store)?;
    for (id, dir) in run_folders(out) {
        if let Some(run) = store.run(&id)? {
            let orphan = store.serves(&id)?.is_empty() && !teachers.contains(&id);
            unneeded(&run, &dir.join("checkpoints"), orphan, &mut cleaned)?;
        }
    }
    unused_images(&store, &cache_path(out), &mut cleaned)?;
    if !cleaned.busy {
        temporary(out, 4, &mut cleaned);
    }
    if !dry_run {
        cleaned.kinds.values().flatten().try_for_each(|(path, _)| remove(path))?;
    }
    Ok(cleaned)
}

/// Checkpoints of a run that may go.
fn unneeded(run: &Run, checkpoints: &Path, orphan: bool, cleaned: &mut Cleaned) -> Result<()> {
    let over = run.status == Status::Finished;
    let keeps_last = toml::from_str::<RunSpec>(&run.spec).is_ok_and(|spec| matches!(spec.keep, Keep::All | Keep::Last));
    for path in files(checkpoints) {
        let named = |wanted: &str| path.file_name().is_some_and(|name| name == wanted);
        let (resumes, outlived) = (named("last.safetensors"), named("previous.safetensors"));
        if orphan {
            cleaned.add(REMOVED, path);
        } else if over && (outlived || resumes && !keeps_last) {
            cleaned.add(RESUME, path);
        }
    }
    Ok(())
}

/// Runs that others learn from.
fn teachers(store: &Store) -> Result<BTreeSet<String>> {
    let mut teachers = BTreeSet::new();
    for spec in store.specs()? {
        let spec: toml::Table = spec.parse().unwrap_or_default();
        let teacher = spec.get("distill").and_then(|distill| distill.get("teacher")).and_then(toml::Value::as_str);
        teachers.extend(teacher.map(String::from));
    }
    Ok(teachers)
}

/// Decoded images, named by the fingerprint of their data set.
fn unused_images(store: &Store, cache: &Path, cleaned: &mut Cleaned) -> Result<()> {
    let used = store.data_in_use()?;
    for path in files(cache) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
        let decoded = name.rsplit_once("-v").is_some_and(|(_, version)| version.parse::<u32>().is_ok());
        if decoded && !used.iter().any(|data| name.starts_with(&format!("{data}-"))) {
            cleaned.add(CACHE, path);
        }
    }
    Ok(())
}

/// What processes that were killed left behind, down to `depth` folders.
fn temporary(folder: &Path, depth: usize, cleaned: &mut Cleaned) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let ours = [".unfinished-", ".tmp", solo::PREFIX, ".control"].iter().any(|prefix| name.starts_with(prefix));
        if ours || name.contains(".tmp-") {
            cleaned.add(TEMPORARY, path);
        } else if path.is_dir() && depth > 0 {
            temporary(&path, depth - 1, cleaned);
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn remove(path: &Path) -> Result<()> {
    let done = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

impl Cleaned {
    fn add(&mut self, kind: &'static str, path: PathBuf) {
        let bytes = if path.is_dir() { space::size(&path) } else { path.metadata().map_or(0, |found| found.len()) };
        self.kinds.entry(kind).or_default().push((path, bytes));
    }
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.dry_run { "would remove" } else { "removed" };
        for (kind, paths) in &self.kinds {
            let bytes = paths.iter().map(|(_, bytes)| bytes).sum();
            writeln!(f, "{done} {}: {} ({})", kind, paths.len(), space::bytes(bytes))?;
            if self.dry_run {
                paths
                    .iter()
                    .try_for_each(|(path, bytes)| writeln!(f, "  {:>8}  {}", space::bytes(*bytes), path.display()))?;
            }
        }
        if self.kinds.is_empty() {
            writeln!(f, "nothing to remove: everything here is still needed")?;
        }
        match self.busy {
            true => writeln!(f, "a sweep is at work: temporary files were left alone"),
            false => Ok(()),
        }
    }
}

/// `[sweep] disk`: what the checkpoints of a sweep may take.
pub struct Budget {
    pub sweep: String,
    pub out: PathBuf,
    pub bytes: u64,
    /// Whether it was said that nothing more may go.
    exhausted: bool,
}

impl Budget {
    /// Of `bytes` for the checkpoints of a sweep.
    pub fn new(sweep: &str, out: &Path, bytes: u64) -> Self {
        Self { sweep: sweep.into(), out: out.into(), bytes, exhausted: false }
    }

    /// Removes checkpoints of finished runs, the worst first, until the rest is within the budget. The best of each
    /// experiment and what others learn from stay.
    pub fn keep(&mut self, store: &Store, progress: &mut Progress) -> Result<()> {
        let folders = run_folders(&self.out);
        let size = |id: &String| folders.get(id).map_or(0, |dir| space::size(&dir.join("checkpoints")));
        let runs = store.runs(&self.sweep)?;
        let ids: BTreeSet<&String> = runs.iter().map(|at| &at.run.id).collect();
        let mut taken: u64 = ids.into_iter().map(size).sum();
        for (id, value) in self.worst_first(store)? {
            let bytes = size(&id);
            if taken <= self.bytes || bytes == 0 {
                continue;
            }
            let checkpoints = folders.get(&id).map(|dir| dir.join("checkpoints")).unwrap_or_default();
            files(&checkpoints).iter().try_for_each(|path| remove(path))?;
            taken -= bytes;
            let (bytes, budget) = (space::bytes(bytes), space::bytes(self.bytes));
            progress.say(&format!("removed the checkpoints of run {id} ({value}): {bytes}, to stay within {budget}"));
        }
        if taken > self.bytes && !self.exhausted {
            self.exhausted = true;
            let (taken, budget) = (space::bytes(taken), space::bytes(self.bytes));
            progress.say(&format!(
                "checkpoints take {taken}, more than `[sweep] disk` allows ({budget}): what is left is the best of each \
                 experiment, or belongs to runs at work"
            ));
        }
        Ok(())
    }

    /// Finished runs whose checkpoints may go, and what they came to.
    fn worst_first(&self, store: &Store) -> Result<Vec<(String, String)>> {
        let (mut losses, mut best) = (BTreeMap::new(), BTreeMap::<String, (f64, String)>::new());
        for at in store.runs(&self.sweep)?.iter().filter(|at| at.run.status == Status::Finished) {
            let Some((loss, value)) = merit(&at.run) else { continue };
            let held = best.entry(at.experiment.clone()).or_insert((loss, at.run.id.clone()));
            if loss < held.0 {
                *held = (loss, at.run.id.clone());
            }
            losses.insert(at.run.id.clone(), (loss, value));
        }
        let teachers = teachers(store)?;
        losses.retain(|id, _| !teachers.contains(id) && best.values().all(|(_, best)| best != id));
        let mut order: Vec<(String, (f64, String))> = losses.into_iter().collect();
        order.sort_by(|a, b| b.1.0.total_cmp(&a.1.0).then(a.0.cmp(&b.0)));
        Ok(order.into_iter().map(|(id, (_, value))| (id, value)).collect())
    }
}

/// A finished run's selected metric as a loss, and in words.
fn merit(run: &Run) -> Option<(f64, String)> {
    let spec: RunSpec = toml::from_str(&run.spec).ok()?;
    let value = *run.summary.get(&spec.select.metric)?;
    let loss = spec.select.loss(value);
    Some((loss, format!("{} {value:.4}", spec.select.metric)))
}
