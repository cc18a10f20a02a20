//! What to say about a dotted path that names nothing.

use super::{
    mistake::{Mistake, Place},
    schema::{layer_shape, run_shape},
    shape::{Kind, Shape, join},
};
use crate::error::nearest;

/// The mistake of a dotted path that names nothing.
pub fn unknown_path(path: &str, place: &Place) -> Mistake {
    let steps: Vec<&str> = path.split('.').collect();
    let reach = |steps: &[&str]| steps.iter().try_fold(layer_shape(), |shape, step| shape.key(step));
    let depth = (0..steps.len()).rev().find(|&depth| reach(&steps[..depth]).is_some()).unwrap_or(0);
    let keys = reach(&steps[..depth]).map_or(Vec::new(), keys_of);
    let mut mistake = Mistake::new(format!("`{path}` names nothing that can be set"), place);
    if let Some(near) = nearest(steps[depth], keys.iter().copied()) {
        let meant = [&steps[..depth], &[near], &steps[depth + 1..]].concat();
        let meant = if reach(&meant).is_some() { &meant[..] } else { &meant[..=depth] };
        mistake = mistake.help(format!("did you mean `{}`?", meant.join(".")));
    }
    let inside = if depth == 0 { "an experiment".into() } else { format!("`{}`", steps[..depth].join(".")) };
    if matches!(reach(&steps[..depth]).map(Shape::kind), Some(Kind::Any(_))) {
        mistake = mistake.help(format!("{inside} is a list: sweep whole lists, or its entries by name"));
    }
    mistake = mistake.help(format!("{inside} has no `{}`; it has: {}", steps[depth], keys.join(", ")));
    let elsewhere =
        run_shape().paths().into_iter().filter(|known| known.ends_with(&format!(".{}", steps[steps.len() - 1])));
    let elsewhere: Vec<String> = elsewhere.map(|known| format!("`{known}`")).take(5).collect();
    if depth > 0 || elsewhere.is_empty() { mistake } else { mistake.help(format!("there is {}", join(elsewhere))) }
}

fn keys_of(shape: Shape<'_>) -> Vec<&str> {
    match shape.kind() {
        Kind::Table(keys) | Kind::Component(keys) => keys.into_iter().map(|(key, _)| key).collect(),
        Kind::Any(branches) => branches.into_iter().flat_map(keys_of).collect(),
        _ => Vec::new(),
    }
}
