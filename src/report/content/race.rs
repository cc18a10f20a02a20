//! Who was dropped from the race for further seeds, and on what evidence.

use super::{Block, Section, Table, experiments::or_dash};
use crate::{
    report::{study::Study, words},
    store::StoredLoss,
};

/// The race; `None` where nobody was dropped.
pub fn section(study: &Study) -> Option<Section> {
    let first = study.losses.first()?;
    let metric = words::metric(&study.metric);
    let titles =
        ["dropped", "after seeds#", "compared with", &format!("behind in {metric}#"), "95 % interval#", "adjusted p#"];
    let mut table = Table::new(&titles);
    for loss in &study.losses {
        table.row(false, row(loss));
    }
    let text = format!(
        "Further seeds went one at a time to what no paired t test against the best so far had shown worse: a p-value, \
         corrected for the comparisons of its round (Holm), of at most {}, which shares the level of the whole race among \
         its rounds. What was dropped keeps the seeds it had.",
        words::number(first.level, 4)
    );
    Some(Section::new("Race for further seeds", vec![Block::Table(table), Block::Text(text)]))
}

fn row(loss: &StoredLoss) -> Vec<String> {
    let half = loss.interval.map(|(low, high)| (high - low) / 2.0);
    let decimals = words::decimals(half);
    vec![
        named(&loss.experiment, &loss.point),
        loss.seeds.to_string(),
        named(&loss.leader, &loss.leader_point),
        words::number(loss.behind, decimals),
        or_dash(loss.interval, |interval| words::interval(interval, decimals)),
        if loss.p < 1e-4 { "< 0.0001".into() } else { words::number(loss.p, 4) },
    ]
}

fn named(experiment: &str, point: &str) -> String {
    if point.is_empty() { experiment.into() } else { format!("{experiment} ({point})") }
}
