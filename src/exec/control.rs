//! What another terminal asks of a results folder: stop, pause, resume, retry. A request is a small file that the one
//! coordinator picks up and answers; where no sweep is at work, the asking process changes the store itself, under the
//! folder's lock.

use super::{journal, lock::FolderLock, run_folders, store_path};
use crate::{
    error::{Error, Result},
    store::{Status, Store},
    tensor::safetensors,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where requests and answers lie, in the results folder.
const FOLDER: &str = ".control";

/// How long the asker waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Write a checkpoint and leave the run for the next `sweep`.
    Stop,
    /// Write a checkpoint, free the slot, and stay out until resumed.
    Pause,
    Resume,
    /// Set a failed run back.
    Retry,
}

/// A request, as it lies in the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub action: Action,
    /// Run ids.
    pub runs: BTreeSet<String>,
}

/// Asks for something and says what came of it. `what` names sweeps and the beginnings of run ids; empty for all.
///
/// # Errors
/// A name that is neither; a folder that cannot be written.
pub fn ask(out: &Path, action: Action, what: &[String]) -> Result<String> {
    let request = Request { action, runs: named(&Store::read(&store_path(out))?, what)? };
    if let Some(_lock) = FolderLock::try_take(out)? {
        return at_rest(out, &request);
    }
    let letter = Mailbox::new(out).post(&request)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = letter.answer() {
            return Ok(answer);
        }
        // Its coordinator is gone: this process is free to act.
        if let Some(_lock) = FolderLock::try_take(out)? {
            return letter.take_back().map_or_else(|| at_rest(out, &request), Ok);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok("the sweep at work has not answered yet: it may be preparing images; it will once its runs start".into())
}

/// Who has a results folder; `None` where nobody has.
pub fn holder(out: &Path) -> Option<String> {
    FolderLock::holder(out)
}

/// The runs that names stand for.
fn named(store: &Store, what: &[String]) -> Result<BTreeSet<String>> {
    let sweeps: Vec<String> = store.sweeps()?.into_iter().map(|sweep| sweep.name).collect();
    let of = |sweep: &str| store.runs(sweep).map(|runs| runs.into_iter().map(|at| at.run.id));
    let names = if what.is_empty() { &sweeps } else { what };
    let mut runs = BTreeSet::new();
    for name in names {
        match sweeps.contains(name) {
            true => runs.extend(of(name)?),
            false => runs.extend([store.find_run(name).map_err(|error| neither(name, &sweeps, &error))?.id]),
        }
    }
    Ok(runs)
}

fn neither(name: &str, sweeps: &[String], error: &Error) -> Error {
    Error::user(format!("`{name}` is no sweep (there is: {}), and as a run: {error}", sweeps.join(", ")))
}

/// Does what can be done while no sweep is at work.
fn at_rest(out: &Path, request: &Request) -> Result<String> {
    let mut store = Store::open(&store_path(out))?;
    let folders = run_folders(out);
    let mut changed = 0;
    for run in &request.runs {
        if let Some(dir) = folders.get(run) {
            super::catch_up(&mut store, run, dir)?;
        }
        let Some(found) = store.run(run)? else { continue };
        let applies = match request.action {
            Action::Stop => false,
            Action::Pause => found.status != Status::Finished && !found.held,
            Action::Resume => found.held,
            Action::Retry => found.status == Status::Failed,
        };
        if applies {
            changed += 1;
            match request.action {
                Action::Retry => store.reset(run)?,
                action => store.hold(run, action == Action::Pause)?,
            }
        }
    }
    Ok(said_at_rest(request.action, changed, &files(&store, &request.runs)?))
}

/// The experiment files behind runs.
fn files(store: &Store, runs: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for sweep in store.sweeps()? {
        if store.runs(&sweep.name)?.iter().any(|at| runs.contains(&at.run.id)) {
            files.insert(sweep.path);
        }
    }
    Ok(files)
}

fn said_at_rest(action: Action, changed: usize, files: &BTreeSet<String>) -> String {
    let commands: Vec<String> = files.iter().map(|file| format!("`runner sweep {file}`")).collect();
    let command = commands.join(", ");
    let said = runs(changed);
    match action {
        Action::Retry if changed == 0 => "no run has failed: nothing to set back".into(),
        Action::Resume if changed == 0 => "no run is paused: nothing to let go on".into(),
        Action::Stop => "no sweep is at work here; nothing to stop".into(),
        Action::Pause => {
            format!("no sweep is at work here; {said} paused: the next sweep leaves them out until `runner resume`")
        }
        Action::Resume => format!("{said} no longer paused; no sweep is at work here, {command} runs what is left"),
        Action::Retry => {
            format!("{said} set back from failed; no sweep is at work here, {command} tries them again")
        }
    }
}

/// `1 run`, `3 runs`.
pub fn runs(count: usize) -> String {
    if count == 1 { "1 run".into() } else { format!("{count} runs") }
}

/// The folder of requests.
pub struct Mailbox {
    folder: PathBuf,
}

impl Mailbox {
    /// Of a results folder.
    pub fn new(out: &Path) -> Self {
        Self { folder: out.join(FOLDER) }
    }

    /// Throws away what nobody waits for any more. For who holds the folder's lock.
    pub fn clear(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// The requests that wait, oldest first, with the files they lie in.
    pub fn waiting(&self) -> Vec<(PathBuf, Request)> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "request"));
        paths.sort();
        let read = |path: &PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
        paths.iter().filter_map(|path| Some((path.clone(), read(path)?))).collect()
    }

    /// Answers a request and takes it away.
    pub fn answer(&self, request: &Path, answer: &str) {
        // An asker that hears nothing says so; no reason to stop a sweep.
        let _ = safetensors::write_atomically(&request.with_extension("answer"), |file| {
            Ok(file.write_all(answer.as_bytes())?)
        });
        let _ = std::fs::remove_file(request);
    }

    /// Leaves a request.
    fn post(&self, request: &Request) -> Result<Letter> {
        let name = format!("{:020}-{}.request", (journal::now() * 1e6) as u64, std::process::id());
        let letter = Letter { path: self.folder.join(name) };
        let text = serde_json::to_vec(request).map_err(Error::bug)?;
        safetensors::write_atomically(&letter.path, |file| Ok(file.write_all(&text)?))?;
        Ok(letter)
    }
}

/// A request that was left.
struct Letter {
    path: PathBuf,
}

impl Letter {
    /// The answer, once it is there.
    fn answer(&self) -> Option<String> {
        let path = self.path.with_extension("answer");
        let answer = std::fs::read_to_string(&path).ok()?;
        let _ = std::fs::remove_file(path);
        self.clean();
        Some(answer)
    }

    /// Takes the request back; the answer where there is one after all.
    fn take_back(&self) -> Option<String> {
        let _ = std::fs::remove_file(&self.path);
        self.clean();
        self.answer()
    }

    /// Removes the folder when it is empty.
    fn clean(&self) {
        let _ = self.path.parent().map(std::fs::remove_dir);
    }
}
