//! The first sentence, and what must be known about it.

use crate::{
    report::{
        statistics,
        study::{Arm, Study},
        verdict::Verdict,
        words,
    },
    store::Status,
};

/// What the sweep found, in a sentence or two.
pub fn verdict(study: &Study) -> String {
    let metric = words::metric(&study.metric);
    let Some(best) = study.best() else {
        return match study.count(Status::Finished) {
            0 => "No run has finished yet: there is nothing to compare.".into(),
            _ => format!("No finished run has a validation {metric}: there is nothing to compare."),
        };
    };
    let first = &study.arms[0];
    if study.arms.len() == 1 {
        return format!("{}.", reaches(study, first));
    }
    if study.chosen_values(first, &study.metric).is_empty() {
        return format!(
            "No run of {}, which the others are compared to, has finished: no comparison yet. So far {}.",
            first.name,
            reaches(study, best)
        );
    }
    against_first(study, first, best)
}

/// The best candidate's verdict, and what is known of the others.
fn against_first(study: &Study, first: &Arm, best: &Arm) -> String {
    let of = |verdict: Verdict| {
        let these = study.arms.iter().filter(move |arm| arm.comparison.as_ref().is_some_and(|c| c.verdict == verdict));
        these.map(|arm| arm.name.as_str()).collect::<Vec<_>>()
    };
    let candidate = if std::ptr::eq(best, first) { strongest(study) } else { Some(best) };
    let sentence = candidate.and_then(|arm| arm.comparison.as_ref()).map(|comparison| comparison.sentence());
    let Some(sentence) = sentence else {
        return format!(
            "{}; no other experiment shares a finished {} with {}.",
            reaches(study, best),
            study.unit.word(),
            first.name
        );
    };
    let named = candidate.map_or("", |arm| arm.name.as_str());
    let others: Vec<&str> =
        study.arms.iter().skip(1).map(|arm| arm.name.as_str()).filter(|name| *name != named).collect();
    if others.is_empty() {
        return sentence;
    }
    let also = |verb: &str, names: Vec<&str>| {
        let names: Vec<&str> = names.into_iter().filter(|name| *name != named).collect();
        (!names.is_empty()).then(|| format!(" Also {verb} than {}: {}.", first.name, names.join(", ")))
    };
    let known = [also("better", of(Verdict::Better)), also("worse", of(Verdict::Worse))].into_iter().flatten();
    known.fold(sentence, |sentence, more| sentence + &more)
}

/// The best of the candidates, where the reference itself is best of all.
fn strongest(study: &Study) -> Option<&Arm> {
    let gain = |arm: &&Arm| arm.comparison.as_ref().map_or(f64::NEG_INFINITY, |comparison| comparison.gain());
    study.arms.iter().skip(1).filter(|arm| arm.comparison.is_some()).max_by(|a, b| gain(a).total_cmp(&gain(b)))
}

fn reaches(study: &Study, arm: &Arm) -> String {
    let values = study.chosen_values(arm, &study.metric);
    let (mean, sd) = (statistics::mean(&values).unwrap_or(f64::NAN), statistics::sd(&values));
    let decimals = words::decimals(sd);
    let over = words::plural(values.len(), study.unit.word());
    let spread = words::spread(mean, sd, decimals);
    format!("{} reaches a validation {} of {spread} over {over}", arm.name, words::metric(&study.metric))
}

/// Partial sweeps, points chosen on the validation set, experiments that select by other metrics.
pub fn notes(study: &Study) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(partial(study));
    notes.extend(pruned(study));
    notes.extend(removed(study));
    notes.extend(study.choice_note());
    notes.extend(study.fold_note());
    notes.extend(study.other_metrics());
    if study.best().is_some() {
        notes.push(
            "Every run is judged at its selected epoch, chosen on the same validation images its numbers come from: \
             compare experiments with each other, and expect less on new data."
                .into(),
        );
    }
    notes
}

/// Pruned runs miss on purpose, but what is left was chosen.
fn pruned(study: &Study) -> Option<String> {
    let (pruned, all) = (study.count(Status::Pruned), study.sweep.runs);
    (pruned > 0).then(|| {
        format!(
            "Pruning stopped {pruned} of {} early, in favour of better ones. They are in no mean; the table of runs says how far \
             each came.",
            words::plural(all, "run")
        )
    })
}

/// Runs of an earlier version of the file.
fn removed(study: &Study) -> Option<String> {
    let ids: Vec<&str> = study.removed.iter().map(String::as_str).collect();
    let shown = match ids.as_slice() {
        [] => return None,
        [first, second, third, _, ..] => format!("{first}, {second}, {third}, .."),
        few => few.join(", "),
    };
    Some(format!(
        "Left out of everything here: {} of earlier versions of the file, which it no longer describes ({shown}).",
        words::plural(ids.len(), "run")
    ))
}

fn partial(study: &Study) -> Option<String> {
    let counts = [
        (study.count(Status::Failed), "failed"),
        (study.count(Status::Running), "running or broken off"),
        (study.count(Status::Pending), "not yet done"),
    ];
    let missing: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let (finished, all) = (study.count(Status::Finished), study.sweep.runs);
    (!missing.is_empty()).then(|| {
        format!(
            "This report is partial: {finished} of {} have finished ({}).",
            words::plural(all, "run"),
            missing.join(", ")
        )
    })
}
