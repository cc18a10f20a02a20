//! The house: imports point down only, modules of one rank do not see each other, and no file grows without end.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The picture of `src/lib.rs`, top to bottom; modules of one line do not see each other.
const RANKS: &[&[&str]] = &[
    &["cli"],
    &["exec"],
    &["sweep", "train", "report", "progress"],
    &["spec", "store"],
    &["synthesize"],
    &["backbone", "augment", "optim", "schedule", "prune", "loss", "metric", "statistics", "data"],
    &["tensor"],
    &["event", "duration", "component", "error"],
];

/// Lines of the longest file there may be.
const LONGEST: usize = 500;

/// Modules of the lowest rank describe plain data and may name each other where one is made of the other.
const SIDEWAYS: &[(&str, &str)] = &[("event", "error")];

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&module))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("src can be listed") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Every file with the top-level module it belongs to.
fn files() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    sources(Path::new("src"), &mut found);
    let module = |path: &PathBuf| {
        let first = path.strip_prefix("src").ok()?.components().next()?.as_os_str().to_string_lossy().into_owned();
        Some(first.trim_end_matches(".rs").to_string())
    };
    found.into_iter().filter_map(|path| Some((module(&path)?, path))).collect()
}

/// The code of a file: without comments, and without its unit tests, which may use what they like.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let line = |line: &str| line.split("//").next().unwrap_or_default().to_string();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Top-level modules that code names: `crate::x::..`, `crate::{x, y::..}`, `super::super::x` where that is the root.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let preceded = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            _ if preceded => {}
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(head(rest)),
        }
    }
    found
}

/// The identifier a path starts with.
fn head(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The first identifiers of `{a::{b, c}, d}`, its opening brace taken off.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.extend(head(&group[start..at]));
                return heads;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.extend(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn groups_and_paths_are_read() {
    let code =
        "use crate::{error::{Context, Result},\n data::{self}, spec};\nfn f() { crate::optim::g(); mycrate::cli::h() }";
    let expected = ["data", "error", "optim", "spec"].map(String::from);
    assert_eq!(imports(code).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_module_has_a_rank() {
    let ranked: BTreeSet<&str> = RANKS.iter().flat_map(|rank| rank.iter().copied()).collect();
    let found: BTreeSet<String> = files().into_iter().map(|(module, _)| module).collect();
    let unknown: Vec<_> = found
        .iter()
        .filter(|module| !matches!(module.as_str(), "lib" | "main") && !ranked.contains(module.as_str()))
        .collect();
    assert!(unknown.is_empty(), "modules without a rank: {unknown:?}");
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (module, path) in files() {
        let Some(own) = rank(&module) else { continue };
        let text = std::fs::read_to_string(&path).expect("a source file");
        for import in imports(&code(&text)) {
            let Some(other) = rank(&import).filter(|_| import != module) else { continue };
            let allowed = SIDEWAYS.contains(&(module.as_str(), import.as_str()));
            if other <= own && !allowed {
                let way = if other < own { "up" } else { "sideways" };
                wrong.push(format!("{}: crate::{import} points {way}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_long() {
    let length = |path: &PathBuf| std::fs::read_to_string(path).expect("a source file").lines().count();
    let long: Vec<String> = files()
        .iter()
        .filter(|(_, path)| length(path) > LONGEST)
        .map(|(_, path)| format!("{}: {} lines", path.display(), length(path)))
        .collect();
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}
