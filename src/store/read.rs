//! Typed queries: what the report, the terminal and the exports read.

use super::{Attempt, Epoch, Experiment, Run, Serves, Standing, Status, Store, Sweep, SweepRun, Warning};
use crate::{
    error::{Error, Result},
    event::{Origin, Prediction, Split, Values},
};
use rusqlite::{OptionalExtension, Params, Row, params};
use std::collections::{BTreeMap, BTreeSet};

const RUN: &str = "r.id, r.seed, r.fold, r.status, r.spec, r.data, r.attempts, r.device, r.threads, r.parameters,
    r.epochs, r.steps_per_epoch, r.epoch, r.best_epoch, r.started_at, r.finished_at,
    (SELECT total(a.seen_at - a.started_at) FROM attempts a WHERE a.run_id = r.id), r.cause, r.error, r.held";

impl Store {
    /// Reads everything inside `look` as of one moment, however much is written meanwhile.
    pub fn snapshot<T>(&self, look: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let transaction = self.at(self.db.unchecked_transaction())?;
        let seen = look(self)?;
        self.at(transaction.finish())?;
        Ok(seen)
    }

    /// Every sweep, the last one planned first.
    pub fn sweeps(&self) -> Result<Vec<Sweep>> {
        self.rows(
            "SELECT s.name, s.path, s.file, s.created_at, s.updated_at, count(r.id),
                    count(r.id) FILTER (WHERE r.status = 'finished'), count(r.id) FILTER (WHERE r.status = 'failed')
             FROM sweeps s LEFT JOIN (SELECT DISTINCT sweep, run_id FROM sweep_runs) m ON m.sweep = s.name
                           LEFT JOIN runs r ON r.id = m.run_id
             GROUP BY s.name ORDER BY s.updated_at DESC, s.name",
            [],
            |row| {
                Ok(Sweep {
                    name: row.get(0)?,
                    path: row.get(1)?,
                    file: row.get(2)?,
                    created_at: row.get(3)?,
                    updated_at: row.get(4)?,
                    runs: count(row, 5)? as usize,
                    finished: count(row, 6)? as usize,
                    failed: count(row, 7)? as usize,
                })
            },
        )
    }

    /// The sweep of this name; an error that names the others where there is none.
    pub fn sweep(&self, name: &str) -> Result<Sweep> {
        let sweeps = self.sweeps()?;
        if let Some(found) = sweeps.iter().find(|sweep| sweep.name == name) {
            return Ok(found.clone());
        }
        let names: Vec<&str> = sweeps.iter().map(|sweep| sweep.name.as_str()).collect();
        Err(Error::user(format!("no sweep `{name}` in {}; there is: {}", self.path.display(), listed(&names))))
    }

    /// A sweep's experiments in the file's order.
    pub fn experiments(&self, sweep: &str) -> Result<Vec<Experiment>> {
        self.rows("SELECT name, spec FROM experiments WHERE sweep = ? ORDER BY position", [sweep], |row| {
            Ok(Experiment { name: row.get(0)?, spec: row.get(1)? })
        })
    }

    /// A sweep's runs in the plan's order; a run that serves several points appears at each.
    pub fn runs(&self, sweep: &str) -> Result<Vec<SweepRun>> {
        let sql = format!(
            "SELECT {RUN}, m.experiment, m.point FROM sweep_runs m JOIN runs r ON r.id = m.run_id
             WHERE m.sweep = ? ORDER BY m.position"
        );
        let mut runs = self.rows(&sql, [sweep], |row| {
            Ok(SweepRun { run: run_of(row)?, experiment: row.get("experiment")?, point: row.get("point")? })
        })?;
        let mut summaries = self.summaries(sweep)?;
        for at in &mut runs {
            at.run.summary = summaries.get_mut(&at.run.id).cloned().unwrap_or_default();
        }
        Ok(runs)
    }

    fn summaries(&self, sweep: &str) -> Result<BTreeMap<String, Values>> {
        let rows = self.rows(
            "SELECT run_id, name, value FROM summaries WHERE run_id IN (SELECT run_id FROM sweep_runs WHERE sweep = ?)",
            [sweep],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, number(row, 2)?)),
        )?;
        let mut summaries = BTreeMap::<String, Values>::new();
        for (run, name, value) in rows {
            summaries.entry(run).or_default().insert(name, value);
        }
        Ok(summaries)
    }

    /// The run with this id.
    pub fn run(&self, id: &str) -> Result<Option<Run>> {
        let sql = format!("SELECT {RUN} FROM runs r WHERE r.id = ?");
        let found = self.db.prepare_cached(&sql).and_then(|mut query| query.query_row([id], run_of).optional());
        let Some(mut run) = self.at(found)? else { return Ok(None) };
        let values = self.rows("SELECT name, value FROM summaries WHERE run_id = ?", [id], |row| {
            Ok((row.get::<_, String>(0)?, number(row, 1)?))
        })?;
        run.summary = values.into_iter().collect();
        Ok(Some(run))
    }

    /// Where every run stands, by id.
    pub fn standings(&self) -> Result<BTreeMap<String, Standing>> {
        let rows = self.rows("SELECT id, status, epoch, error, journal_offset FROM runs", [], |row| {
            let standing = Standing {
                status: Status::parse(&row.get::<_, String>(1)?),
                epoch: row.get(2)?,
                error: row.get(3)?,
                journal_offset: count(row, 4)?,
            };
            Ok((row.get(0)?, standing))
        });
        Ok(rows?.into_iter().collect())
    }

    /// The one run whose id begins with `prefix`.
    pub fn find_run(&self, prefix: &str) -> Result<Run> {
        let ids = self.rows(
            "SELECT id FROM runs WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id = ?1 DESC, id LIMIT 5",
            [prefix],
            |row| row.get::<_, String>(0),
        )?;
        let exact = ids.first().is_some_and(|id| id == prefix);
        let id = match ids.as_slice() {
            [id] => id,
            [id, ..] if exact => id,
            [] => {
                return Err(Error::user(format!(
                    "no run `{prefix}` in {}; `runner list SWEEP` shows the runs",
                    self.path.display()
                )));
            }
            _ => {
                return Err(Error::user(format!(
                    "several runs begin with `{prefix}`: {}; write more of it",
                    ids.join(", ")
                )));
            }
        };
        self.run(id)?.ok_or_else(|| Error::user(format!("run {id} has just been removed")))
    }

    /// The specifications of all runs, each once.
    pub fn specs(&self) -> Result<Vec<String>> {
        self.rows("SELECT DISTINCT spec FROM runs", [], |row| row.get(0))
    }

    /// Fingerprints of the data that runs of a sweep use.
    pub fn data_in_use(&self) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT data FROM runs WHERE id IN (SELECT run_id FROM sweep_runs)";
        self.rows(sql, [], |row| row.get(0))
    }

    /// The runs that are paused.
    pub fn held(&self) -> Result<BTreeSet<String>> {
        Ok(self.rows("SELECT id FROM runs WHERE held", [], |row| row.get(0))?.into_iter().collect())
    }

    /// The runs that an earlier version of a sweep's file described and the present one does not.
    pub fn removed(&self, sweep: &str) -> Result<BTreeSet<String>> {
        let runs = self.rows("SELECT run_id FROM removed_runs WHERE sweep = ?", [sweep], |row| row.get(0));
        Ok(runs?.into_iter().collect())
    }

    /// Where a run serves.
    pub fn serves(&self, run: &str) -> Result<Vec<Serves>> {
        self.rows(
            "SELECT sweep, experiment, point FROM sweep_runs WHERE run_id = ? ORDER BY sweep, position",
            [run],
            |row| Ok(Serves { sweep: row.get(0)?, experiment: row.get(1)?, point: row.get(2)? }),
        )
    }

    /// A run's attempts, in order.
    pub fn attempts(&self, run: &str) -> Result<Vec<Attempt>> {
        self.rows(
            "SELECT attempt, device, threads, epoch, started_at, seen_at, outcome, message, version, binary, git_commit,
                    git_patch, command, host, hardware, micro_batch
             FROM attempts WHERE run_id = ? ORDER BY attempt",
            [run],
            |row| {
                Ok(Attempt {
                    attempt: row.get(0)?,
                    device: row.get(1)?,
                    threads: row.get(2)?,
                    epoch: row.get(3)?,
                    started_at: row.get(4)?,
                    seen_at: row.get(5)?,
                    outcome: row.get(6)?,
                    message: row.get(7)?,
                    origin: origin_of(row)?,
                })
            },
        )
    }

    /// A metric by epoch for every run of a sweep: `(epoch, value)` in order, by run id.
    pub fn curves(&self, sweep: &str, split: Split, metric: &str) -> Result<BTreeMap<String, Vec<(u32, f64)>>> {
        let rows = self.rows(
            "SELECT m.run_id, m.epoch, m.value FROM (SELECT DISTINCT run_id FROM sweep_runs WHERE sweep = ?1) s
             JOIN metrics m ON m.run_id = s.run_id
             WHERE m.name = ?3 AND m.split = ?2 AND m.step IS NULL ORDER BY m.run_id, m.epoch",
            params![sweep, split.as_str(), metric],
            |row| Ok((row.get::<_, String>(0)?, (row.get(1)?, number(row, 2)?))),
        )?;
        let mut curves = BTreeMap::<String, Vec<(u32, f64)>>::new();
        for (run, point) in rows {
            curves.entry(run).or_default().push(point);
        }
        Ok(curves)
    }

    /// The last step of a run that was written down, and its training loss.
    pub fn latest_step(&self, run: &str) -> Result<Option<(u64, f64)>> {
        let sql = "SELECT step, value FROM metrics WHERE run_id = ? AND name = 'loss' AND split = 'train' AND step IS NOT NULL
                   ORDER BY epoch DESC, ifnull(step, 0) DESC LIMIT 1";
        Ok(self.rows(sql, [run], |row| Ok((count(row, 0)?, number(row, 1)?)))?.pop())
    }

    /// Every epoch's values of a run, in order.
    pub fn epochs(&self, run: &str) -> Result<Vec<Epoch>> {
        let rows = self.rows(
            "SELECT epoch, split, name, value FROM metrics WHERE run_id = ? AND step IS NULL
             ORDER BY epoch, split = 'val', split = 'test'",
            [run],
            |row| {
                Ok((
                    row.get::<_, u32>(0)?,
                    split_of(&row.get::<_, String>(1)?),
                    row.get::<_, String>(2)?,
                    number(row, 3)?,
                ))
            },
        )?;
        let mut epochs: Vec<Epoch> = Vec::new();
        for (epoch, split, name, value) in rows {
            match epochs.last_mut().filter(|last| last.epoch == epoch && last.split == split) {
                Some(last) => _ = last.values.insert(name, value),
                None => epochs.push(Epoch { epoch, split, values: Values::from([(name, value)]) }),
            }
        }
        Ok(epochs)
    }

    /// A run's predictions at its selected epoch, by image name; empty where there are none.
    pub fn predictions(&self, run: &str, split: Split) -> Result<Vec<Prediction>> {
        let rows = self.rows(
            "SELECT image, target, score FROM predictions WHERE run_id = ? AND split = ? ORDER BY image, class",
            [run, split.as_str()],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?, number(row, 2)? as f32)),
        )?;
        let mut predictions: Vec<Prediction> = Vec::new();
        for (image, target, score) in rows {
            match predictions.last_mut().filter(|last| last.image == image) {
                Some(last) => last.scores.push(score),
                None => predictions.push(Prediction { image, target, scores: vec![score] }),
            }
        }
        Ok(predictions)
    }

    /// The names of a run's classes, by index; empty where it has no predictions yet.
    pub fn classes(&self, run: &str) -> Result<Vec<String>> {
        self.rows("SELECT name FROM classes WHERE run_id = ? ORDER BY class", [run], |row| row.get(0))
    }

    /// What a user should know about a run, in the order it was said.
    pub fn warnings(&self, run: &str) -> Result<Vec<Warning>> {
        self.rows("SELECT run_id, message FROM warnings WHERE run_id = ? ORDER BY at, message", [run], |row| {
            Ok(Warning { run: row.get(0)?, message: row.get(1)? })
        })
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self.db.prepare_cached(sql).and_then(|mut query| query.query_map(values, read)?.collect());
        self.at(rows)
    }
}

fn run_of(row: &Row) -> rusqlite::Result<Run> {
    Ok(Run {
        id: row.get(0)?,
        seed: count(row, 1)?,
        fold: row.get(2)?,
        status: Status::parse(&row.get::<_, String>(3)?),
        spec: row.get(4)?,
        data: row.get(5)?,
        attempts: row.get(6)?,
        device: row.get(7)?,
        threads: row.get(8)?,
        parameters: row.get::<_, Option<i64>>(9)?.map(|n| n as u64),
        epochs: row.get(10)?,
        steps_per_epoch: row.get::<_, Option<i64>>(11)?.map(|n| n as u64),
        epoch: row.get(12)?,
        best_epoch: row.get(13)?,
        started_at: row.get(14)?,
        finished_at: row.get(15)?,
        seconds: row.get(16)?,
        cause: row.get(17)?,
        error: row.get(18)?,
        held: row.get(19)?,
        summary: Values::new(),
    })
}

fn origin_of(row: &Row) -> rusqlite::Result<Option<Origin>> {
    let Some(version) = row.get("version")? else { return Ok(None) };
    let text = |name: &str| row.get::<_, Option<String>>(name).map(Option::unwrap_or_default);
    Ok(Some(Origin {
        version,
        binary: row.get("binary")?,
        commit: row.get("git_commit")?,
        patch: row.get("git_patch")?,
        command: text("command")?,
        host: text("host")?,
        hardware: text("hardware")?,
        micro_batch: row.get::<_, Option<i64>>("micro_batch")?.map(|images| images as usize),
    }))
}

/// A number that SQLite keeps as a signed one.
fn count(row: &Row, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|n| n as u64)
}

/// Null stands for a value that is not a number.
fn number(row: &Row, column: usize) -> rusqlite::Result<f64> {
    Ok(row.get::<_, Option<f64>>(column)?.unwrap_or(f64::NAN))
}

fn split_of(text: &str) -> Split {
    match text {
        "train" => Split::Train,
        "test" => Split::Test,
        _ => Split::Val,
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "nothing yet".into() } else { names.join(", ") }
}
