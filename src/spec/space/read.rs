//! Reads the tables of searched spaces, telling what is wrong with them.

use super::{Condition, Dimension, Domain};
use crate::spec::{
    conform::conform,
    mistake::{Mistake, Mistakes, Place},
    schema::{file_shape, layer_shape},
    shape::{Kind, Shape},
    sweep::Axis,
    tree::{Entry, Node, Value},
    unknown::unknown_path,
};

/// The shape of a key that nothing is known about.
static ANYTHING: serde_json::Value = serde_json::Value::Bool(true);

/// The keys of a distribution that say what it is.
const KINDS: [&str; 4] = ["uniform", "log_uniform", "int", "choice"];

/// Rewrites `optimizer.adam.lr = { .. }` as `"optimizer.adam.lr" = { .. }`: tables of tables become dotted keys.
pub fn flatten(node: &mut Node) {
    let Some(entries) = node.entries_mut() else { return };
    let mut flat = Vec::new();
    for entry in entries.drain(..) {
        flatten_into(entry, &mut flat);
    }
    *entries = flat;
}

fn flatten_into(entry: Entry, flat: &mut Vec<Entry>) {
    let inner = entry.node.entries();
    let nested = |inner: &Entry| matches!(inner.node.value, Value::Table(_)) && inner.key != "when";
    if inner.is_empty() || !inner.iter().all(nested) {
        flat.push(entry);
        return;
    }
    for inner in inner {
        flatten_into(Entry { key: format!("{}.{}", entry.key, inner.key), ..inner.clone() }, flat);
    }
}

/// Reads spaces, telling what is wrong with them.
pub struct Reader<'a> {
    pub mistakes: &'a mut Mistakes,
    /// Whether keys must be those of an experiment.
    pub checked: bool,
}

impl Reader<'_> {
    /// The dimensions of a `random` or `tpe` table, those that others depend on first.
    pub fn dimensions(&mut self, kind: &str, node: &Node) -> Vec<Dimension> {
        if is_blank(node) {
            let mistake = Mistake::new(format!("`{kind}` is empty"), &node.place);
            let example = "{ \"optimizer.adam.lr\" = { log_uniform = [0.0001, 0.1] } }";
            self.mistakes.push(mistake.help(format!("write {kind} = {example}")));
        }
        let mut entries: Vec<&Entry> = node.entries().iter().collect();
        entries.sort_by_key(|entry| entry.key.matches('.').count());
        let read: Vec<_> = entries.into_iter().filter_map(|entry| Some((entry, self.dimension(entry)?))).collect();
        self.conditions(read)
    }

    fn dimension(&mut self, entry: &Entry) -> Option<Dimension> {
        let path = &entry.key;
        let shape = match self.checked {
            true => path.split('.').try_fold(layer_shape(), |shape, step| shape.key(step)),
            false => Some(Shape::new(&ANYTHING)),
        };
        let Some(shape) = shape else {
            self.mistakes.push(unknown_path(path, &entry.place));
            return None;
        };
        let kinds: Vec<&Entry> = entry.node.entries().iter().filter(|e| KINDS.contains(&e.key.as_str())).collect();
        let [kind] = kinds[..] else {
            // Unknown keys have been told and are gone.
            if kinds.is_empty() && entry.node.entries().is_empty() && !is_blank(&entry.node) {
                return None;
            }
            let what = format!("`{path}` needs exactly one of {}", KINDS.join(", "));
            let mistake = Mistake::new(what, entry.mark());
            self.mistakes.push(mistake.help("for example: { log_uniform = [0.0001, 0.1] }"));
            return None;
        };
        self.only_int(path, kind, &entry.node);
        let mut axis = Axis { path: path.clone(), place: entry.place.clone(), values: Vec::new() };
        let domain = match kind.key.as_str() {
            "choice" => {
                axis.values = self.choices(path, kind, shape);
                Domain::Choice { of: axis.values.len() }
            }
            "int" => self.whole(path, kind, &entry.node)?,
            _ => self.real(path, kind, shape)?,
        };
        if !matches!(domain, Domain::Choice { .. }) && !self.ends_fit(path, kind, shape, &domain) {
            return None;
        }
        (!matches!(domain, Domain::Choice { of: 0 })).then_some(Dimension { axis, domain, when: Vec::new() })
    }

    /// `log` and `step` belong to `int` alone.
    fn only_int(&mut self, path: &str, kind: &Entry, node: &Node) {
        for key in ["log", "step"] {
            if let (Some(entry), false) = (node.entry(key), kind.key == "int") {
                let mistake = Mistake::new(format!("`{path}`: `{key}` goes with `int` only"), &entry.place);
                self.mistakes.push(match (key, kind.key.as_str()) {
                    ("log", "uniform") => mistake.help("write `log_uniform` in place of `uniform`"),
                    _ => mistake.help("leave it out"),
                });
            }
        }
    }

    fn choices(&mut self, path: &str, kind: &Entry, shape: Shape) -> Vec<Node> {
        let mut right: Vec<Node> = Vec::new();
        let items = kind.node.items();
        for (index, item) in items.iter().enumerate() {
            if items[..index].iter().any(|other| other.plain() == item.plain()) {
                self.mistakes.push(Mistake::new(format!("`{path}` takes this value twice"), &item.place));
            }
            let mut value = item.clone();
            value.relabel(&"sweep".into());
            let (stays, pruned) = conform(&mut value, shape, &item.place, ("[sweep]", path), self.mistakes);
            right.extend((stays && pruned.is_empty()).then_some(value));
        }
        right
    }

    fn whole(&mut self, path: &str, kind: &Entry, node: &Node) -> Option<Domain> {
        let [Value::Integer(low), Value::Integer(high)] = ends(&kind.node)? else { return None };
        let log = matches!(node.get("log").map(|node| &node.value), Some(Value::Bool(true)));
        let step = match node.get("step").map(|node| &node.value) {
            Some(Value::Integer(step)) => *step,
            _ => 1,
        };
        if log && *low < 1 {
            let what = format!("`{path}`: with `log` the first number must be at least 1, not {low}");
            self.mistakes.push(Mistake::new(what, &kind.node.items()[0].place));
            return None;
        }
        if log && step > 1 {
            self.mistakes.push(Mistake::new(format!("`{path}`: `log` and `step` exclude each other"), &kind.place));
            return None;
        }
        self.ordered(path, kind, *low as f64, *high as f64)?;
        Some(Domain::Int { low: *low, high: *high, step: step.clamp(1, (high - low).max(1)), log })
    }

    fn real(&mut self, path: &str, kind: &Entry, shape: Shape) -> Option<Domain> {
        let [low, high] = ends(&kind.node)?.map(|value| match value {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            _ => f64::NAN,
        });
        let log = kind.key == "log_uniform";
        if matches!(shape.kind(), Kind::Number(range) if range.whole) {
            let mistake = Mistake::new(format!("`{path}` takes whole numbers only"), &kind.place);
            let ends = format!("[{}, {}]", low.ceil(), high.floor());
            self.mistakes.push(match log {
                true => mistake.help(format!("write {{ int = {ends}, log = true }}")),
                false => mistake.help(format!("write {{ int = {ends} }}")),
            });
            return None;
        }
        if log && low <= 0.0 {
            let what = format!("`{path}`: `log_uniform` needs numbers greater than 0, not {low}");
            self.mistakes.push(Mistake::new(what, &kind.node.items()[0].place).help("`uniform` may start at 0"));
            return None;
        }
        self.ordered(path, kind, low, high)?;
        Some(Domain::Real { low, high, log })
    }

    fn ordered(&mut self, path: &str, kind: &Entry, low: f64, high: f64) -> Option<()> {
        if low < high && low.is_finite() && high.is_finite() {
            return Some(());
        }
        let what = format!("`{path}`: the first number of `{}` must be less than the second", kind.key);
        let mistake = Mistake::new(what, &kind.node.place);
        self.mistakes.push(match low > high {
            true => mistake.help(format!("write [{high}, {low}]")),
            false => mistake.help("a key with one value needs no search: set it in [defaults]"),
        });
        None
    }

    /// Whether the key takes both ends.
    fn ends_fit(&mut self, path: &str, kind: &Entry, shape: Shape, domain: &Domain) -> bool {
        let fit = kind.node.items().iter().zip(domain.extremes()).map(|(item, end)| {
            let value = match domain {
                Domain::Int { .. } => Value::Integer(end as i64),
                _ => Value::Float(end),
            };
            let mut node = Node { value, ..item.clone() };
            conform(&mut node, shape, &item.place, ("[sweep]", path), self.mistakes).0
        });
        fit.collect::<Vec<bool>>().into_iter().all(|fits| fits)
    }

    /// Resolves every `when`; a dimension follows those it depends on.
    fn conditions(&mut self, mut open: Vec<(&Entry, Dimension)>) -> Vec<Dimension> {
        let known: Vec<(String, Dimension)> = open.iter().map(|(e, d)| (e.key.clone(), d.clone())).collect();
        let mut done: Vec<Dimension> = Vec::new();
        while !open.is_empty() {
            let ready = |(entry, _): &(&Entry, Dimension)| {
                let waits = |parent: &Entry| open.iter().any(|(other, _)| other.key == parent.key);
                !depends(entry).iter().any(waits)
            };
            let Some(at) = open.iter().position(ready) else {
                let keys: Vec<String> = open.iter().map(|(entry, _)| format!("`{}`", entry.key)).collect();
                let what = format!("`when` goes in a circle: {}", keys.join(", "));
                self.mistakes.push(Mistake::new(what, &open[0].0.place).help("one of them must not depend on another"));
                return done;
            };
            let (entry, mut dimension) = open.remove(at);
            let conditions = depends(entry).iter().map(|parent| self.condition(&entry.key, parent, &known, &done));
            // Without a condition that is wrong, more would seem to be wrong.
            if let Some(conditions) = conditions.collect::<Vec<_>>().into_iter().collect() {
                dimension.when = conditions;
                done.push(dimension);
            }
        }
        done
    }

    fn condition(
        &mut self,
        path: &str,
        parent: &Entry,
        known: &[(String, Dimension)],
        done: &[Dimension],
    ) -> Option<Condition> {
        let Some((_, dimension)) = known.iter().find(|(key, _)| *key == parent.key) else {
            let mistake =
                Mistake::new(format!("`{path}` depends on `{}`, which is not searched", parent.key), &parent.place);
            let names = known.iter().map(|(key, _)| key.as_str()).filter(|key| *key != path);
            self.mistakes.push(mistake.names(&parent.key, "this space has", names));
            return None;
        };
        if !matches!(dimension.domain, Domain::Choice { .. }) {
            let what = format!("`{path}` depends on `{}`, which has no `choice`", parent.key);
            self.mistakes.push(Mistake::new(what, &parent.place).help("a condition names values of a `choice`"));
            return None;
        }
        let values = match &parent.node.value {
            Value::List(items) => &items[..],
            _ => std::slice::from_ref(&parent.node),
        };
        let mut choices = Vec::new();
        for value in values {
            let found = dimension.axis.values.iter().position(|choice| means(choice, value));
            if found.is_none() {
                let all: Vec<String> = dimension.axis.values.iter().map(short).collect();
                let what = format!("`{}` never takes {}", parent.key, value.describe());
                self.mistakes.push(Mistake::new(what, &value.place).help(format!("its choices: {}", all.join(", "))));
            }
            choices.extend(found);
        }
        let dimension = done.iter().position(|earlier| earlier.axis.path == parent.key)?;
        (!choices.is_empty()).then_some(Condition { dimension, choices })
    }
}

/// Whether a value of `when` stands for a choice: equal to it, or the name of the component that it is.
fn means(choice: &Node, value: &Node) -> bool {
    let component = match choice.entries() {
        [only] => value.text() == Some(&only.key),
        _ => false,
    };
    component || choice.plain() == value.plain()
}

/// How a condition names a choice.
fn short(choice: &Node) -> String {
    match choice.entries() {
        [only] => format!("\"{}\"", only.key),
        _ => choice.plain().to_string(),
    }
}

/// Whether a table was written without a key.
fn is_blank(node: &Node) -> bool {
    let text = node.place.source.text.get(node.place.span.clone()).unwrap_or_default();
    node.entries().is_empty() && !text.contains('=')
}

/// The conditions of a distribution, as written.
fn depends(entry: &Entry) -> &[Entry] {
    entry.node.get("when").map_or(&[], Node::entries)
}

fn ends(list: &Node) -> Option<[&Value; 2]> {
    match list.items() {
        [low, high] => Some([&low.value, &high.value]),
        _ => None,
    }
}

/// A space on its own, whose keys are no experiment's: a TOML table of distributions.
pub fn read_alone(node: &mut Node, mistakes: &mut Mistakes) -> Vec<Dimension> {
    flatten(node);
    let place: Place = node.place.clone();
    let shape = file_shape().key("sweep").and_then(|sweep| sweep.key("random"));
    if let Some(shape) = shape {
        conform(node, shape, &place, ("the space", ""), mistakes);
    }
    Reader { mistakes, checked: false }.dimensions("space", node)
}
