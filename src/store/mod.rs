//! The SQLite file: `schema.sql` is its documentation. Exactly one process writes it, the coordinator.

mod ingest;
mod open;
mod price;
mod read;
mod records;
mod rows;
mod search;

pub use price::{Estimate, Past, Predicted};
pub use records::{Attempt, Epoch, Experiment, Run, Serves, Standing, Sweep, SweepRun, Warning};
pub use rows::Rows;
pub use rusqlite::types::Value;
pub use search::{StoredLoss, StoredTrial};

use crate::{
    error::{Context, Result},
    event::Record,
};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// What the tables and their columns mean.
pub const SCHEMA: &str = include_str!("schema.sql");

/// An open results file.
pub struct Store {
    db: Connection,
    path: PathBuf,
    writes: bool,
}

/// A sweep as planned, for [`Store::add_sweep`].
pub struct NewSweep<'a> {
    pub name: &'a str,
    /// The experiment file's text and path.
    pub file: &'a str,
    pub path: &'a str,
    /// Whether only some of the file's experiments are planned; the others stay as they are.
    pub partial: bool,
    /// Experiments in the file's order: name and the fully resolved specification as TOML.
    pub experiments: &'a [(String, String)],
    pub runs: &'a [NewRun],
}

/// One run of a sweep as planned.
pub struct NewRun {
    pub id: String,
    pub experiment: String,
    /// What the axes set, e.g. `optimizer.adam.lr=0.005`; empty where there is no axis.
    pub point: String,
    pub seed: u64,
    /// The fold that is held out; `None` without a cross-validation.
    pub fold: Option<u32>,
    /// The resolved specification as TOML.
    pub spec: String,
    /// Fingerprint of the data.
    pub data: String,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Running,
    Finished,
    Failed,
    Pruned,
}

impl Status {
    /// As the store has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Pruned => "pruned",
        }
    }

    /// The schema's CHECK admits no other words.
    fn parse(text: &str) -> Self {
        match text {
            "running" => Self::Running,
            "finished" => Self::Finished,
            "failed" => Self::Failed,
            "pruned" => Self::Pruned,
            _ => Self::Pending,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Store {
    /// Opens for writing, creating or migrating; refuses a file of a newer version.
    ///
    /// On a local disk the file is in WAL mode while a writer has it open, so that readers never wait; on a network
    /// file system, where WAL does not work, it keeps a rollback journal.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { db: open::for_writing(path)?, path: path.to_path_buf(), writes: true })
    }

    /// Opens for reading only; works while another process writes.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self { db: open::for_reading(path)?, path: path.to_path_buf(), writes: false })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a sweep and the runs that are not there yet; a sweep of that name keeps its finished runs, and runs the
    /// file no longer describes leave `sweep_runs`.
    pub fn add_sweep(&mut self, sweep: &NewSweep) -> Result<()> {
        self.write(|db| insert_sweep(db, sweep, now()))
    }

    /// A run's status; `None` where it is not known.
    pub fn status(&self, run: &str) -> Result<Option<Status>> {
        let status = self
            .db
            .prepare_cached("SELECT status FROM runs WHERE id = ?")
            .and_then(|mut query| query.query_row([run], |row| row.get::<_, String>(0)).optional());
        Ok(self.at(status)?.map(|text| Status::parse(&text)))
    }

    /// How far the run's journal has been read, in bytes; 0 where the run is not known.
    pub fn journal_offset(&self, run: &str) -> Result<u64> {
        let offset = self
            .db
            .prepare_cached("SELECT journal_offset FROM runs WHERE id = ?")
            .and_then(|mut query| query.query_row([run], |row| row.get::<_, i64>(0)).optional());
        Ok(self.at(offset)?.unwrap_or(0) as u64)
    }

    /// Writes journal records and the offset behind them, in one transaction: nothing is counted twice.
    ///
    /// What a run's rows say is a function of the journal up to its offset, and every row has a key, so that records
    /// ingested again (another coordinator was faster, a journal read from its start) change nothing.
    pub fn ingest(&mut self, run: &str, records: &[Record], offset: u64) -> Result<()> {
        self.write(|db| ingest::write(db, run, records, offset)).context(|| format!("run {run}"))
    }

    /// Sets a failed or interrupted run back to pending, keeping what it has.
    pub fn reset(&mut self, run: &str) -> Result<()> {
        self.write(|db| {
            db.prepare_cached(
                "UPDATE runs SET status = 'pending', cause = NULL, error = NULL WHERE id = ? AND status <> 'finished'",
            )?
            .execute([run])
            .map(|_| ())
        })
    }

    /// Leaves a run out of sweeps, or no longer.
    pub fn hold(&mut self, run: &str, held: bool) -> Result<()> {
        self.write(|db| {
            db.prepare_cached("UPDATE runs SET held = ?2 WHERE id = ?1 AND held <> ?2 AND status <> 'finished'")?
                .execute(params![run, held])
                .map(|_| ())
        })
    }

    /// Runs `change` in one transaction, waiting for another writer.
    fn write(&mut self, change: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<()> {
        let done = self.db.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            change(&transaction)?;
            transaction.commit()
        });
        self.at(done)
    }

    /// Names the file in what went wrong.
    fn at<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        result.context(|| self.path.display().to_string())
    }
}

impl Drop for Store {
    /// A results file at rest is one file: the last writer takes it out of WAL mode, which also removes the `-wal` and
    /// `-shm` files. While somebody else has it open this does nothing.
    fn drop(&mut self) {
        if self.writes {
            let _ = self.db.busy_timeout(std::time::Duration::ZERO);
            let _ = self.db.pragma_update(None, "journal_mode", "DELETE");
        }
    }
}

fn insert_sweep(db: &Connection, sweep: &NewSweep, now: f64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO sweeps (name, path, file, version, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT (name) DO UPDATE SET path = ?2, file = ?3, version = ?4, updated_at = ?5",
    )?
    .execute(params![sweep.name, sweep.path, sweep.file, env!("CARGO_PKG_VERSION"), now])?;
    let places = clear_plan(db, sweep, now)?;
    let mut experiment =
        db.prepare_cached("INSERT INTO experiments (sweep, name, position, spec) VALUES (?, ?, ?, ?)")?;
    for (position, (name, spec)) in sweep.experiments.iter().enumerate() {
        let position = places.get(name).copied().filter(|_| sweep.partial).unwrap_or(position as i64);
        experiment.execute(params![sweep.name, name, position, spec])?;
    }
    insert_runs(db, sweep.name, sweep.runs, 0)
}

/// Adds runs and what they serve; `first` is the position of the first.
fn insert_runs(db: &Connection, sweep: &str, runs: &[NewRun], first: i64) -> rusqlite::Result<()> {
    let mut run = db.prepare_cached(
        "INSERT INTO runs (id, seed, fold, spec, data) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )?;
    let mut serves = db.prepare_cached(
        "INSERT INTO sweep_runs (sweep, experiment, point, run_id, position) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )?;
    for (position, new) in (first..).zip(runs) {
        run.execute(params![new.id, new.seed as i64, new.fold, new.spec, new.data])?;
        serves.execute(params![sweep, new.experiment, new.point, new.id, position])?;
    }
    db.prepare_cached(
        "DELETE FROM removed_runs WHERE sweep = ?1 AND (experiment, point, run_id) IN
         (SELECT experiment, point, run_id FROM sweep_runs WHERE sweep = ?1)",
    )?
    .execute([sweep])?;
    Ok(())
}

/// Takes the last plan away, or the part of it that is planned anew, and remembers its runs as removed. Returns where its
/// experiments stood.
fn clear_plan(db: &Connection, sweep: &NewSweep, now: f64) -> rusqlite::Result<BTreeMap<String, i64>> {
    let mut remember = db.prepare_cached(
        "INSERT INTO removed_runs (sweep, experiment, point, run_id, removed_at)
         SELECT sweep, experiment, point, run_id, ?3 FROM sweep_runs WHERE sweep = ?1 AND experiment = ?2
         ON CONFLICT DO NOTHING",
    )?;
    let mut delete = db.prepare_cached("DELETE FROM experiments WHERE sweep = ? AND name = ?")?;
    let places: BTreeMap<String, i64> = db
        .prepare_cached("SELECT name, position FROM experiments WHERE sweep = ?")?
        .query_map([sweep.name], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let planned = |name: &String| !sweep.partial || sweep.experiments.iter().any(|(planned, _)| planned == name);
    for name in places.keys().filter(|name| planned(name)) {
        remember.execute(params![sweep.name, name, now])?;
        delete.execute(params![sweep.name, name])?;
    }
    Ok(places)
}

/// Seconds since the Unix epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
