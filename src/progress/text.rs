//! The words both views share.

use super::{Ending, Label, Tally};
use crate::{
    data,
    event::{Event, Values},
};
use std::{fmt::Write, time::Duration};

/// `baseline lr=0.005 seed 0 fold 2`: the axes by the last part of their path.
pub fn name(label: &Label) -> String {
    let mut text = label.experiment.clone();
    for (path, value) in &label.point {
        let key = path.rsplit('.').next().unwrap_or(path);
        let _ = write!(text, " {key}={value}");
    }
    let _ = write!(text, " seed {}", label.seed);
    if let Some(fold) = label.fold {
        let _ = write!(text, " fold {fold}");
    }
    text
}

/// `loss 0.6931`, where there is such a value.
pub fn value(values: &Values, name: &str) -> Option<String> {
    values.get(name).map(|value| format!("{name} {value:.4}"))
}

/// What an epoch came to: training loss, validation loss, the selected metric, speed.
pub fn epoch(train: Option<&Values>, val: Option<&Values>, metric: &str) -> String {
    let mut parts = Vec::new();
    parts.extend(train.and_then(|values| value(values, "loss")).map(|text| format!("train {text}")));
    parts.extend(val.and_then(|values| value(values, "loss")).map(|text| format!("val {text}")));
    if metric != "loss" {
        parts.extend(val.and_then(|values| value(values, metric)).map(|text| format!("val {text}")));
    }
    parts.extend(train.and_then(speed));
    parts.join("  ")
}

pub fn speed(values: &Values) -> Option<String> {
    values.get("images_per_second").map(|speed| format!("{speed:.0} img/s"))
}

/// What is being done with the images, and how many tenths of it.
pub fn images(news: data::Progress) -> (&'static str, Option<usize>) {
    let tenths = |done: usize, total: usize| Some((done * 10).checked_div(total).unwrap_or(10));
    match news {
        data::Progress::Reading { done, total } => ("reading images", tenths(done, total)),
        data::Progress::Decoding { done, total } => ("decoding images", tenths(done, total)),
        data::Progress::Synthesizing { done, total } => ("synthesizing images", tenths(done, total)),
        data::Progress::Waiting => ("another process prepares these images; waiting for it", None),
    }
}

/// How an attempt ended, in one line.
pub fn ending(label: &Label, ending: &Ending, last: Option<&Event>) -> String {
    let name = name(label);
    match ending {
        Ending::Finished => format!("done     {name}{}", summary(label, last)),
        Ending::Failed { message } => format!("FAILED   {name}: {message}"),
        Ending::Retried { message } => format!("again    {name}: {message}"),
        Ending::Paused => format!("paused   {name}{}", reached(last)),
        Ending::Stopped => format!("stopped  {name}"),
    }
}

/// What to read after a failure.
pub fn advice(label: &Label, ending: &Ending) -> Option<String> {
    matches!(ending, Ending::Failed { .. }).then(|| format!("         log: {}", label.log.display()))
}

/// Where a paused run stands.
fn reached(last: Option<&Event>) -> String {
    match last {
        Some(Event::Paused { epoch }) => format!(" after epoch {epoch}"),
        _ => String::new(),
    }
}

fn summary(label: &Label, last: Option<&Event>) -> String {
    let Some(Event::Finished { best_epoch, summary }) = last else { return String::new() };
    let mut text = match value(summary, &label.metric) {
        Some(selected) => format!(": {selected} (epoch {best_epoch})"),
        None => format!(": best epoch {best_epoch}"),
    };
    if let Some(seconds) = summary.get("seconds") {
        let _ = write!(text, ", {}", time(Duration::try_from_secs_f64(*seconds).unwrap_or_default()));
    }
    text
}

/// `3 of 8 runs, 1 failed, about 2 min left`.
pub fn tally(tally: &Tally) -> String {
    let mut text = format!("{} of {} runs", tally.finished + tally.failed, tally.total);
    if tally.failed > 0 {
        let _ = write!(text, ", {} failed", tally.failed);
    }
    if let Some(left) = tally.left.filter(|left| !left.is_zero()) {
        let _ = write!(text, ", about {} left", time(left));
    }
    text
}

/// `42 s`, `3 min 10 s`, `2 h 5 min`.
pub fn time(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_tallies_read_well() {
        assert_eq!(time(Duration::from_secs(42)), "42 s");
        assert_eq!(time(Duration::from_secs(190)), "3 min 10 s");
        assert_eq!(time(Duration::from_secs(7500)), "2 h 5 min");
        let mut so_far = Tally { total: 8, finished: 2, failed: 0, left: None };
        assert_eq!(tally(&so_far), "2 of 8 runs");
        so_far = Tally { failed: 1, left: Some(Duration::from_secs(61)), ..so_far };
        assert_eq!(tally(&so_far), "3 of 8 runs, 1 failed, about 1 min 1 s left");
    }

    #[test]
    fn an_epoch_shows_what_there_is() {
        let train = [("loss".to_string(), 0.5), ("images_per_second".to_string(), 120.4)].into();
        let val = [("loss".to_string(), 0.6), ("auc".to_string(), 0.75)].into();
        assert_eq!(
            epoch(Some(&train), Some(&val), "auc"),
            "train loss 0.5000  val loss 0.6000  val auc 0.7500  120 img/s"
        );
        assert_eq!(epoch(Some(&train), None, "auc"), "train loss 0.5000  120 img/s");
    }
}
