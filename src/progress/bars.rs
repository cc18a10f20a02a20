//! Bars on a terminal: one for the sweep, one for each run at work; what ended scrolls away above them.

use super::{Ending, Label, Tally, View, text};
use crate::{
    data,
    event::{Event, Record, Split, Values},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{collections::BTreeMap, time::Duration};

/// What a terminal shows while a sweep is at work.
pub struct Bars {
    screen: MultiProgress,
    total: ProgressBar,
    images: Option<ProgressBar>,
    slots: BTreeMap<usize, Slot>,
}

struct Slot {
    bar: ProgressBar,
    steps_per_epoch: u64,
    epoch: u32,
    loss: Option<String>,
    val: Option<String>,
    speed: Option<String>,
}

impl Bars {
    pub fn new() -> Self {
        let screen = MultiProgress::new();
        let total = screen.add(ProgressBar::new(0).with_style(style("{elapsed_precise} [{bar:30}] {msg}")));
        total.enable_steady_tick(Duration::from_secs(1));
        Self { screen, total, images: None, slots: BTreeMap::new() }
    }

    fn overall(&self, tally: &Tally) {
        self.total.set_length(tally.total as u64);
        self.total.set_position((tally.finished + tally.failed) as u64);
        self.total.set_message(text::tally(tally));
    }
}

impl View for Bars {
    fn say(&mut self, message: &str) {
        let _ = self.screen.println(message);
    }

    fn data(&mut self, news: data::Progress) {
        let bar = self.images.get_or_insert_with(|| {
            self.screen
                .insert_before(&self.total, ProgressBar::new(0))
                .with_style(style("{msg} [{bar:30}] {pos}/{len}"))
        });
        bar.set_message(text::images(news).0);
        if let data::Progress::Reading { done, total }
        | data::Progress::Decoding { done, total }
        | data::Progress::Synthesizing { done, total } = news
        {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    }

    fn data_done(&mut self) {
        if let Some(bar) = self.images.take() {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
    }

    fn record(&mut self, slot: usize, label: &Label, record: &Record, tally: &Tally) {
        let slot = self.slots.entry(slot).or_insert_with(|| {
            let bar = ProgressBar::new(u64::from(label.epochs)).with_style(style("  {prefix:36} [{bar:20}] {msg}"));
            Slot::new(self.screen.insert_before(&self.total, bar).with_prefix(text::name(label)))
        });
        slot.take(&record.event, &label.metric);
        slot.show(label);
        self.overall(tally);
    }

    fn ended(&mut self, slot: usize, label: &Label, ending: &Ending, last: Option<&Event>, tally: &Tally) {
        if let Some(slot) = self.slots.remove(&slot) {
            slot.bar.finish_and_clear();
            self.screen.remove(&slot.bar);
        }
        for line in [Some(text::ending(label, ending, last)), text::advice(label, ending)].into_iter().flatten() {
            let _ = self.screen.println(line);
        }
        self.overall(tally);
    }

    fn close(&mut self) {
        self.slots.values().for_each(|slot| slot.bar.finish_and_clear());
        self.total.finish_and_clear();
        let _ = self.screen.clear();
    }
}

impl Slot {
    fn new(bar: ProgressBar) -> Self {
        Self { bar, steps_per_epoch: 1, epoch: 0, loss: None, val: None, speed: None }
    }

    fn take(&mut self, event: &Event, metric: &str) {
        match event {
            Event::Started { epoch, epochs, steps_per_epoch, .. } => {
                (self.steps_per_epoch, self.epoch) = (*steps_per_epoch, *epoch);
                self.bar.set_length(u64::from(*epochs) * steps_per_epoch);
                self.bar.set_position(u64::from(*epoch) * steps_per_epoch);
            }
            Event::Step { step, values, .. } => {
                self.bar.set_position(*step);
                self.train(values);
            }
            Event::Epoch { epoch, split: Split::Train, values } => {
                self.epoch = *epoch;
                self.bar.set_position(u64::from(*epoch) * self.steps_per_epoch);
                self.train(values);
            }
            Event::Epoch { split: Split::Val, values, .. } => {
                self.val = text::value(values, metric).map(|text| format!("val {text}"));
            }
            _ => {}
        }
    }

    fn train(&mut self, values: &Values) {
        self.loss = text::value(values, "loss").or(self.loss.take());
        self.speed = text::speed(values).or(self.speed.take());
    }

    fn show(&self, label: &Label) {
        let epoch = format!("epoch {}/{}", self.epoch, label.epochs);
        let parts = [Some(epoch), self.loss.clone(), self.val.clone(), self.speed.clone()];
        self.bar.set_message(parts.into_iter().flatten().collect::<Vec<_>>().join("  "));
    }
}

/// A template of this file; a wrong one would show as the plain bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
