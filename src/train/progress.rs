//! How far a run has come: everything a checkpoint must hold beside tensors.

use crate::{
    error::{Error, Result},
    event::Values,
    schedule::Clock,
    spec::RunSpec,
};
use serde::{Deserialize, Serialize};

/// Counts, sums and the best so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Finished epochs.
    pub epoch: u32,
    /// Optimizer steps made.
    pub step: u64,
    pub step_in_epoch: u64,
    /// Sums over the training images of the epoch at hand.
    loss_sum: f64,
    right: u64,
    seen: u64,
    /// Whether an augmentation mixed labels in the epoch at hand, so that its accuracy means nothing.
    mixed: bool,
    /// The selected metric after each evaluation, as a loss: smaller is better.
    pub history: Vec<f64>,
    pub best_epoch: u32,
    /// Evaluations since the last improvement.
    stale: u32,
    /// Seconds spent training, evaluation not counted, and images trained on.
    pub seconds: f64,
    pub images: u64,
}

impl Progress {
    /// Where the schedule stands.
    pub fn clock(&self, steps_per_epoch: u64, epochs: u32) -> Clock<'_> {
        let total_steps = steps_per_epoch * u64::from(epochs);
        Clock { step: self.step, steps_per_epoch, total_steps, history: &self.history }
    }

    /// Adds a batch's size, mean loss and hits to the epoch; `hits` is `None` where an augmentation mixed its labels.
    pub fn count(&mut self, size: u64, loss: f64, hits: Option<u64>) {
        self.loss_sum += loss * size as f64;
        self.seen += size;
        self.images += size;
        match hits {
            None => self.mixed = true,
            Some(hits) => self.right += hits,
        }
    }

    /// Counts an optimizer step.
    pub fn step_done(&mut self) {
        self.step += 1;
        self.step_in_epoch += 1;
    }

    /// Closes the epoch and returns its training values.
    pub fn end_epoch(&mut self) -> Values {
        let seen = self.seen.max(1) as f64;
        let mut values = Values::from([("loss".to_string(), self.loss_sum / seen)]);
        if !self.mixed {
            values.insert("accuracy".into(), self.right as f64 / seen);
        }
        self.epoch += 1;
        (self.step_in_epoch, self.loss_sum, self.right, self.seen, self.mixed) = (0, 0.0, 0, 0, false);
        values
    }

    /// Takes an evaluation's values; true where this epoch is the best so far.
    pub fn record(&mut self, spec: &RunSpec, values: &Values) -> Result<bool> {
        let loss = selected(spec, values)?;
        let best = self.history.iter().copied().fold(f64::INFINITY, f64::min);
        let min_delta = spec.early_stop.as_ref().map_or(0.0, |stop| stop.min_delta);
        self.stale = if loss < best - min_delta { 0 } else { self.stale + 1 };
        self.history.push(loss);
        if loss < best {
            self.best_epoch = self.epoch;
        }
        Ok(loss < best)
    }

    /// The epochs of the `count` best evaluations, best first, the earlier of equal ones before the later.
    pub fn best_epochs(&self, count: usize, spec: &RunSpec) -> Vec<u32> {
        let mut places: Vec<usize> = (0..self.history.len()).collect();
        places.sort_by(|&a, &b| self.history[a].total_cmp(&self.history[b]));
        let epoch = |place: usize| ((place as u32 + 1) * spec.eval_every).min(spec.epochs);
        places.into_iter().take(count).map(epoch).collect()
    }

    /// Whether the selected metric has not become better for too long.
    pub fn stopped_early(&self, spec: &RunSpec) -> bool {
        spec.early_stop.as_ref().is_some_and(|stop| self.stale >= stop.patience)
    }
}

/// The selected metric as a loss: smaller is better.
pub fn selected(spec: &RunSpec, values: &Values) -> Result<f64> {
    let metric = &spec.select.metric;
    let value = values.get(metric).ok_or_else(|| {
        Error::user(format!(
            "select.metric = \"{metric}\" is not defined on this validation set (it has: {})",
            values.keys().cloned().collect::<Vec<_>>().join(", ")
        ))
    })?;
    Ok(spec.select.loss(*value))
}
