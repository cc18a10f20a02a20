//! One event becomes rows. Every row has a key, so that writing a record twice changes nothing.

use crate::{
    error::Cause,
    event::{Event, Origin, Prediction, Record, Split, Values},
};
use rusqlite::{CachedStatement, Connection, params};

/// Writes the records and moves the journal offset. The caller has a transaction open.
pub fn write(db: &Connection, run: &str, records: &[Record], offset: u64) -> rusqlite::Result<()> {
    let mut writer = Writer { db, run, metric: db.prepare_cached(METRIC)? };
    for record in records {
        writer.record(record)?;
    }
    if let Some(last) = records.last() {
        db.prepare_cached("UPDATE attempts SET seen_at = max(seen_at, ?3) WHERE run_id = ?1 AND attempt = ?2")?
            .execute(params![run, last.attempt, last.time])?;
    }
    let known =
        db.prepare_cached("UPDATE runs SET journal_offset = ? WHERE id = ?")?.execute(params![offset as i64, run])?;
    if known == 1 { Ok(()) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
}

const METRIC: &str = "INSERT INTO metrics (run_id, epoch, step, split, name, value) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (run_id, name, split, epoch, ifnull(step, 0)) DO UPDATE SET value = excluded.value";

struct Writer<'a> {
    db: &'a Connection,
    run: &'a str,
    metric: CachedStatement<'a>,
}

impl Writer<'_> {
    fn record(&mut self, record: &Record) -> rusqlite::Result<()> {
        match &record.event {
            Event::Started { .. } => self.started(record),
            Event::Origin(origin) => self.origin(record.attempt, origin),
            Event::Step { epoch, step, values } => self.values(*epoch, Some(*step), Split::Train, values),
            Event::Epoch { epoch, split, values } => self.epoch(*epoch, *split, values),
            Event::Predictions { split, classes, rows, .. } => self.predictions(*split, classes, rows),
            Event::Checkpoint { epoch, best: true } => self.best(*epoch),
            Event::Checkpoint { best: false, .. } => Ok(()),
            Event::Warning { message } => self.warning(record.time, message),
            Event::Finished { best_epoch, summary } => self.finished(record, *best_epoch, summary),
            Event::Paused { .. } => self.paused(record),
            Event::Failed { cause, message } => self.failed(record, *cause, message),
        }
    }

    /// A new attempt. What an earlier one wrote beyond the checkpoint this one begins from goes, so that the rows tell
    /// one uninterrupted story; steps of the epoch the checkpoint may stand within stay, to be replaced by key.
    fn started(&mut self, record: &Record) -> rusqlite::Result<()> {
        let Event::Started { attempt, device, threads, epoch, epochs, steps_per_epoch, parameters } = &record.event
        else {
            return Ok(());
        };
        self.db
            .prepare_cached(
                "INSERT INTO attempts (run_id, attempt, device, threads, epoch, started_at, seen_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT DO UPDATE SET device = ?3, threads = ?4, epoch = ?5, started_at = ?6, outcome = NULL,
                     message = NULL",
            )?
            .execute(params![self.run, attempt, device, *threads as i64, epoch, record.time])?;
        self.db
            .prepare_cached(
                "UPDATE runs SET status = 'running', attempts = max(attempts, ?2), device = ?3, threads = ?4,
                     epoch = ?5, epochs = ?6, steps_per_epoch = ?7, parameters = ?8, cause = NULL, error = NULL,
                     started_at = coalesce(started_at, ?9), finished_at = NULL WHERE id = ?1",
            )?
            .execute(params![
                self.run,
                attempt,
                device,
                *threads as i64,
                epoch,
                epochs,
                *steps_per_epoch as i64,
                *parameters as i64,
                record.time
            ])?;
        self.db
            .prepare_cached(
                "DELETE FROM metrics WHERE run_id = ?1 AND (epoch > ?2 + 1 OR (epoch = ?2 + 1 AND step IS NULL))",
            )?
            .execute(params![self.run, epoch])?;
        Ok(())
    }

    fn origin(&self, attempt: u32, origin: &Origin) -> rusqlite::Result<()> {
        let Origin { version, binary, commit, patch, command, host, hardware, micro_batch } = origin;
        let micro_batch = micro_batch.map(|images| images as i64);
        self.db
            .prepare_cached(
                "UPDATE attempts SET version = ?3, binary = ?4, git_commit = ?5, git_patch = ?6, command = ?7, host = ?8,
                     hardware = ?9, micro_batch = ?10 WHERE run_id = ?1 AND attempt = ?2",
            )?
            .execute(params![
                self.run, attempt, version, binary, commit, patch, command, host, hardware, micro_batch
            ])?;
        Ok(())
    }

    fn values(&mut self, epoch: u32, step: Option<u64>, split: Split, values: &Values) -> rusqlite::Result<()> {
        let step = step.map(|step| step as i64);
        for (name, value) in values {
            self.metric.execute(params![self.run, epoch, step, split.as_str(), name, number(*value)])?;
        }
        Ok(())
    }

    fn epoch(&mut self, epoch: u32, split: Split, values: &Values) -> rusqlite::Result<()> {
        self.values(epoch, None, split, values)?;
        self.db
            .prepare_cached("UPDATE runs SET epoch = max(epoch, ?2) WHERE id = ?1")?
            .execute(params![self.run, epoch])?;
        Ok(())
    }

    fn predictions(&mut self, split: Split, classes: &[String], rows: &[Prediction]) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("DELETE FROM predictions WHERE run_id = ? AND split = ?")?
            .execute(params![self.run, split.as_str()])?;
        self.db.prepare_cached("DELETE FROM classes WHERE run_id = ?")?.execute([self.run])?;
        let mut class = self.db.prepare_cached("INSERT INTO classes (run_id, class, name) VALUES (?, ?, ?)")?;
        for (index, name) in classes.iter().enumerate() {
            class.execute(params![self.run, index as i64, name])?;
        }
        let mut score = self.db.prepare_cached(
            "INSERT OR REPLACE INTO predictions (run_id, split, image, target, class, score) VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        for row in rows {
            for (class, value) in row.scores.iter().enumerate() {
                let value = number(f64::from(*value));
                score.execute(params![self.run, split.as_str(), row.image, row.target, class as i64, value])?;
            }
        }
        Ok(())
    }

    fn best(&self, epoch: u32) -> rusqlite::Result<()> {
        self.db.prepare_cached("UPDATE runs SET best_epoch = ?2 WHERE id = ?1")?.execute(params![self.run, epoch])?;
        Ok(())
    }

    fn warning(&self, time: f64, message: &str) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("INSERT INTO warnings (run_id, message, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?
            .execute(params![self.run, message, time])?;
        Ok(())
    }

    /// Not before it began, even where the clock was set back meanwhile.
    fn finished(&self, record: &Record, best_epoch: u32, summary: &Values) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "UPDATE runs SET status = 'finished', finished_at = max(?2, ifnull(started_at, ?2)), best_epoch = ?3, cause = NULL, error = NULL
                 WHERE id = ?1",
            )?
            .execute(params![self.run, record.time, best_epoch])?;
        self.db.prepare_cached("DELETE FROM summaries WHERE run_id = ?")?.execute([self.run])?;
        let mut row = self.db.prepare_cached("INSERT INTO summaries (run_id, name, value) VALUES (?, ?, ?)")?;
        for (name, value) in summary {
            row.execute(params![self.run, name, number(*value)])?;
        }
        self.ended(record, "finished", None)
    }

    /// A paused run waits: whether it goes on is decided elsewhere.
    fn paused(&self, record: &Record) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("UPDATE runs SET status = 'pending', cause = NULL, error = NULL WHERE id = ?1")?
            .execute([self.run])?;
        self.ended(record, "paused", None)
    }

    /// A run that was interrupted or lacks room has not failed: it goes on.
    fn failed(&self, record: &Record, cause: Cause, message: &str) -> rusqlite::Result<()> {
        let status = if matches!(cause, Cause::Interrupted | Cause::DiskFull) { "pending" } else { "failed" };
        self.db
            .prepare_cached("UPDATE runs SET status = ?2, cause = ?3, error = ?4 WHERE id = ?1")?
            .execute(params![self.run, status, word(cause), message])?;
        self.ended(record, word(cause), Some(message))
    }

    fn ended(&self, record: &Record, outcome: &str, message: Option<&str>) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "UPDATE attempts SET outcome = ?3, message = ?4, seen_at = max(seen_at, ?5)
                 WHERE run_id = ?1 AND attempt = ?2",
            )?
            .execute(params![self.run, record.attempt, outcome, message, record.time])?;
        Ok(())
    }
}

/// SQLite has no NaN: it stores null.
fn number(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

/// The cause as it stands in the file.
fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::User => "user",
        Cause::RunsFailed => "runs_failed",
        Cause::NonFinite => "non_finite",
        Cause::OutOfMemory => "out_of_memory",
        Cause::DiskFull => "disk_full",
        Cause::Environment => "environment",
        Cause::Locked => "locked",
        Cause::Interrupted => "interrupted",
        Cause::Bug => "bug",
    }
}
