//! What a sweep decides while it runs: further runs, the points of searches, runs that are given up on.

use super::{NewRun, Store};
use crate::{error::Result, event::Split};
use rusqlite::params;

/// A point that a search decided on.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTrial {
    pub experiment: String,
    /// The search it belongs to.
    pub search: String,
    /// The values as the search knows them, as JSON.
    pub sample: String,
}

/// A point of an experiment that a race dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLoss {
    pub experiment: String,
    pub point: String,
    /// Whom it was compared with.
    pub leader: String,
    pub leader_point: String,
    /// Seeds it had by then.
    pub seeds: u64,
    /// How much worse its selected metric was on average, and the 95 % interval of that.
    pub behind: f64,
    pub interval: Option<(f64, f64)>,
    /// The adjusted p-value, and the level it had to reach.
    pub p: f64,
    pub level: f64,
}

impl Store {
    /// Writes who has left the race of a sweep, in place of what stood there.
    pub fn set_losses(&mut self, sweep: &str, losses: &[StoredLoss]) -> Result<()> {
        self.write(|db| {
            db.prepare_cached("DELETE FROM race_losses WHERE sweep = ?")?.execute([sweep])?;
            let mut row = db.prepare_cached("INSERT INTO race_losses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
            for loss in losses {
                let (low, high) = loss.interval.unzip();
                row.execute(params![
                    sweep,
                    loss.experiment,
                    loss.point,
                    loss.leader,
                    loss.leader_point,
                    loss.seeds as i64,
                    loss.behind,
                    low,
                    high,
                    loss.p,
                    loss.level
                ])?;
            }
            Ok(())
        })
    }

    /// Who has left the race of a sweep, the first one first.
    pub fn losses(&self, sweep: &str) -> Result<Vec<StoredLoss>> {
        let sql = "SELECT experiment, point, leader, leader_point, seeds, behind, low, high, p, level FROM race_losses
                   WHERE sweep = ? ORDER BY seeds, experiment, point";
        self.rows(sql, [sweep], |row| {
            let interval = row.get::<_, Option<f64>>(6)?.zip(row.get::<_, Option<f64>>(7)?);
            Ok(StoredLoss {
                experiment: row.get(0)?,
                point: row.get(1)?,
                leader: row.get(2)?,
                leader_point: row.get(3)?,
                seeds: row.get::<_, i64>(4)? as u64,
                behind: row.get(5)?,
                interval,
                p: row.get(8)?,
                level: row.get(9)?,
            })
        })
    }

    /// Adds runs to a sweep that is there, behind those it has.
    pub fn add_runs(&mut self, sweep: &str, runs: &[NewRun]) -> Result<()> {
        self.write(|db| {
            let last = "SELECT ifnull(max(position), -1) FROM sweep_runs WHERE sweep = ?";
            let last: i64 = db.prepare_cached(last)?.query_row([sweep], |row| row.get(0))?;
            super::insert_runs(db, sweep, runs, last + 1)
        })
    }

    /// Notes the points that searches decided on, behind those there are.
    pub fn add_trials(&mut self, sweep: &str, trials: &[StoredTrial]) -> Result<()> {
        self.write(|db| {
            let mut row = db.prepare_cached(
                "INSERT INTO trials (sweep, experiment, search, trial, sample) VALUES (?1, ?2, ?3,
                     (SELECT count(*) FROM trials WHERE sweep = ?1 AND experiment = ?2 AND search = ?3), ?4)",
            )?;
            for trial in trials {
                row.execute(params![sweep, trial.experiment, trial.search, trial.sample])?;
            }
            Ok(())
        })
    }

    /// The points that a sweep's searches decided on, in order.
    pub fn trials(&self, sweep: &str) -> Result<Vec<StoredTrial>> {
        let sql = "SELECT experiment, search, sample FROM trials WHERE sweep = ? ORDER BY experiment, search, trial";
        self.rows(sql, [sweep], |row| {
            Ok(StoredTrial { experiment: row.get(0)?, search: row.get(1)?, sample: row.get(2)? })
        })
    }

    /// Gives up on a run that has not finished, in favour of others; it keeps what it has.
    pub fn prune(&mut self, run: &str) -> Result<()> {
        self.write(|db| {
            db.prepare_cached("UPDATE runs SET status = 'pruned' WHERE id = ? AND status <> 'finished'")?
                .execute([run])
                .map(|_| ())
        })
    }

    /// A metric of a run by epoch, in order.
    pub fn curve(&self, run: &str, split: Split, metric: &str) -> Result<Vec<(u32, f64)>> {
        let sql = "SELECT epoch, value FROM metrics WHERE run_id = ? AND split = ? AND name = ? AND step IS NULL
                   ORDER BY epoch";
        self.rows(sql, params![run, split.as_str(), metric], |row| {
            Ok((row.get(0)?, row.get::<_, Option<f64>>(1)?.unwrap_or(f64::NAN)))
        })
    }
}
