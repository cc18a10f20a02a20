//! What changed since a sweep was last run: lines of its file, and the runs that come and go with them.

use super::label;
use crate::{
    error::Result,
    spec::ExperimentFile,
    store::{Status, Store, SweepRun},
    sweep::PlannedRun,
};
use std::{collections::BTreeSet, fmt};

/// Runs shown of each kind; the rest is a number.
const SHOWN: usize = 12;

/// A run in its place: experiment, point and id.
type Key = (String, String, String);

/// What an edited file changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    path: String,
    /// Changed lines, each behind `-` or `+`.
    lines: Vec<String>,
    added: Vec<String>,
    removed: Vec<String>,
    kept: usize,
    finished: usize,
}

/// Compares a plan with what the store knows of its sweep; `None` where that is the first one or the same.
pub fn edit(store: &Store, file: &ExperimentFile, plan: &[PlannedRun]) -> Result<Option<Edit>> {
    let Some(before) = store.sweeps()?.into_iter().find(|sweep| sweep.name == file.name) else { return Ok(None) };
    let mut old = store.runs(&file.name)?;
    if file.partial {
        old.retain(|at| file.experiments.iter().any(|experiment| experiment.name == at.experiment));
    }
    let known: BTreeSet<Key> = old.iter().map(old_key).collect();
    let planned: BTreeSet<Key> = plan.iter().map(new_key).collect();
    let kept: Vec<&SweepRun> = old.iter().filter(|at| planned.contains(&old_key(at))).collect();
    let added = plan.iter().filter(|run| !known.contains(&new_key(run)));
    let removed = old.iter().filter(|at| !planned.contains(&old_key(at)));
    let edit = Edit {
        path: file.path.display().to_string(),
        lines: changed_lines(&before.file, &file.text),
        added: added.map(|run| line(&run.id, &run.experiment, run.seed, run.fold(), &label(&run.point))).collect(),
        removed: removed.map(removed_line).collect(),
        finished: kept.iter().filter(|at| at.run.status == Status::Finished).count(),
        kept: kept.len(),
    };
    Ok((!edit.added.is_empty() || !edit.removed.is_empty() || !edit.lines.is_empty()).then_some(edit))
}

fn old_key(at: &SweepRun) -> Key {
    (at.experiment.clone(), at.point.clone(), at.run.id.clone())
}

fn new_key(run: &PlannedRun) -> Key {
    (run.experiment.clone(), label(&run.point), run.id.clone())
}

fn removed_line(at: &SweepRun) -> String {
    let state = match at.run.status {
        Status::Finished => "finished",
        _ if at.run.epoch > 0 => "begun",
        _ => "not begun",
    };
    format!("{}  {state}", line(&at.run.id, &at.experiment, at.run.seed, at.run.fold, &at.point))
}

fn line(id: &str, experiment: &str, seed: u64, fold: Option<u32>, point: &str) -> String {
    let fold = fold.map_or(String::new(), |fold| format!("  fold {fold}"));
    let point = if point.is_empty() { String::new() } else { format!("  {point}") };
    format!("{id}  {experiment}  seed {seed}{fold}{point}")
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lines.is_empty() {
            true => writeln!(f, "the plan of {} is another one than when it was last run", self.path)?,
            false => writeln!(f, "{} has changed since it was last run", self.path)?,
        }
        self.lines.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(
            f,
            "runs: {} added, {} removed, {} as before ({} finished)",
            self.added.len(),
            self.removed.len(),
            self.kept,
            self.finished
        )?;
        write_some(f, '+', &self.added)?;
        write_some(f, '-', &self.removed)?;
        match self.removed.is_empty() {
            true => Ok(()),
            false => writeln!(f, "removed runs keep what they have; the report leaves them out and says so"),
        }
    }
}

fn write_some(f: &mut fmt::Formatter<'_>, mark: char, lines: &[String]) -> fmt::Result {
    lines.iter().take(SHOWN).try_for_each(|line| writeln!(f, "  {mark} {line}"))?;
    match lines.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  {mark} .. and {more} more"),
    }
}

/// The lines of two texts that differ, in order; those taken away before those put in their place. By the longest common
/// subsequence of lines.
fn changed_lines(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // What is common at both ends needs no table.
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    let common = common_lengths(old, new);
    let (mut i, mut j, mut changed) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        let same = i < old.len() && j < new.len() && old[i] == new[j];
        if same {
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            changed.push(format!("- {}", old[i]));
            i += 1;
        } else {
            changed.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    changed
}

/// `table[i][j]`: the length of the longest common subsequence of what follows line `i` of one and `j` of the other.
fn common_lengths(old: &[&str], new: &[&str]) -> Vec<Vec<u32>> {
    let mut table = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i][j] = match old[i] == new[j] {
                true => table[i + 1][j + 1] + 1,
                false => table[i + 1][j].max(table[i][j + 1]),
            };
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_are_those_that_differ() {
        assert_eq!(changed_lines("a\nb\nc\nd", "a\nx\nc\nd\ne"), ["- b", "+ x", "+ e"]);
        assert_eq!(changed_lines("a\nb\nc", "c\na\nb"), ["+ c", "- c"]);
        assert_eq!(changed_lines("", "a"), ["+ a"]);
        assert!(changed_lines("a\nb\n", "a\nb").is_empty());
    }

    #[test]
    fn a_long_list_is_cut_to_a_number() {
        let edit = Edit { path: "a.toml".into(), added: vec!["run".into(); 20], ..Edit::default() };
        let text = edit.to_string();
        assert!(text.contains("20 added, 0 removed") && text.contains("+ .. and 8 more"), "{text}");
    }
}
