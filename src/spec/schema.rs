//! The JSON schemas of a resolved run and of the file as written, both derived from the types.

use super::{
    run::RunSpec,
    shape::{Kind, Shape},
    sweep::SweepTable,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeSet, sync::LazyLock};

/// The schema of an experiment file, for editors: `runner schema > experiments/schema.json`.
pub fn schema() -> Json {
    FILE.clone()
}

/// What a resolved run may hold.
pub fn run_shape() -> Shape<'static> {
    Shape::new(&RUN)
}

/// What a file may hold, as written.
pub fn file_shape() -> Shape<'static> {
    Shape::new(&FILE)
}

/// What `[defaults]` may hold, and every layer above it.
pub fn layer_shape() -> Shape<'static> {
    file_shape().key("defaults").unwrap_or(file_shape())
}

static RUN: LazyLock<Json> = LazyLock::new(of::<RunSpec>);
static FILE: LazyLock<Json> = LazyLock::new(file);

/// Draft 7 is what TOML editors understand.
fn of<T: JsonSchema>() -> Json {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<T>().to_value()
}

/// The file: `[defaults]` is a run of which anything may be left out, an `[[experiment]]` the same with a name.
fn file() -> Json {
    let mut run = RUN.clone();
    let sweep = of::<SweepTable>();
    let mut definitions = partial_definitions(&run);
    if let Some(more) = sweep.get("definitions").and_then(Json::as_object) {
        definitions.extend(more.clone());
    }
    partial(&mut run, &RUN);
    let layer = run.get("properties").cloned().unwrap_or_default();
    let table = |about: &str, properties: Json, required: &[&str]| {
        json!({ "description": about, "type": "object", "properties": properties, "required": required,
            "additionalProperties": false })
    };
    let mut own = json!({
        "name": { "description": "What the experiment is called, in reports too.", "type": "string" },
        "extends": { "description": "Starts from what another experiment of this file says.", "type": "string" },
    });
    extend(&mut own, &layer);
    definitions.insert("Defaults".into(), table("What every experiment starts from.", layer, &[]));
    definitions.insert("Experiment".into(), table("One experiment: what it changes of the defaults.", own, &["name"]));
    definitions.insert("Sweep".into(), bare(sweep));
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A runner experiment file",
        "description": "Every training run of a comparison: data, defaults, experiments and what is swept.",
        "type": "object",
        "properties": {
            "name": { "description": "What the sweep is called; default: the file's name.", "type": "string" },
            "data": { "description": "Where images and labels come from, for every experiment.",
                "allOf": [{ "$ref": "#/definitions/DataSpec" }] },
            "defaults": { "$ref": "#/definitions/Defaults" },
            "experiment": { "description": "The experiments to compare; the first is the baseline of the report.",
                "type": "array", "items": { "$ref": "#/definitions/Experiment" } },
            "sweep": { "$ref": "#/definitions/Sweep" },
        },
        "required": ["experiment"],
        "additionalProperties": false,
        "definitions": definitions,
    })
}

/// A root schema as a definition: without what belongs to a root.
fn bare(mut schema: Json) -> Json {
    if let Some(keys) = schema.as_object_mut() {
        ["$schema", "title", "definitions"].iter().for_each(|key| drop(keys.shift_remove(*key)));
    }
    schema
}

fn extend(target: &mut Json, more: &Json) {
    if let (Some(target), Some(more)) = (target.as_object_mut(), more.as_object()) {
        target.extend(more.clone());
    }
}

/// The definitions of a layer: those that merge key by key lose their required keys; entries of lists are always whole.
fn partial_definitions(run: &Json) -> Map<String, Json> {
    let mut whole = BTreeSet::new();
    entries_of_lists(run, run, false, &mut whole);
    let mut definitions = run.get("definitions").and_then(Json::as_object).cloned().unwrap_or_default();
    for (name, definition) in &mut definitions {
        if !whole.contains(name) {
            partial(definition, run);
        }
    }
    definitions
}

/// Collects the definitions that lists hold, with all that these refer to.
fn entries_of_lists(root: &Json, node: &Json, inside: bool, found: &mut BTreeSet<String>) {
    match node {
        Json::Object(keys) => {
            for (key, value) in keys.iter().filter(|(key, _)| *key != "definitions") {
                if let ("$ref", Some(to), true) = (key.as_str(), value.as_str(), inside) {
                    let name = to.trim_start_matches("#/definitions/").to_string();
                    let target = root.pointer(to.trim_start_matches('#')).unwrap_or(&Json::Null);
                    if found.insert(name) {
                        entries_of_lists(root, target, true, found);
                    }
                }
                entries_of_lists(root, value, inside || key == "items", found);
            }
            if let (false, Some(Json::Object(definitions))) = (inside, keys.get("definitions")) {
                definitions.values().for_each(|definition| entries_of_lists(root, definition, false, found));
            }
        }
        Json::Array(items) => items.iter().for_each(|item| entries_of_lists(root, item, inside, found)),
        _ => {}
    }
}

/// Makes a table's keys optional, lists extensible by `append`, and optional keys removable by `false`.
fn partial(table: &mut Json, root: &Json) {
    let Some(keys) = table.as_object_mut() else { return };
    if !keys.contains_key("properties") {
        return;
    }
    keys.shift_remove("required");
    let Some(properties) = keys.get_mut("properties").and_then(Json::as_object_mut) else { return };
    for property in properties.values_mut() {
        *property = loosen(property, root);
    }
}

fn loosen(property: &Json, root: &Json) -> Json {
    let shape = Shape::within(root, property);
    let list = match shape.kind() {
        Kind::List(item, [0, usize::MAX]) => Some(item),
        _ => None,
    };
    if list.is_none() && !shape.is_optional() {
        return property.clone();
    }
    let (mut outer, inner) = without_null(property);
    let mut branches = match inner.get("anyOf").and_then(Json::as_array) {
        Some(branches) => branches.iter().filter(|b| b.get("type") != Some(&"null".into())).cloned().collect(),
        None => vec![inner.clone()],
    };
    branches.extend(list.map(|item| change(&inner, item)));
    if shape.is_optional() {
        branches.push(json!({ "description": "Takes away what the layer below sets.", "const": false }));
    }
    outer.insert("anyOf".into(), branches.into());
    outer.into()
}

/// A property's own words, and what it allows beside `null`.
fn without_null(property: &Json) -> (Map<String, Json>, Json) {
    let (mut outer, mut inner) = (Map::new(), property.clone());
    let Some(keys) = inner.as_object_mut() else { return (outer, inner) };
    for key in ["description", "default"] {
        keys.shift_remove(key).map(|value| outer.insert(key.into(), value));
    }
    if let Some(Json::Array(types)) = keys.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            keys.insert("type".into(), only);
        }
    }
    (outer, inner)
}

/// The table that changes a list instead of replacing it.
fn change(list: &Json, item: Shape) -> Json {
    let mut keys = Map::new();
    let mut append = list.clone();
    append["description"] = "Adds to the end of the list.".into();
    keys.insert("append".into(), append);
    if let Kind::Component(names) = item.kind() {
        keys.extend(names.into_iter().map(|(name, shape)| (name.to_string(), shape.json().clone())));
    }
    json!({ "description": "Changes the list of the layer below: the entries of these names, or `append`.",
        "type": "object", "properties": keys, "minProperties": 1, "additionalProperties": false })
}
