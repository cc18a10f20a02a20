//! A merged tree becomes a run's specification: complete, typed, within its ranges, checked.

use super::{
    Input, Origin,
    checks::{self, Data, better},
    conform::{conform, dotted},
    mistake::{Mistake, Mistakes, Place},
    run::RunSpec,
    schema::run_shape,
    tree::{Entry, Node, Value},
};
use crate::{
    backbone,
    data::{Channels, DataSpec},
};
use garde::Validate;
use serde_path_to_error::Segment;

/// An experiment, or one point of a sweep, with every layer merged.
#[derive(Clone, Debug)]
pub struct Merged {
    pub tree: Node,
    /// Where its name is written: what a mistake without a better place points at.
    pub place: Place,
    /// How messages call it.
    pub scope: String,
    /// Paths that were taken out because they are wrong; nothing is said about what depends on them.
    pub pruned: Vec<String>,
}

/// Makes the specification and checks it; `None` where a mistake leaves nothing to check.
pub fn resolve(merged: &Merged, data: &mut Data, mistakes: &mut Mistakes) -> Option<RunSpec> {
    let mut merged = merged.clone();
    let (place, scope) = (merged.place.clone(), merged.scope.clone());
    if merged.pruned.iter().any(|path| path.split('.').next() == Some("data")) {
        stand_in(&mut merged);
    }
    let (_, pruned) = conform(&mut merged.tree, run_shape(), &place, (&scope, ""), mistakes);
    merged.pruned.extend(pruned);
    stand_in(&mut merged);
    let mut spec = read(&mut merged, mistakes)?;
    ranges(&spec, &mut merged, mistakes);
    complete(&mut spec, &merged.tree);
    checks::check(&spec, &merged, data, mistakes);
    Some(spec)
}

/// Puts something in the place of data that are missing or wrong, so that the rest can be read.
fn stand_in(merged: &mut Merged) {
    if merged.tree.get("data").is_some() {
        return;
    }
    let Some(some) = DataSpec::every().into_iter().next() else { return };
    let mut node = Node::table(merged.place.clone(), "");
    for key in [some.name(), "data"] {
        let entry = Entry { key: key.into(), place: merged.place.clone(), node };
        node = Node { value: Value::Table(vec![entry]), place: merged.place.clone(), origin: "".into() };
    }
    if let (Some(entries), Some(entry)) = (merged.tree.entries_mut(), node.take("data")) {
        entries.push(entry);
        merged.pruned.push("data".into());
    }
}

/// Reads the tree as the type. What the schema does not know (the form of a length, say) shows here: each mistake is
/// said, leaves the tree, and the rest is read again.
fn read(merged: &mut Merged, mistakes: &mut Mistakes) -> Option<RunSpec> {
    loop {
        let error = match serde_path_to_error::deserialize(merged.tree.plain()) {
            Ok(spec) => return Some(spec),
            Err(error) => error,
        };
        let path: Vec<String> = error.path().iter().filter_map(step).collect();
        let found = (0..=path.len()).rev().find(|&depth| locate(&merged.tree, &path[..depth]).is_some())?;
        let path = &path[..found];
        let place = locate(&merged.tree, path).map_or(merged.place.clone(), |(_, place)| place.clone());
        let name = path.join(".");
        // What lacks a key only because that was wrong has been said.
        if !merged.pruned.iter().any(|pruned| pruned.starts_with(&format!("{name}."))) {
            let message = error.inner().message().trim_end().to_string();
            mistakes.push(Mistake::new(format!("`{}`: {message}", dotted(path)), &place));
        }
        merged.pruned.push(name);
        if !merged.tree.prune(path) {
            return None;
        }
        stand_in(merged);
    }
}

fn locate<'a>(tree: &'a Node, path: &[String]) -> Option<(&'a Node, &'a Place)> {
    tree.find(path.iter().map(String::as_str))
}

fn step(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    }
}

/// Ranges that a component states for itself and not in its schema.
fn ranges(spec: &RunSpec, merged: &mut Merged, mistakes: &mut Mistakes) {
    let Err(report) = spec.validate() else { return };
    for (path, error) in report.iter() {
        let (path, error) = (path.to_string(), error.to_string());
        let least = error.strip_prefix("lower than ").map(|min| format!(" must be at least {min}"));
        let most = error.strip_prefix("greater than ").map(|max| format!(" must be at most {max}"));
        // What a component says of itself as a whole, a list say, stands at its unnamed field.
        let path = if least.is_none() && most.is_none() { path.strip_suffix("[0]").unwrap_or(&path) } else { &path };
        let (path, place) = written(&merged.tree, path, &merged.place);
        let message = least.or(most).unwrap_or(format!(": {error}"));
        mistakes.push(Mistake::new(format!("`{}`{message}", dotted(&path)), &place));
        merged.pruned.push(path.join("."));
    }
}

/// Garde's path (`optimizer[0].betas[1]`, where `[0]` steps into a component) as the file writes it, and where that is.
fn written(tree: &Node, path: &str, place: &Place) -> (Vec<String>, Place) {
    let (mut node, mut place) = (Some(tree), place.clone());
    let mut steps = Vec::new();
    for step in path.split(['.', '[']).map(|step| step.trim_end_matches(']')).filter(|step| !step.is_empty()) {
        let inside = node.and_then(|node| node.entries().first()).filter(|_| step == "0");
        let key = inside.map_or(step.to_string(), |entry| entry.key.clone());
        if let Some((next, mark)) = node.and_then(|node| node.find([key.as_str()])) {
            (node, place) = (Some(next), mark.clone());
        } else {
            node = None;
        }
        steps.push(key);
    }
    (steps, place)
}

/// Fills in what follows from other keys, so that the stored specification is whole.
fn complete(spec: &mut RunSpec, tree: &Node) {
    if tree.find(["select", "mode"]).is_none() {
        spec.select.mode = better(&spec.select.metric).unwrap_or(spec.select.mode);
    }
    if let Some(hybrid) = &spec.backbone.hybrid {
        spec.backbone.name = backbone::Hybrid::name(&hybrid.cnn, hybrid.stage, &hybrid.vit);
    }
    let Ok(found) = backbone::Architecture::parse(&spec.backbone.name) else { return };
    let Input { channels, mean, std, .. } = &mut spec.input;
    // A backbone's statistics are those of red, green and blue.
    let own = [found.pretrained().mean, found.pretrained().std];
    let [usual_mean, usual_std] = if *channels == Channels::Ycbcr { [[0.5; 3]; 2] } else { own };
    mean.get_or_insert(usual_mean);
    std.get_or_insert(usual_std);
}

/// Every value of a specification and where it came from, in the specification's order.
pub fn origins(spec: &RunSpec, merged: &Merged) -> Vec<Origin> {
    let mut leaves = Vec::new();
    if let Ok(value) = toml::Value::try_from(spec) {
        collect(&value, &mut Vec::new(), &mut leaves);
    }
    let origin = |(path, value): (Vec<String>, String)| Origin {
        from: origin(&merged.tree, &path, spec.input.channels),
        path: path.join("."),
        value,
    };
    leaves.into_iter().map(origin).collect()
}

fn collect(value: &toml::Value, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) {
    match value.as_table().filter(|table| !table.is_empty()) {
        None => leaves.push((path.clone(), shortest(value).to_string())),
        Some(table) => {
            for (key, value) in table {
                path.push(key.clone());
                collect(value, path, leaves);
                path.pop();
            }
        }
    }
}

/// Numbers of single precision in the digits they were written with: 0.485, not 0.48500001430511475.
fn shortest(value: &toml::Value) -> toml::Value {
    match value {
        toml::Value::Float(number) if f64::from(*number as f32) == *number => {
            toml::Value::Float((*number as f32).to_string().parse().unwrap_or(*number))
        }
        toml::Value::Array(items) => toml::Value::Array(items.iter().map(shortest).collect()),
        other => other.clone(),
    }
}

fn origin(tree: &Node, path: &[String], channels: Channels) -> String {
    match (tree.find(path.iter().map(String::as_str)), path.join(".").as_str()) {
        (Some((node, _)), _) if node.place.source.file.is_none() => node.origin.to_string(),
        (Some((node, place)), _) => format!("{}, line {}", node.origin, place.position().0),
        (None, "input.mean" | "input.std") if channels == Channels::Ycbcr => "usual for ycbcr".into(),
        (None, "input.mean" | "input.std") => "the backbone's pretrained configuration".into(),
        (None, "backbone.name") if tree.find(["backbone", "hybrid"]).is_some() => "the hybrid's".into(),
        (None, "select.mode") => "the metric's direction".into(),
        (None, _) => "default".into(),
    }
}
