//! Plain lines, for logs and pipes: one a run's start, epoch and end.

use super::{Ending, Label, Tally, View, text};
use crate::{
    data,
    event::{Event, Record, Split, Values},
};
use std::{collections::BTreeMap, io::Write, time::Instant};

/// Writes lines that start with the time since the sweep began.
pub struct Lines<W> {
    out: W,
    start: Instant,
    /// By slot: a training epoch whose validation may follow.
    open: BTreeMap<usize, (u32, Values)>,
    /// What was last said about the images.
    images: Option<(&'static str, Option<usize>)>,
}

impl<W: Write> Lines<W> {
    pub fn new(out: W) -> Self {
        Self { out, start: Instant::now(), open: BTreeMap::new(), images: None }
    }

    fn line(&mut self, line: &str) {
        // Nobody reads any more: no reason to stop training.
        let _ = writeln!(self.out, "[{:>7.1} s] {line}", self.start.elapsed().as_secs_f64());
    }

    fn epoch(&mut self, label: &Label, epoch: u32, train: Option<&Values>, val: Option<&Values>) {
        let values = text::epoch(train, val, &label.metric);
        self.line(&format!("epoch    {} {epoch}/{}  {values}", text::name(label), label.epochs));
    }

    /// Writes a training epoch that no validation followed.
    fn settle(&mut self, slot: usize, label: &Label) {
        if let Some((epoch, values)) = self.open.remove(&slot) {
            self.epoch(label, epoch, Some(&values), None);
        }
    }
}

impl<W: Write> View for Lines<W> {
    fn say(&mut self, message: &str) {
        self.line(message);
    }

    fn data(&mut self, news: data::Progress) {
        let (what, tenths) = text::images(news);
        if self.images != Some((what, tenths)) {
            self.images = Some((what, tenths));
            self.line(&format!("{what}{}", tenths.map(|tenths| format!(": {} %", tenths * 10)).unwrap_or_default()));
        }
    }

    fn record(&mut self, slot: usize, label: &Label, record: &Record, _: &Tally) {
        match &record.event {
            Event::Started { attempt, device, threads, epoch, .. } => {
                let from = if *epoch > 0 { format!(", goes on after epoch {epoch}") } else { String::new() };
                let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                let threads = if *threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
                let name = text::name(label);
                self.line(&format!("start    {name} (run {}) on {device}, {threads}{again}{from}", label.run));
            }
            Event::Epoch { epoch, split: Split::Train, values } => {
                self.settle(slot, label);
                self.open.insert(slot, (*epoch, values.clone()));
            }
            Event::Epoch { epoch, split: Split::Val, values } => {
                let train = self.open.remove(&slot).filter(|(open, _)| open == epoch);
                self.epoch(label, *epoch, train.as_ref().map(|(_, values)| values), Some(values));
            }
            Event::Epoch { split: Split::Test, .. }
            | Event::Origin(_)
            | Event::Step { .. }
            | Event::Predictions { .. }
            | Event::Checkpoint { .. }
            | Event::Warning { .. }
            | Event::Finished { .. }
            | Event::Paused { .. }
            | Event::Failed { .. } => {}
        }
    }

    fn ended(&mut self, slot: usize, label: &Label, ending: &Ending, last: Option<&Event>, tally: &Tally) {
        self.settle(slot, label);
        self.line(&format!("{}  [{}]", text::ending(label, ending, last), text::tally(tally)));
        text::advice(label, ending).iter().for_each(|advice| self.line(advice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;

    fn label() -> Label {
        Label {
            run: "00ff".into(),
            experiment: "baseline".into(),
            point: vec![("optimizer.adam.lr".into(), "0.005".into())],
            seed: 7,
            fold: None,
            epochs: 2,
            metric: "auc".into(),
            log: "results/s/runs/00ff/log.txt".into(),
        }
    }

    /// The lines without their times.
    fn written(lines: Lines<Vec<u8>>) -> Vec<String> {
        let text = String::from_utf8(lines.out).unwrap();
        text.lines().map(|line| line.split_once("] ").map_or(line, |(_, rest)| rest).to_string()).collect()
    }

    fn values(name: &str, value: f64) -> Values {
        [(name.to_string(), value)].into()
    }

    #[test]
    fn a_run_is_a_start_a_line_an_epoch_and_an_end() {
        let (mut lines, label) = (Lines::new(Vec::new()), label());
        let tally = Tally { total: 3, finished: 1, ..Tally::default() };
        let device = "cpu".into();
        let started =
            Event::Started { attempt: 2, device, threads: 1, epoch: 1, epochs: 3, steps_per_epoch: 5, parameters: 9 };
        let finished = Event::Finished { best_epoch: 2, summary: values("auc", 0.875) };
        let events = [
            started,
            Event::Step { epoch: 1, step: 1, values: values("loss", 1.0) },
            Event::Epoch { epoch: 1, split: Split::Train, values: values("loss", 0.7) },
            Event::Epoch { epoch: 2, split: Split::Train, values: values("loss", 0.5) },
            Event::Epoch { epoch: 2, split: Split::Val, values: values("auc", 0.875) },
            finished.clone(),
        ];
        for event in events {
            lines.record(0, &label, &Record { time: 0.0, attempt: 2, event }, &tally);
        }
        lines.ended(0, &label, &Ending::Finished, Some(&finished), &tally);
        let expected = [
            "start    baseline lr=0.005 seed 7 (run 00ff) on cpu, 1 thread, attempt 2, goes on after epoch 1",
            "epoch    baseline lr=0.005 seed 7 1/2  train loss 0.7000",
            "epoch    baseline lr=0.005 seed 7 2/2  train loss 0.5000  val auc 0.8750",
            "done     baseline lr=0.005 seed 7: auc 0.8750 (epoch 2)  [1 of 3 runs]",
        ];
        assert_eq!(written(lines), expected);
    }

    #[test]
    fn a_failure_tells_its_cause_and_its_log() {
        let (mut lines, label) = (Lines::new(Vec::new()), label());
        let failed = Event::Failed { cause: Cause::NonFinite, message: "the loss became NaN".into() };
        let ending = Ending::Failed { message: "the loss became NaN".into() };
        lines.ended(0, &label, &ending, Some(&failed), &Tally { total: 2, failed: 1, ..Tally::default() });
        let text = written(lines).join("\n");
        assert!(text.contains("FAILED") && text.contains("became NaN") && text.contains("00ff/log.txt"), "{text}");
    }

    #[test]
    fn decoding_is_a_line_a_tenth() {
        let mut lines = Lines::new(Vec::new());
        lines.data(data::Progress::Waiting);
        (1..=1000).for_each(|done| lines.data(data::Progress::Decoding { done, total: 1000 }));
        assert_eq!(written(lines).len(), 12);
    }
}
