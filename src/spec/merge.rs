//! How layers lie on each other: tables merge key by key, another component replaces the whole, lists replace, `append`
//! appends, the name of an entry changes that entry, `false` takes an optional key away.

use super::{
    mistake::{Mistake, Mistakes},
    shape::{Kind, Shape},
    tree::{Entry, Node, Value},
};

/// Lays `over` on `base`. Both conform to the shape of a layer; `shape` is the one of what they make together.
pub fn merge(base: &mut Node, over: &Node, shape: Shape, mistakes: &mut Mistakes) {
    for entry in over.entries() {
        let Some(inner) = shape.key(&entry.key) else { continue };
        if inner.is_optional() && matches!(entry.node.value, Value::Bool(false)) && !matches!(inner.kind(), Kind::Bool)
        {
            base.take(&entry.key);
            continue;
        }
        let Some(entries) = base.entries_mut() else { continue };
        let place = match entries.iter().position(|old| old.key == entry.key) {
            Some(place) => place,
            None => {
                entries.push(empty(entry, inner));
                entries.len() - 1
            }
        };
        lay(&mut entries[place], entry, inner, mistakes);
    }
}

/// What a key starts from before anything is laid on it: tables and lists are built up, so that `append` and nested
/// `false` mean the same with nothing below.
fn empty(entry: &Entry, shape: Shape) -> Entry {
    let value = match shape.kind() {
        Kind::List(..) => Value::List(Vec::new()),
        _ => Value::Table(Vec::new()),
    };
    Entry { node: Node { value, ..entry.node.clone() }, ..entry.clone() }
}

fn lay(old: &mut Entry, new: &Entry, shape: Shape, mistakes: &mut Mistakes) {
    let both_tables = matches!((&old.node.value, &new.node.value), (Value::Table(_), Value::Table(_)));
    match (shape.kind(), &new.node.value) {
        (Kind::List(item, _), Value::Table(changes)) => {
            let items = change(old, changes, item, mistakes);
            *old = Entry { node: Node { value: Value::List(items), ..new.node.clone() }, ..new.clone() };
        }
        (Kind::Component(_), _) if both_tables && other_component(&old.node, &new.node) => {
            *old = empty(new, shape);
            merge(&mut old.node, &new.node, shape, mistakes);
        }
        (Kind::Table(_) | Kind::Component(_), _) if both_tables => {
            make_way(&mut old.node, &new.node, shape);
            merge(&mut old.node, &new.node, shape, mistakes);
            old.place = new.place.clone();
            old.node.place = new.node.place.clone();
        }
        _ => *old = new.clone(),
    }
}

/// A key takes away the one of a lower layer that it stands in for: a backbone's `name` a `hybrid`, and the other way round.
fn make_way(old: &mut Node, new: &Node, shape: Shape) {
    const INSTEAD: [&str; 2] = ["name", "hybrid"];
    if INSTEAD.iter().all(|key| shape.key(key).is_some()) {
        for [wins, goes] in [INSTEAD, [INSTEAD[1], INSTEAD[0]]] {
            if new.entry(wins).is_some() && new.entry(goes).is_none() {
                old.take(goes);
            }
        }
    }
}

/// The entries of a list after `append`, and after changes of the entries that are named.
fn change(old: &Entry, changes: &[Entry], item: Shape, mistakes: &mut Mistakes) -> Vec<Node> {
    let mut items = old.node.items().to_vec();
    for change in changes.iter().filter(|change| change.key != "append") {
        let mut named: Vec<_> = items.iter_mut().filter(|item| item.entry(&change.key).is_some()).collect();
        match &mut named[..] {
            [only] => {
                let change = Node { value: Value::Table(vec![change.clone()]), ..only.clone() };
                merge(only, &change, item, mistakes);
            }
            _ => mistakes.push(not_one(old, change, named.len())),
        }
    }
    let append = changes.iter().find(|change| change.key == "append");
    items.extend(append.map_or(&[][..], |append| append.node.items()).iter().cloned());
    items
}

/// The mistake of naming an entry that the list does not have, or has several times.
fn not_one(list: &Entry, change: &Entry, times: usize) -> Mistake {
    let (key, name) = (&list.key, &change.key);
    if times > 1 {
        let what = format!("`{key}.{name}` does not say which: `{name}` stands in the list {times} times");
        return Mistake::new(what, &change.place).help(format!("set the whole list: {key} = [..]"));
    }
    let mistake = Mistake::new(format!("`{key}.{name}` changes nothing: the list has no `{name}`"), &change.place);
    let has = list.node.items().iter().filter_map(|item| item.entries().first()).map(|entry| entry.key.as_str());
    let mistake = mistake.names(name, "the list has", has);
    match &*change.node.origin == "sweep" {
        true => mistake.help("a [[sweep.block]] with `for` keeps it to experiments that have one"),
        false => {
            mistake.help(format!("{key} = [{{ {name} = {{ .. }} }}] sets the list, {key}.append = [..] adds to it"))
        }
    }
}

/// Whether two tables name different variants of one family.
fn other_component(old: &Node, new: &Node) -> bool {
    let name = |node: &Node| node.entries().first().map(|entry| entry.key.clone());
    name(old).is_some() && name(new).is_some() && name(old) != name(new)
}
