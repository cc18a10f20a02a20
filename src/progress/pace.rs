//! How long the rest takes, from how long epochs took so far.

use super::Label;
use crate::event::{Event, Record, Split};
use std::{collections::BTreeMap, time::Duration};

/// Epochs left and what one of each experiment costs.
#[derive(Debug, Default)]
pub struct Pace {
    at_once: usize,
    /// By run: its experiment and epochs to go.
    to_go: BTreeMap<String, (String, u32)>,
    /// By experiment: seconds and epochs measured.
    cost: BTreeMap<String, (f64, u32)>,
    /// By run: when its last epoch ended.
    mark: BTreeMap<String, f64>,
}

impl Pace {
    pub fn new<'a>(runs: impl Iterator<Item = &'a Label>, at_once: usize) -> Self {
        let mut pace = Self { at_once, ..Self::default() };
        runs.for_each(|label| _ = pace.add(label));
        pace
    }

    /// One more run to do; false where it is there already.
    pub fn add(&mut self, label: &Label) -> bool {
        self.to_go.insert(label.run.clone(), (label.experiment.clone(), label.epochs)).is_none()
    }

    /// Runs not over yet.
    pub fn runs(&self) -> usize {
        self.to_go.len()
    }

    pub fn record(&mut self, label: &Label, record: &Record) {
        match &record.event {
            Event::Started { epoch, epochs, .. } => self.epochs_to_go(label, epochs.saturating_sub(*epoch)),
            Event::Epoch { epoch, split: Split::Train, .. } => {
                self.epochs_to_go(label, label.epochs.saturating_sub(*epoch));
                if let Some(before) = self.mark.get(&label.run) {
                    let (seconds, epochs) = self.cost.entry(label.experiment.clone()).or_default();
                    *seconds += (record.time - before).max(0.0);
                    *epochs += 1;
                }
            }
            _ => return,
        }
        self.mark.insert(label.run.clone(), record.time);
    }

    fn epochs_to_go(&mut self, label: &Label, epochs: u32) {
        if let Some((_, to_go)) = self.to_go.get_mut(&label.run) {
            *to_go = epochs;
        }
    }

    /// The run is over, one way or the other.
    pub fn ended(&mut self, label: &Label) {
        self.to_go.remove(&label.run);
    }

    /// Time left; `None` until an epoch was measured. An experiment that has not run yet is taken to cost as much as the
    /// dearest one that has.
    pub fn left(&self) -> Option<Duration> {
        let cost = |(seconds, epochs): &(f64, u32)| seconds / f64::from(*epochs);
        let dearest = self.cost.values().map(cost).reduce(f64::max)?;
        let run =
            |(experiment, epochs): &(String, u32)| self.cost.get(experiment).map_or(dearest, cost) * f64::from(*epochs);
        let seconds: Vec<f64> = self.to_go.values().map(run).collect();
        // No sooner than the longest run takes.
        let longest = seconds.iter().copied().fold(0.0, f64::max);
        let shared = seconds.iter().sum::<f64>() / self.at_once.max(1) as f64;
        Duration::try_from_secs_f64(shared.max(longest)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: f64, event: Event) -> Record {
        Record { time, attempt: 1, event }
    }

    fn started(epoch: u32) -> Event {
        let device = "cpu".into();
        Event::Started { attempt: 1, device, threads: 1, epoch, epochs: 4, steps_per_epoch: 10, parameters: 1 }
    }

    fn epoch(epoch: u32) -> Event {
        Event::Epoch { epoch, split: Split::Train, values: Default::default() }
    }

    #[test]
    fn the_rest_costs_what_epochs_cost() {
        let labels = [Label::of("a", "cheap"), Label::of("b", "dear"), Label::of("c", "unknown")];
        let mut pace = Pace::new(labels.iter(), 2);
        assert_eq!(pace.left(), None);
        pace.record(&labels[0], &at(100.0, started(0)));
        pace.record(&labels[0], &at(101.0, epoch(1)));
        // 3 + 4 + 4 epochs of a second, two at a time.
        assert_eq!(pace.left(), Some(Duration::from_secs_f64(5.5)));
        pace.record(&labels[1], &at(100.0, started(2)));
        pace.record(&labels[1], &at(110.0, epoch(3)));
        // 3 of one, 1 of ten, 4 of ten: no sooner than the longest.
        assert_eq!(pace.left(), Some(Duration::from_secs_f64(40.0)));
        pace.ended(&labels[2]);
        pace.ended(&labels[1]);
        assert_eq!((pace.left(), pace.runs()), (Some(Duration::from_secs(3)), 1));
    }
}
