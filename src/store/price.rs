//! What runs cost, and what they were expected to.

use super::{Store, now};
use crate::error::Result;
use rusqlite::params;

/// Runs looked at for what runs cost: the last ones.
const LATEST: i64 = 300;

/// What an earlier run cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// The resolved specification as TOML.
    pub spec: String,
    pub device: String,
    /// Epochs finished, steps of each, and the seconds of all its attempts together.
    pub epochs: u32,
    pub steps_per_epoch: u64,
    pub seconds: f64,
    pub parameters: u64,
}

/// What a sweep is expected to take, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Left to do.
    pub runs: usize,
    /// Until the last run ends: at least, about, at most.
    pub low: f64,
    pub about: f64,
    pub high: f64,
    /// Of a core, or of a GPU.
    pub device: f64,
}

/// An estimate and what has come of it so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// Seconds since the Unix epoch.
    pub at: f64,
    pub estimate: Estimate,
    /// Runs that have finished since, until the next estimate.
    pub finished: usize,
    /// Seconds until the last sign of life of a run, and seconds of cores or GPUs.
    pub seconds: f64,
    pub device: f64,
}

impl Store {
    /// The last runs that got somewhere, and what they cost.
    pub fn past(&self) -> Result<Vec<Past>> {
        self.rows(
            "SELECT r.spec, r.device, r.epoch, r.steps_per_epoch, r.parameters,
                    (SELECT total(a.seen_at - a.started_at) FROM attempts a WHERE a.run_id = r.id) AS seconds
             FROM runs r WHERE r.epoch > 0 AND r.device IS NOT NULL AND r.steps_per_epoch > 0 AND seconds > 0
             ORDER BY r.started_at DESC LIMIT ?",
            [LATEST],
            |row| {
                Ok(Past {
                    spec: row.get(0)?,
                    device: row.get(1)?,
                    epochs: row.get(2)?,
                    steps_per_epoch: row.get::<_, i64>(3)? as u64,
                    parameters: row.get::<_, Option<i64>>(4)?.unwrap_or(0) as u64,
                    seconds: row.get(5)?,
                })
            },
        )
    }

    /// Writes down what a sweep is expected to take.
    pub fn add_estimate(&mut self, sweep: &str, estimate: &Estimate) -> Result<()> {
        let Estimate { runs, low, about, high, device } = *estimate;
        self.write(|db| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO estimates (sweep, at, runs, low, about, high, device) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![sweep, now(), runs as i64, low, about, high, device])
            .map(|_| ())
        })
    }

    /// A sweep's estimates, in order, and what came of each.
    pub fn predicted(&self, sweep: &str) -> Result<Vec<Predicted>> {
        self.rows(
            "WITH spans AS (SELECT *, lead(at, 1, 9e999) OVER (ORDER BY at) AS until FROM estimates WHERE sweep = ?1),
                  tries AS (SELECT a.* FROM attempts a
                            WHERE a.run_id IN (SELECT run_id FROM sweep_runs WHERE sweep = ?1))
             SELECT s.at, s.runs, s.low, s.about, s.high, s.device,
                    count(t.run_id) FILTER (WHERE t.outcome = 'finished'), ifnull(max(t.seen_at) - s.at, 0),
                    total((t.seen_at - t.started_at) * iif(t.device = 'cpu', t.threads, 1))
             FROM spans s LEFT JOIN tries t ON t.started_at >= s.at AND t.started_at < s.until
             GROUP BY s.at ORDER BY s.at",
            [sweep],
            |row| {
                Ok(Predicted {
                    at: row.get(0)?,
                    estimate: Estimate {
                        runs: row.get::<_, i64>(1)? as usize,
                        low: row.get(2)?,
                        about: row.get(3)?,
                        high: row.get(4)?,
                        device: row.get(5)?,
                    },
                    finished: row.get::<_, i64>(6)? as usize,
                    seconds: row.get(7)?,
                    device: row.get(8)?,
                })
            },
        )
    }
}
