//! Compares what is written with what may be written, and says every difference in plain words.

use super::{
    mistake::{Mistake, Mistakes, Place},
    schema::{file_shape, run_shape},
    shape::{Kind, Range, Shape, join},
    tree::{Node, Value},
};
use serde_json::Value as Json;

/// Compares a tree with a shape. What is wrong goes to `mistakes` and leaves the tree, so that the rest can be checked
/// further; returns whether the node itself may stay, and the paths that left.
///
/// `scope` is how messages call the root, e.g. `[defaults]`; `path` leads from there to the node.
pub fn conform(
    node: &mut Node,
    shape: Shape,
    mark: &Place,
    (scope, path): (&str, &str),
    mistakes: &mut Mistakes,
) -> (bool, Vec<String>) {
    let path: Vec<String> = path.split('.').filter(|step| !step.is_empty()).map(String::from).collect();
    let mut walk = Walk { mistakes, scope, path, pruned: Vec::new() };
    let right = walk.node(node, shape, mark);
    (right, walk.pruned)
}

/// The mistake of a key that nothing knows.
pub fn unknown_key(scope: &str, key: &str, place: &Place, known: Shape) -> Mistake {
    let walk = Walk { mistakes: &mut Mistakes::default(), scope, path: Vec::new(), pruned: Vec::new() };
    match known.kind() {
        Kind::Table(keys) => walk.unknown_key(key, place, &keys),
        _ => walk.unknown_key(key, place, &[]),
    }
}

struct Walk<'m> {
    mistakes: &'m mut Mistakes,
    scope: &'m str,
    path: Vec<String>,
    pruned: Vec<String>,
}

impl Walk<'_> {
    /// The path as messages write it: `augment[1].cutmix`.
    fn name(&self) -> String {
        dotted(&self.path)
    }

    /// Whether the node may stay.
    fn node(&mut self, node: &mut Node, shape: Shape, mark: &Place) -> bool {
        let wrong = match (shape.kind(), &node.value) {
            (Kind::Table(keys), Value::Table(_)) => return self.table(node, shape, &keys, mark),
            (Kind::Map(values), Value::Table(_)) => return self.map(node, values),
            (Kind::Component(names), Value::Table(_)) => return self.component(node, &names, mark),
            (Kind::List(item, length), Value::List(_)) => return self.list(node, item, length, mark),
            (Kind::Any(branches), _) => return self.any(node, shape, &branches, mark),
            (Kind::Component(names), _) => self.no_component(node, &names, mark),
            (Kind::Number(range), Value::Integer(number)) => self.range(node, *number as f64, range, mark),
            (Kind::Number(range), Value::Float(number)) => self.range(node, *number, range, mark),
            (Kind::Choice(choices), _) => self.choice(node, &choices, mark),
            (Kind::Text, Value::Text(_)) | (Kind::Bool, Value::Bool(_)) | (Kind::Free, _) => None,
            _ => Some(self.wrong_type(node, shape, mark)),
        };
        wrong.map(|mistake| self.mistakes.push(mistake)).is_none()
    }

    fn wrong_type(&self, node: &Node, shape: Shape, mark: &Place) -> Mistake {
        let mistake =
            Mistake::new(format!("`{}` must be {}, not {}", self.name(), shape.describe(), node.describe()), mark);
        match (shape.kind(), &node.value) {
            (Kind::Number(_), Value::Text(text)) if text.parse::<f64>().is_ok() => {
                mistake.help(format!("write it without quotes: {text}"))
            }
            (Kind::Bool, Value::Text(text)) if matches!(text.as_str(), "true" | "false") => {
                mistake.help(format!("write it without quotes: {text}"))
            }
            (Kind::List(..), _) => mistake.help("a list stands in square brackets: [ .. ]"),
            (Kind::Table(keys), Value::List(_)) if keys.iter().any(|(key, _)| *key == "log_uniform") => {
                mistake.help("a list of values is a `grid`; here stands a distribution: { choice = [..] }")
            }
            _ => mistake,
        }
    }

    fn range(&self, node: &Node, number: f64, range: Range, mark: &Place) -> Option<Mistake> {
        let whole = !range.whole || matches!(node.value, Value::Integer(_));
        let what = || format!("`{}` must be {}, not {}", self.name(), range.describe(), plain_number(node));
        (!whole || !range.holds(number)).then(|| Mistake::new(what(), mark))
    }

    fn choice(&self, node: &Node, choices: &[&Json], mark: &Place) -> Option<Mistake> {
        let same = |choice: &&&Json| match (&node.value, choice) {
            (Value::Text(text), Json::String(choice)) => text == choice,
            (Value::Bool(yes), Json::Bool(choice)) => yes == choice,
            (Value::Integer(number), choice) => choice.as_i64() == Some(*number),
            _ => false,
        };
        if choices.iter().any(|choice| same(&choice)) {
            return None;
        }
        let allowed = join(choices.iter().map(|choice| choice.to_string()));
        let mistake = Mistake::new(format!("`{}` must be {allowed}, not {}", self.name(), node.describe()), mark);
        let near = node.text().map(|wrong| mistake.clone().names(wrong, "", choices.iter().filter_map(|c| c.as_str())));
        Some(match near {
            Some(near) if near.help.len() == 2 => mistake.help(near.help[0].clone()),
            _ => mistake,
        })
    }

    /// Descends into one key; takes it out where it is wrong.
    fn step(&mut self, node: &mut Node, key: &str, shape: Shape) -> bool {
        let Some(entry) = node.entries_mut().and_then(|all| all.iter_mut().find(|entry| entry.key == key)) else {
            return true;
        };
        let mark = entry.mark().clone();
        self.path.push(key.into());
        let right = self.node(&mut entry.node, shape, &mark);
        if !right {
            self.pruned.push(self.path.join("."));
        }
        self.path.pop();
        if !right {
            node.take(key);
        }
        right
    }

    fn table(&mut self, node: &mut Node, shape: Shape, keys: &[(&str, Shape)], mark: &Place) -> bool {
        let unknown = |entry: &&super::tree::Entry| !keys.iter().any(|(key, _)| *key == entry.key);
        for entry in node.entries().iter().filter(unknown) {
            self.mistakes.push(self.unknown_key(&entry.key, &entry.place, keys));
        }
        if let Some(entries) = node.entries_mut() {
            entries.retain(|entry| keys.iter().any(|(key, _)| *key == entry.key));
        }
        let missing: Vec<_> = shape.required().into_iter().filter(|key| node.get(key).is_none()).collect();
        for key in &missing {
            self.mistakes.push(self.missing_key(key, keys, mark));
            self.pruned.push([&self.path[..], &[key.to_string()]].concat().join("."));
        }
        for (key, shape) in keys {
            self.step(node, key, *shape);
        }
        missing.is_empty()
    }

    fn unknown_key(&self, key: &str, place: &Place, keys: &[(&str, Shape)]) -> Mistake {
        let inside = if self.path.is_empty() { self.scope.into() } else { format!("`{}`", self.name()) };
        let mistake = Mistake::new(format!("unknown key `{key}` in {inside}"), place);
        if keys.is_empty() {
            return mistake.help(format!("`{}` has no keys: write {} = {{}}", self.name(), last(&self.path)));
        }
        let elsewhere: Vec<String> = run_shape()
            .paths()
            .into_iter()
            .filter(|path| path.rsplit('.').next() == Some(key) && !(self.path.is_empty() && path == key))
            .map(|path| format!("`{path}`"))
            .collect();
        let mistake = mistake.names(key, "known keys", keys.iter().map(|(key, _)| *key));
        let sweep = file_shape().key("sweep").and_then(|sweep| sweep.key(key)).is_some();
        match elsewhere.len() {
            0 if sweep => mistake.help(format!("`{key}` belongs into [sweep]")),
            0 => mistake,
            1..=6 => mistake.help(format!("there is {}", join(elsewhere))),
            _ => mistake.help(format!("there is {} and others", elsewhere[..5].join(", "))),
        }
    }

    fn missing_key(&self, key: &str, keys: &[(&str, Shape)], mark: &Place) -> Mistake {
        let shape = keys.iter().find(|(name, _)| *name == key).map(|(_, shape)| *shape);
        let about = shape.map(|shape| format!("{}: {}", shape.describe(), shape.about())).unwrap_or_default();
        match self.path.is_empty() {
            true => Mistake::new(format!("{} has no `{key}`", self.scope), mark).help(format!("`{key}` is {about}")),
            false => {
                Mistake::new(format!("`{}` has no `{key}`", self.name()), mark).help(format!("`{key}` is {about}"))
            }
        }
    }

    fn map(&mut self, node: &mut Node, values: Shape) -> bool {
        let keys: Vec<String> = node.entries().iter().map(|entry| entry.key.clone()).collect();
        for key in &keys {
            self.step(node, key, values);
        }
        true
    }

    fn component(&mut self, node: &mut Node, names: &[(&str, Shape)], mark: &Place) -> bool {
        let mistake = match node.entries() {
            [] => Some(
                Mistake::new(format!("`{}` names none", self.name()), mark).help(format!("one of: {}", list(names))),
            ),
            [only] => match names.iter().any(|(name, _)| *name == only.key) {
                true => None,
                false => Some(self.unknown_component(&only.key, &only.place, names)),
            },
            many => Some(self.several(many, names)),
        };
        if let Some(mistake) = mistake {
            self.mistakes.push(mistake);
            return false;
        }
        let key = node.entries()[0].key.clone();
        names.iter().find(|(name, _)| *name == key).is_some_and(|(_, shape)| self.step(node, &key, *shape))
    }

    fn unknown_component(&self, key: &str, place: &Place, names: &[(&str, Shape)]) -> Mistake {
        let mistake = Mistake::new(format!("`{}` does not know `{key}`", self.name()), place);
        let with = names.iter().filter(|(_, shape)| shape.key(key).is_some()).map(|(name, _)| *name);
        let with: Vec<String> = with.map(|name| format!("`{}.{name}.{key}`", self.name())).collect();
        let mistake = mistake.names(key, "known", names.iter().map(|(name, _)| *name));
        match with.is_empty() {
            true => mistake,
            false => mistake.help(format!("`{key}` is a key of one of them: write {}", join(with.into_iter().take(4)))),
        }
    }

    fn several(&self, entries: &[super::tree::Entry], names: &[(&str, Shape)]) -> Mistake {
        let keys = entries.iter().map(|entry| format!("`{}`", entry.key)).collect::<Vec<_>>().join(" and ");
        let what = format!("`{}` names {} at once: {keys}", self.name(), entries.len());
        let unknown = entries.iter().find(|entry| !names.iter().any(|(name, _)| *name == entry.key));
        let place = unknown.or(entries.get(1)).map_or(&entries[0].place, |entry| &entry.place);
        let mistake = Mistake::new(what, place);
        match unknown {
            Some(unknown) => mistake.names(&unknown.key, "known", names.iter().map(|(name, _)| *name)),
            None if self.path.last().is_some_and(|step| step.parse::<usize>().is_ok()) => {
                mistake.help("each entry of the list is one: [{ .. }, { .. }]")
            }
            None => mistake.help("keep one of them; another [[experiment]] can have the other"),
        }
    }

    fn no_component(&self, node: &Node, names: &[(&str, Shape)], mark: &Place) -> Option<Mistake> {
        let what = format!("`{}` must be a table that names one, not {}", self.name(), node.describe());
        let mistake = Mistake::new(what, mark);
        let text = node.text().unwrap_or_default();
        Some(match names.iter().any(|(name, _)| *name == text) {
            true if self.path.last().is_some_and(|step| step.parse::<usize>().is_ok()) => {
                mistake.help(format!("write {{ {text} = {{}} }}"))
            }
            true => mistake.help(format!("write {}.{text} = {{}}", self.name())),
            false => mistake.names(text, "known", names.iter().map(|(name, _)| *name)),
        })
    }

    fn list(&mut self, node: &mut Node, item: Shape, [min, max]: [usize; 2], mark: &Place) -> bool {
        let Value::List(items) = &mut node.value else { return true };
        if items.len() < min || items.len() > max {
            let wanted = match (min, max) {
                (1, usize::MAX) => "at least one entry".into(),
                (min, max) if min == max => format!("{min} entries"),
                (min, usize::MAX) => format!("at least {min} entries"),
                (min, max) => format!("{min} to {max} entries"),
            };
            let what = format!("`{}` must have {wanted}, not {}", self.name(), items.len());
            self.mistakes.push(Mistake::new(what, mark));
            return false;
        }
        let mut right = Vec::new();
        for (index, item_node) in items.iter_mut().enumerate() {
            let mark = item_node.place.clone();
            self.path.push(index.to_string());
            right.push(self.node(item_node, item, &mark));
            self.path.pop();
        }
        if min == max {
            return !right.contains(&false);
        }
        let mut keep = right.iter();
        items.retain(|_| keep.next() == Some(&true));
        if right.contains(&false) {
            self.pruned.push(self.path.join("."));
        }
        true
    }

    /// Takes the branch that fits the value's type; says what all of them allow where none does.
    fn any(&mut self, node: &mut Node, shape: Shape, branches: &[Shape], mark: &Place) -> bool {
        let fits = |branch: &&Shape| match (branch.kind(), &node.value) {
            (Kind::Table(_) | Kind::Map(_) | Kind::Component(_), Value::Table(_)) => true,
            (Kind::List(..), Value::List(_)) => true,
            (Kind::Number(_), Value::Integer(_) | Value::Float(_)) => true,
            (Kind::Text, Value::Text(_)) | (Kind::Bool, Value::Bool(_)) | (Kind::Free, _) => true,
            (Kind::Choice(choices), _) => self.choice(node, &choices, mark).is_none(),
            _ => false,
        };
        match branches.iter().find(fits) {
            Some(branch) => self.node(node, *branch, mark),
            None => {
                self.mistakes.push(self.wrong_type(node, shape, mark));
                false
            }
        }
    }
}

fn plain_number(node: &Node) -> String {
    match &node.value {
        Value::Float(number) => format!("{number:?}"),
        Value::Integer(number) => number.to_string(),
        _ => node.describe(),
    }
}

fn last(path: &[String]) -> &str {
    path.last().map_or("it", String::as_str)
}

fn list(names: &[(&str, Shape)]) -> String {
    names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// `["augment", "1", "cutmix"]` as `augment[1].cutmix`.
pub fn dotted(path: &[String]) -> String {
    path.iter().fold(String::new(), |text, step| match (step.parse::<usize>(), text.is_empty()) {
        (Ok(index), _) => format!("{text}[{index}]"),
        (_, true) => step.clone(),
        _ => format!("{text}.{step}"),
    })
}
