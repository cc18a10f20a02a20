//! What a terminal shows of a sweep: bars on a terminal, plain lines in a log. Everything shown follows from the records
//! of the runs' journals.

mod bars;
mod lines;
mod pace;
mod text;

use crate::{
    data,
    event::{Event, Record},
};
use pace::Pace;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    path::PathBuf,
    time::Duration,
};

/// How a run is called and what is worth showing of it.
#[derive(Clone, Debug)]
pub struct Label {
    pub run: String,
    pub experiment: String,
    /// What the sweep's axes set, e.g. `("optimizer.adam.lr", "0.005")`; empty where there is no axis.
    pub point: Vec<(String, String)>,
    pub seed: u64,
    /// The fold that is held out; `None` without a cross-validation.
    pub fold: Option<u32>,
    pub epochs: u32,
    /// The metric that selects the best epoch.
    pub metric: String,
    pub log: PathBuf,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Finished,
    /// For good.
    Failed {
        message: String,
    },
    /// Another attempt follows.
    Retried {
        message: String,
    },
    /// Came as far as it was asked to; may go on.
    Paused,
    /// Stopped on request; goes on at the next start.
    Stopped,
}

/// How far a sweep is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub total: usize,
    pub finished: usize,
    pub failed: usize,
    /// Time left, once it can be told.
    pub left: Option<Duration>,
}

/// Where progress goes.
trait View {
    fn say(&mut self, message: &str);
    fn data(&mut self, news: data::Progress);
    fn data_done(&mut self) {}
    fn record(&mut self, slot: usize, label: &Label, record: &Record, tally: &Tally);
    fn ended(&mut self, slot: usize, label: &Label, ending: &Ending, last: Option<&Event>, tally: &Tally);
    fn close(&mut self) {}
}

/// Shows a sweep as it runs.
pub struct Progress {
    view: Box<dyn View>,
    tally: Tally,
    pace: Pace,
    labels: BTreeMap<usize, Label>,
    last: BTreeMap<usize, Event>,
    /// Runs that came as far as they were asked to, and count as done unless they go on.
    paused: BTreeSet<String>,
    /// Warnings shown: what every run of a data set warns of is said once.
    warned: BTreeSet<String>,
}

impl Progress {
    /// Bars where standard error is a terminal, lines elsewhere.
    pub fn new() -> Self {
        let view: Box<dyn View> = match std::io::stderr().is_terminal() {
            true => Box::new(bars::Bars::new()),
            false => Box::new(lines::Lines::new(std::io::stderr())),
        };
        Self {
            view,
            tally: Tally::default(),
            pace: Pace::default(),
            labels: BTreeMap::new(),
            last: BTreeMap::new(),
            paused: BTreeSet::new(),
            warned: BTreeSet::new(),
        }
    }

    /// Something a user should read now.
    pub fn say(&mut self, message: &str) {
        self.view.say(message);
    }

    /// How far the images are.
    pub fn data(&mut self, news: data::Progress) {
        self.view.data(news);
    }

    /// The images are all there.
    pub fn data_done(&mut self) {
        self.view.data_done();
    }

    /// What there is to do: the runs to come, how many there are in all, and how many go at once.
    pub fn plan<'a>(&mut self, runs: impl Iterator<Item = &'a Label>, total: usize, at_once: usize) {
        self.pace = Pace::new(runs, at_once);
        self.tally.total = total;
        self.tally.finished = total - self.pace.runs();
    }

    /// One more run to do: it was not planned from the start, or goes on after a pause.
    pub fn more(&mut self, run: &Label) {
        match self.pace.add(run) {
            true if self.paused.remove(&run.run) => self.tally.finished -= 1,
            true => self.tally.total += 1,
            false => {}
        }
    }

    /// A slot takes up a run.
    pub fn assigned(&mut self, slot: usize, label: Label) {
        self.last.remove(&slot);
        self.labels.insert(slot, label);
    }

    /// Something happened in the run of a slot.
    pub fn record(&mut self, slot: usize, record: &Record) {
        let Some(label) = self.labels.get(&slot) else { return };
        if let Event::Warning { message } = &record.event
            && self.warned.insert(message.clone())
        {
            self.view.say(&format!("warning  {}: {message}", text::name(label)));
        }
        self.pace.record(label, record);
        self.tally.left = self.pace.left();
        self.view.record(slot, label, record, &self.tally);
        self.last.insert(slot, record.event.clone());
    }

    /// The attempt of a slot is over.
    pub fn ended(&mut self, slot: usize, ending: &Ending) {
        let Some(label) = self.labels.remove(&slot) else { return };
        match ending {
            Ending::Finished | Ending::Paused => self.tally.finished += 1,
            Ending::Failed { .. } => self.tally.failed += 1,
            Ending::Retried { .. } | Ending::Stopped => {}
        }
        if *ending == Ending::Paused {
            self.paused.insert(label.run.clone());
        }
        if matches!(ending, Ending::Finished | Ending::Paused | Ending::Failed { .. }) {
            self.pace.ended(&label);
        }
        self.tally.left = self.pace.left();
        self.view.ended(slot, &label, ending, self.last.get(&slot), &self.tally);
    }

    /// A run that had failed is tried again.
    pub fn tried_again(&mut self, label: &Label) {
        self.tally.failed = self.tally.failed.saturating_sub(1);
        self.pace.add(label);
    }

    /// Leaves the terminal as lines.
    pub fn close(&mut self) {
        self.view.close();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
impl Label {
    /// A run of four epochs, for tests.
    fn of(run: &str, experiment: &str) -> Self {
        Self {
            run: run.into(),
            experiment: experiment.into(),
            point: Vec::new(),
            seed: 0,
            fold: None,
            epochs: 4,
            metric: "auc".into(),
            log: "log.txt".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl View for Silent {
        fn say(&mut self, _: &str) {}
        fn data(&mut self, _: data::Progress) {}
        fn record(&mut self, _: usize, _: &Label, _: &Record, _: &Tally) {}
        fn ended(&mut self, _: usize, _: &Label, _: &Ending, _: Option<&Event>, _: &Tally) {}
    }

    #[test]
    fn a_run_that_goes_on_after_a_pause_counts_once() {
        let mut progress = Progress { view: Box::new(Silent), ..Progress::new() };
        let [a, b, c] = ["a", "b", "c"].map(|run| Label::of(run, "baseline"));
        progress.plan([&a, &b].into_iter(), 2, 1);
        let mut attempt = |label: &Label, ending| {
            progress.more(label);
            progress.assigned(0, label.clone());
            progress.ended(0, &ending);
            (progress.tally.finished, progress.tally.total)
        };
        assert_eq!(attempt(&a, Ending::Paused), (1, 2));
        assert_eq!(attempt(&a, Ending::Paused), (1, 2));
        assert_eq!(attempt(&b, Ending::Finished), (2, 2));
        assert_eq!(attempt(&c, Ending::Finished), (3, 3));
        assert_eq!(attempt(&a, Ending::Finished), (3, 3));
    }
}
