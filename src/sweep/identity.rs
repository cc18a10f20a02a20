//! What makes two runs the same run.

use crate::{
    error::{Error, Result},
    spec::RunSpec,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Keys that do not change a run's numbers, and so do not enter its identity: what is recorded and kept.
const OUTSIDE: [&str; 3] = ["log_every", "keep", "keep_best"];

/// The run's id: the first 16 hex digits of the SHA-256 of its canonical JSON, in which the data's `fingerprint` stands
/// for where the data lies, so that a data set that moves keeps its runs.
pub fn identity(spec: &RunSpec, fingerprint: &str, seed: u64) -> Result<String> {
    let mut spec = serde_json::to_value(spec).map_err(Error::bug)?;
    if let Value::Object(keys) = &mut spec {
        OUTSIDE.iter().for_each(|key| drop(keys.shift_remove(*key)));
        keys.insert("data".into(), fingerprint.into());
    }
    let mut text = String::new();
    canonical(&serde_json::json!({ "spec": spec, "seed": seed }), &mut text);
    let digest = Sha256::digest(text.as_bytes());
    Ok(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Sorted keys, no spaces, every number as the shortest text of its f64, keys without a value left out.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(keys) => {
            let mut keys: Vec<_> = keys.iter().filter(|(_, value)| !value.is_null()).collect();
            keys.sort_by_key(|(key, _)| key.as_str());
            list(text, ['{', '}'], keys, |(key, value), text| {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                canonical(value, text);
            });
        }
        Value::Array(items) => list(text, ['[', ']'], items, canonical),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => text.push_str(&format!("{float}")),
            _ => text.push_str(&number.to_string()),
        },
        other => text.push_str(&other.to_string()),
    }
}

fn list<T>(
    text: &mut String,
    [open, close]: [char; 2],
    items: impl IntoIterator<Item = T>,
    each: impl Fn(T, &mut String),
) {
    text.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        each(item, text);
    }
    text.push(close);
}
