//! What a plan cannot list yet, because results decide about it, in words.

use super::PlannedRun;
use crate::spec::{Block, Experiment, ExperimentFile, Sampler};
use std::collections::BTreeSet;

/// A line for everything that comes beside the runs of a plan.
pub fn outlook(file: &ExperimentFile, runs: &[PlannedRun]) -> Vec<String> {
    let mut lines = Vec::new();
    for experiment in &file.experiments {
        let blocks: Vec<&Block> = file.sweep.blocks.iter().filter(|block| block.is_for(&experiment.name)).collect();
        lines.extend(further_points(experiment, &blocks, runs));
        lines.extend(blocks.iter().filter_map(|block| further_seeds(experiment, block)));
    }
    if let Some(pruning) = &file.sweep.pruning {
        let epochs = runs.iter().map(|run| run.spec.epochs).max().unwrap_or(0);
        let rungs: Vec<String> = pruning.as_dyn().rungs(epochs).iter().map(u32::to_string).collect();
        lines.push(format!(
            "pruning ({}): runs pause after epochs {}, and the best go on",
            pruning.name(),
            rungs.join(", ")
        ));
    }
    if let Some(race) = &file.sweep.race {
        lines.push(format!(
            "race: then one more seed at a time, up to {}, to whatever no test has shown worse",
            race.seeds
        ));
    }
    lines
}

/// Experiments that describe the runs of another, so that nothing can tell them apart: a line for each.
pub fn twins(runs: &[PlannedRun]) -> Vec<String> {
    let mut sets: Vec<(&str, BTreeSet<&str>)> = Vec::new();
    for run in runs {
        match sets.iter_mut().find(|(name, _)| *name == run.experiment) {
            Some((_, ids)) => drop(ids.insert(&run.id)),
            None => sets.push((&run.experiment, BTreeSet::from([run.id.as_str()]))),
        }
    }
    let first = |ids| sets.iter().find(|(_, other)| other == ids).map(|(name, _)| *name);
    let same = sets.iter().filter_map(|(name, ids)| Some((name, first(ids).filter(|first| first != name)?)));
    same.map(|(name, first)| format!("note: `{name}` describes the very runs of `{first}`: nothing differs")).collect()
}

fn further_points(experiment: &Experiment, blocks: &[&Block], runs: &[PlannedRun]) -> Option<String> {
    let spaces = || blocks.iter().filter_map(|block| block.space.as_ref());
    if !spaces().any(|space| space.sampler == Sampler::Tpe) {
        return None;
    }
    let written: BTreeSet<_> = experiment.points.iter().map(|point| &point.assignments).collect();
    let own = runs.iter().filter(|run| run.experiment == experiment.name);
    let drawn = own.map(|run| &run.point).filter(|point| !written.contains(point)).collect::<BTreeSet<_>>().len();
    let more = spaces().map(|space| space.trials).sum::<usize>().saturating_sub(drawn);
    (more > 0)
        .then(|| format!("{}: {} more, decided as results come in (tpe)", experiment.name, counted(more, "point")))
}

fn further_seeds(experiment: &Experiment, block: &Block) -> Option<String> {
    let seeds = block.seeds.len() - 1;
    let best = block.confirm.filter(|_| seeds > 0)?;
    Some(format!("{}: then its best {} with {}", experiment.name, counted(best, "point"), counted(seeds, "more seed")))
}

/// `1 point`, `3 points`.
fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
