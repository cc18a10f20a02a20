//! `--set key=value` of the command line.

use super::{
    mistake::{Mistake, Mistakes, Place, Source},
    tree::{Entry, Node, Value, parse},
};
use std::sync::Arc;

/// What `--set` values come from, in messages and in `plan`.
pub const ORIGIN: &str = "--set";

/// Reads one assignment as a tree: the value as TOML, bare words as text.
pub fn read(assignment: &str, mistakes: &mut Mistakes) -> Option<Node> {
    let source = Arc::new(Source { file: None, text: assignment.into() });
    let whole = Place { source: source.clone(), span: 0..assignment.len() };
    let mut ignored = Mistakes::default();
    let tree = parse(&source, ORIGIN, &mut ignored).filter(|tree| !tree.entries().is_empty());
    if tree.is_some() && ignored.is_empty() {
        return tree;
    }
    let Some((key, value)) = assignment.split_once('=') else {
        let mistake = Mistake::new("an assignment is key=value", &whole);
        mistakes.push(mistake.help("for example: --set optimizer.adam.lr=0.001"));
        return None;
    };
    let bare = value.trim();
    if bare.is_empty() || bare.starts_with(['[', '{', '"', '\'']) {
        parse(&source, ORIGIN, mistakes);
        return None;
    }
    bare_word(&source, key, bare, mistakes)
}

/// `backbone.name=resnet18`: the key's tree with the text at its end.
fn bare_word(source: &Arc<Source>, key: &str, word: &str, mistakes: &mut Mistakes) -> Option<Node> {
    // The same text with spaces for the word keeps every span of the key in place.
    let mut text = format!("{key}=0");
    text.push_str(&" ".repeat(source.text.len().saturating_sub(text.len())));
    let keys = Arc::new(Source { file: None, text });
    let mut tree = parse(&keys, ORIGIN, mistakes)?;
    let end = source.text.trim_end().len();
    let leaf = Node {
        value: Value::Text(word.into()),
        place: Place { source: source.clone(), span: end - word.len()..end },
        origin: ORIGIN.into(),
    };
    put(&mut tree, source, &leaf);
    Some(tree)
}

fn put(node: &mut Node, source: &Arc<Source>, leaf: &Node) {
    let Some(Entry { place, node, .. }) = node.entries_mut().and_then(|entries| entries.first_mut()) else { return };
    place.source = source.clone();
    node.place.source = source.clone();
    match node.value {
        Value::Table(_) => put(node, source, leaf),
        _ => *node = leaf.clone(),
    }
}
