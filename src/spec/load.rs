//! Reading an experiment file: layers, inheritance, the sweep's points; every independent mistake in one message.

use super::{
    Experiment, ExperimentFile,
    assign::{self, ORIGIN},
    checks::{Data, file_name},
    conform::{conform, unknown_key},
    merge::merge,
    mistake::{Mistake, Mistakes, Place, Source},
    points::points,
    resolve::{Merged, origins, resolve},
    schema::{file_shape, layer_shape, run_shape},
    sweep::SweepSpec,
    tree::{Entry, Node, Value, parse},
};
use crate::{
    data::DataSpec,
    error::{Error, Result, nearest},
    prune::Among,
};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// One layer as written: `[data]`, `[defaults]`, an experiment's own keys, a `--set`.
#[derive(Clone)]
struct Layer {
    node: Node,
    /// Paths that were wrong and have left the node.
    pruned: Vec<String>,
}

/// One `[[experiment]]` as written.
struct Written {
    name: String,
    /// Where the name is written.
    place: Place,
    extends: Option<(String, Place)>,
    layer: Layer,
}

/// The file, taken apart.
struct Parts {
    name: String,
    /// What lies below every experiment.
    base: Vec<Layer>,
    experiments: Vec<Written>,
    /// `--set`, on top of every experiment.
    sets: Vec<Layer>,
    sweep: SweepSpec,
}

pub fn load(path: &Path, assignments: &[String]) -> Result<ExperimentFile> {
    let text = read(path)?;
    let file = path.display().to_string();
    let source = Arc::new(Source { file: Some(file.clone()), text: text.clone() });
    let mut mistakes = Mistakes::default();
    let Some(root) = parse(&source, "", &mut mistakes) else {
        mistakes.into_result(&file)?;
        return Err(Error::bug("a file that is not TOML gave no mistake"));
    };
    let stem = path.file_stem().map_or("sweep".into(), |stem| stem.to_string_lossy().into_owned());
    let parts = take_apart(root, &stem, assignments, &mut mistakes);
    let experiments = resolve_all(&parts, &mut mistakes);
    check_pruning(&parts.sweep, &experiments, &mut mistakes);
    mistakes.into_result(&file)?;
    let (name, sweep, path) = (parts.name, parts.sweep, path.into());
    Ok(ExperimentFile { name, path, text, partial: false, experiments, sweep, cuda: None })
}

/// The file's text; where there is no such file, the nearest one beside it.
fn read(path: &Path) -> Result<String> {
    let name = path.display();
    if path.is_dir() {
        return Err(Error::user(format!("{name} is a folder; an experiment file is needed")));
    }
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::user(missing(path)),
        _ => Error::user(format!("{name} cannot be read: {error}")),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| Error::user(format!("{name} is not UTF-8 text")))?;
    Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text))
}

fn missing(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    names.sort();
    let wrong = path.file_name().unwrap_or_default().to_string_lossy();
    let hint = match nearest(&wrong, names.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {}?", folder.join(near).display()),
        None if names.is_empty() => "; `runner init` writes one to start from".into(),
        None => format!("; in {} there are: {}", folder.display(), names.join(", ")),
    };
    format!("there is no file {}{hint}", path.display())
}

fn take_apart(mut root: Node, stem: &str, assignments: &[String], mistakes: &mut Mistakes) -> Parts {
    let sets = assign_all(&mut root, assignments, mistakes);
    let name = file_table_name(&mut root, stem, mistakes);
    let mut base = Vec::new();
    if let Some(mut data) = root.take("data") {
        data.node.relabel(&"[data]".into());
        let mut node = Node::table(data.place.clone(), "[data]");
        node.entries_mut().into_iter().for_each(|entries| entries.push(data.clone()));
        base.push(layer(node, &data.place, "the file", mistakes));
    }
    if let Some(mut defaults) = root.take("defaults") {
        defaults.node.relabel(&"defaults".into());
        match defaults.node.value {
            Value::Table(_) => base.push(layer(defaults.node, &defaults.place, "[defaults]", mistakes)),
            _ => mistakes.push(Mistake::new("`defaults` must be a table", &defaults.place).help("write [defaults]")),
        }
    }
    let written = root.take("experiment");
    let experiments = experiments(written, &root.place, mistakes);
    let names: Vec<&str> = experiments.iter().map(|experiment| experiment.name.as_str()).collect();
    let sweep = SweepSpec::read(root.take("sweep"), &names, mistakes);
    for entry in root.entries() {
        mistakes.push(unknown_root_key(entry));
    }
    Parts { name, base, experiments, sets, sweep }
}

fn file_table_name(root: &mut Node, stem: &str, mistakes: &mut Mistakes) -> String {
    let Some(entry) = root.take("name") else {
        return stem.into();
    };
    let Some(name) = entry.node.text() else {
        mistakes.push(Mistake::new("`name` must be text in quotes", entry.mark()));
        return stem.into();
    };
    usable(name, &entry.node.place, mistakes);
    name.into()
}

fn usable(name: &str, place: &Place, mistakes: &mut Mistakes) {
    if let Err(why) = file_name(name) {
        let mistake = Mistake::new(format!("the name {name:?} {why}"), place);
        mistakes.push(mistake.help("names become file names: letters, digits and - _ . + = , will do"));
    }
}

fn unknown_root_key(entry: &Entry) -> Mistake {
    let mistake = unknown_key("the file", &entry.key, &entry.place, file_shape());
    match run_shape().key(&entry.key) {
        Some(_) => mistake.help(format!("`{}` belongs into [defaults] or an [[experiment]]", entry.key)),
        None => mistake,
    }
}

fn layer(mut node: Node, place: &Place, scope: &str, mistakes: &mut Mistakes) -> Layer {
    let (_, pruned) = conform(&mut node, layer_shape(), place, (scope, ""), mistakes);
    Layer { node, pruned }
}

/// Reads `--set`: those of `sweep` and `name` change the file, the others lie on every experiment.
fn assign_all(root: &mut Node, assignments: &[String], mistakes: &mut Mistakes) -> Vec<Layer> {
    let mut sets = Vec::new();
    for assignment in assignments {
        let Some(mut tree) = assign::read(assignment, mistakes) else { continue };
        let place = tree.place.clone();
        for key in ["sweep", "name"] {
            if let Some(entry) = tree.take(key) {
                assign_root(root, entry);
            }
        }
        if !tree.entries().is_empty() {
            sets.push(layer(tree, &place, ORIGIN, mistakes));
        }
    }
    sets
}

/// Lays one key of the file's own tables: `sweep.seeds=[0]`.
fn assign_root(root: &mut Node, new: Entry) {
    let Some(entries) = root.entries_mut() else { return };
    match entries.iter_mut().find(|old| old.key == new.key) {
        Some(Entry { node: Node { value: Value::Table(old), .. }, .. }) => {
            for inner in new.node.entries() {
                old.retain(|entry| entry.key != inner.key);
                old.push(inner.clone());
            }
        }
        Some(old) => *old = new,
        None => entries.push(new),
    }
}

fn experiments(written: Option<Entry>, file: &Place, mistakes: &mut Mistakes) -> Vec<Written> {
    let example = "[[experiment]] and below it name = \"baseline\"";
    let Some(entry) = written else {
        mistakes.push(
            Mistake::new("the file has no experiment", file)
                .help(format!("add {example}; `runner init` writes a whole file")),
        );
        return Vec::new();
    };
    if !matches!(entry.node.value, Value::List(_)) {
        let mistake = Mistake::new("`experiment` is a list: every one starts with double brackets", &entry.place);
        mistakes.push(mistake.help(format!("write {example}")));
        return Vec::new();
    }
    let mut experiments: Vec<Written> = Vec::new();
    for (index, item) in entry.node.items().iter().enumerate() {
        let Some(experiment) = experiment(item, index, &entry.place, mistakes) else { continue };
        if let Some(first) = experiments.iter().find(|other| other.name == experiment.name) {
            let what = format!("two experiments are called `{}`", experiment.name);
            let help = format!("the first stands in line {}; give this one another name", first.place.position().0);
            mistakes.push(Mistake::new(what, &experiment.place).help(help));
        }
        experiments.push(experiment);
    }
    experiments
}

fn experiment(item: &Node, index: usize, key: &Place, mistakes: &mut Mistakes) -> Option<Written> {
    let mut node = item.clone();
    let number = format!("experiment {}", index + 1);
    if node.entries_mut().is_none() {
        mistakes.push(Mistake::new(format!("{number} must be a table"), &item.place).help("write [[experiment]]"));
        return None;
    }
    let place = if item.place.span.is_empty() { key.clone() } else { item.place.clone() };
    node.relabel(&"experiment".into());
    let mut text = |node: &mut Node, key: &str| {
        let entry = node.take(key)?;
        let text = entry.node.text().map(String::from);
        if text.is_none() {
            let what = format!("`{key}` must be text in quotes, not {}", entry.node.describe());
            mistakes.push(Mistake::new(what, entry.mark()));
        }
        Some((text, entry.mark().clone()))
    };
    let (name, extends) = (text(&mut node, "name"), text(&mut node, "extends"));
    let (name, place) = match name {
        Some((Some(name), place)) => {
            usable(&name, &place, mistakes);
            (name, place)
        }
        Some((None, place)) => (number, place),
        None => {
            mistakes.push(Mistake::new(format!("{number} has no `name`"), &place).help("add name = \"..\""));
            (number, place)
        }
    };
    let layer = layer(node, &place, &format!("experiment `{name}`"), mistakes);
    let extends = extends.and_then(|(parent, place)| Some((parent?, place)));
    Some(Written { name, place, extends, layer })
}

/// The experiments an experiment is made of, itself last; `None` after a mistake in `extends`.
fn chain<'a>(parts: &'a Parts, start: &'a Written, mistakes: &mut Mistakes) -> Option<Vec<&'a Written>> {
    let mut chain = vec![start];
    while let Some((parent, place)) = &chain[chain.len() - 1].extends {
        let Some(next) = parts.experiments.iter().find(|experiment| experiment.name == *parent) else {
            let names = parts.experiments.iter().map(|experiment| experiment.name.as_str());
            let mistake = Mistake::new(format!("`extends` names no experiment of this file: `{parent}`"), place);
            mistakes.push(mistake.names(parent, "experiments", names.filter(|name| *name != start.name)));
            return None;
        };
        if chain.iter().any(|known| std::ptr::eq(*known, next)) {
            let circle: Vec<&str> = chain.iter().map(|e| e.name.as_str()).chain([parent.as_str()]).collect();
            // One message for the whole circle: that of its first experiment in the file.
            if std::ptr::eq(next, start) && chain.iter().all(|other| start.place.span.start <= other.place.span.start) {
                let what = format!("`extends` goes in a circle: {}", circle.join(" -> "));
                let place = start.extends.as_ref().map_or(place, |(_, place)| place);
                mistakes.push(Mistake::new(what, place).help("one of them must not extend another"));
            }
            return None;
        }
        chain.push(next);
    }
    chain.reverse();
    Some(chain)
}

/// Lays the layers of one experiment on each other.
fn merge_all(parts: &Parts, chain: &[&Written], mistakes: &mut Mistakes) -> Option<Merged> {
    let own = *chain.last()?;
    let mut tree = Node::table(own.place.clone(), "");
    let mut pruned = Vec::new();
    let parents = chain[..chain.len() - 1].iter().map(|parent| {
        let mut layer = parent.layer.clone();
        layer.node.relabel(&format!("extends {}", parent.name).into());
        layer
    });
    let top = [own.layer.clone()].into_iter().chain(parts.sets.iter().cloned());
    for layer in parts.base.iter().cloned().chain(parents).chain(top) {
        merge(&mut tree, &layer.node, run_shape(), mistakes);
        pruned.extend(layer.pruned);
    }
    Some(Merged { tree, place: own.place.clone(), scope: format!("experiment `{}`", own.name), pruned })
}

fn resolve_all(parts: &Parts, mistakes: &mut Mistakes) -> Vec<Experiment> {
    let mut data = Data::default();
    let merged: Vec<_> = parts
        .experiments
        .iter()
        .map(|written| chain(parts, written, mistakes).and_then(|chain| merge_all(parts, &chain, mistakes)))
        .collect();
    let merged = without_data(merged, mistakes);
    check_variants(parts, &merged, mistakes);
    check_sets(parts, mistakes);
    let mut experiments = Vec::new();
    for (written, merged) in parts.experiments.iter().zip(merged) {
        let Some(merged) = merged else { continue };
        let points = points(&parts.sweep, &written.name, &merged, &mut data, mistakes);
        // What is wrong with the experiment itself shows in its points; what only an axis makes right never runs.
        let Some(spec) = resolve(&merged, &mut data, &mut Mistakes::default()) else { continue };
        let (name, origins, images) = (written.name.clone(), origins(&spec, &merged), data.images(&spec));
        experiments.push(Experiment { name, origins, spec, images, points, merged });
    }
    experiments
}

/// Says once that no experiment has data.
fn without_data(mut all: Vec<Option<Merged>>, mistakes: &mut Mistakes) -> Vec<Option<Merged>> {
    let lacks = |merged: &Merged| {
        merged.tree.get("data").is_none() && !merged.pruned.iter().any(|path| path.starts_with("data"))
    };
    if let (true, Some(first)) = (all.iter().flatten().all(lacks), all.iter().flatten().next()) {
        let sources: Vec<String> = DataSpec::NAMES.iter().map(|name| format!("[data.{name}]")).collect();
        let mistake = Mistake::new("no data: nothing says where images and labels come from", &first.place);
        mistakes.push(mistake.help(format!("write one of these at the top of the file: {}", sources.join(", "))));
        all.iter_mut().flatten().for_each(|merged| merged.pruned.push("data".into()));
    }
    all
}

/// An axis over `optimizer.adam.lr` means nothing to an experiment with another optimizer.
fn check_variants(parts: &Parts, merged: &[Option<Merged>], mistakes: &mut Mistakes) {
    for block in &parts.sweep.blocks {
        for axis in block.axes() {
            let all = parts.experiments.iter().zip(merged).filter(|(written, _)| block.is_for(&written.name));
            let all: Vec<_> = all.filter_map(|(written, merged)| Some((written, merged.as_ref()?))).collect();
            let others = all.iter().filter_map(|(written, merged)| Some((written, axis.other_variant(&merged.tree)?)));
            for (written, (family, wanted, used)) in others {
                let users = all.iter().filter(|(_, merged)| axis.other_variant(&merged.tree).is_none());
                let users: Vec<String> = users.map(|(written, _)| format!("\"{}\"", written.name)).collect();
                let what =
                    format!("`{}` means nothing to experiment `{}`: its {family} is `{used}`", axis.path, written.name);
                let help = match users.is_empty() {
                    true => format!("no experiment uses `{wanted}`; sweep a key of `{family}.{used}`"),
                    false => format!("put it into a [[sweep.block]] with for = [{}]", users.join(", ")),
                };
                mistakes.push(Mistake::new(what, &axis.place).help(help));
            }
        }
    }
}

/// Pruning needs something to compare and time to do it.
fn check_pruning(sweep: &SweepSpec, experiments: &[Experiment], mistakes: &mut Mistakes) {
    let (Some(pruning), Some(place)) = (&sweep.pruning, &sweep.pruning_place) else { return };
    let pruner = pruning.as_dyn();
    let longest = experiments.iter().map(|experiment| experiment.spec.epochs).max().unwrap_or(u32::MAX);
    let lengths = experiments.iter().flat_map(|experiment| experiment.points.iter().map(|point| point.spec.epochs));
    let longest = lengths.max().unwrap_or(0).max(longest);
    if pruner.rungs(longest).is_empty() {
        let what = format!("`{}` never acts: training ends after {longest} epochs", pruning.name());
        mistakes.push(Mistake::new(what, place).help("lower `min_epochs` or raise `epochs`"));
    }
    let points = |experiment: &Experiment| {
        let blocks = sweep.blocks.iter().filter(|block| block.is_for(&experiment.name));
        let searched = blocks.filter_map(|block| block.space.as_ref()).map(|space| space.trials).sum::<usize>();
        searched + experiment.points.iter().map(|point| &point.assignments).collect::<BTreeSet<_>>().len()
    };
    if pruner.among() == Among::Points && experiments.iter().all(|experiment| points(experiment) < 2) {
        let what = format!("`{}` has nothing to compare: every experiment has one point", pruning.name());
        mistakes.push(Mistake::new(what, place).help("write among = \"all\" to let the experiments compete"));
    }
    let metrics: BTreeSet<&str> = experiments.iter().map(|experiment| experiment.spec.select.metric.as_str()).collect();
    if pruner.among() == Among::All && metrics.len() > 1 {
        let metrics = metrics.into_iter().collect::<Vec<_>>().join(", ");
        let what = format!("`{}` compares experiments that select by different metrics: {metrics}", pruning.name());
        mistakes.push(Mistake::new(what, place).help("give all of them one `select.metric`, or leave `among` out"));
    }
}

/// A `--set` that an axis would overrule is a mistake: it would do nothing.
fn check_sets(parts: &Parts, mistakes: &mut Mistakes) {
    for axis in parts.sweep.blocks.iter().flat_map(|block| block.axes().chain(block.searched())) {
        for set in &parts.sets {
            if let Some((_, place)) = set.node.find(axis.path.split('.')) {
                let mistake = Mistake::new(format!("`{}` is set here and swept in the file", axis.path), place);
                mistakes.push(mistake.help("the sweep's values would replace it; leave one of the two out"));
            }
        }
    }
}
