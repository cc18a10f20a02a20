//! What is generated from the types is current, and reference pages hold.

use garde::Validate;
use runner::{
    augment::AugmentSpec,
    data::DataSpec,
    data::sampler::SamplerSpec,
    loss::LossSpec,
    optim::OptimizerSpec,
    schedule::ScheduleSpec,
    spec::{ExperimentFile, RunSpec, explain, schema, starter},
    synthesize::SynthesizerSpec,
};
use serde_json::Value;

fn load(text: &str) -> Result<ExperimentFile, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file.toml");
    std::fs::write(&path, text).expect("a file");
    ExperimentFile::load(&path, &[]).map_err(|error| error.to_string())
}

/// `INSTA_UPDATE=always` renews it, as it renews the snapshots of the other tests.
#[test]
fn the_schema_in_the_repository_is_current() {
    const FILE: &str = "experiments/schema.json";
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        let text = serde_json::to_string_pretty(&schema()).expect("a schema is JSON");
        std::fs::write(FILE, format!("{text}\n")).expect(FILE);
    }
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap_or_default()).unwrap_or_default();
    assert!(committed == schema(), "renew it: cargo run --release -- schema > {FILE}");
}

#[test]
fn the_schema_refers_to_what_it_defines() {
    fn references<'a>(node: &'a Value, found: &mut Vec<&'a str>) {
        match node {
            Value::Object(keys) => {
                found.extend(keys.get("$ref").and_then(Value::as_str));
                keys.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let schema = schema();
    let mut found = Vec::new();
    references(&schema, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn the_starter_file_loads() {
    let file = load(starter()).expect("the starter loads");
    assert!(file.experiments.len() >= 2 && file.sweep.seeds.len() >= 2);
}

#[test]
fn every_component_has_a_page_whose_example_loads() {
    let families = [
        AugmentSpec::NAMES,
        OptimizerSpec::NAMES,
        ScheduleSpec::NAMES,
        LossSpec::NAMES,
        SamplerSpec::NAMES,
        SynthesizerSpec::NAMES,
    ];
    for name in families.concat() {
        let page = explain(Some(name)).expect(name);
        assert!(page.starts_with(&format!("{name} (")), "{page}");
        for example in page.lines().skip_while(|line| *line != "Example").skip(1).take(1) {
            load(&format!("[data.synthetic]\n[defaults]\n{example}\n[[experiment]]\nname = \"a\"\n"))
                .unwrap_or_else(|error| panic!("{name}: {example}\n{error}"));
        }
    }
}

#[test]
fn every_key_of_the_overview_has_a_page() {
    let overview = explain(None).expect("an overview");
    let keys: Vec<&str> = overview
        .lines()
        .skip_while(|line| *line != "Keys")
        .take_while(|line| *line != "Components")
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(str::trim)
        .collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        let page = explain(Some(key)).expect(key);
        assert!(page.contains(&format!("Example\n  {key}")), "{page}");
    }
}

#[test]
fn an_unknown_name_gets_the_nearest() {
    let error = explain(Some("random_horizontal_flp")).expect_err("unknown").to_string();
    assert!(error.contains("did you mean `random_horizontal_flip`?"), "{error}");
}

#[test]
fn a_key_inside_a_table_answers_to_its_bare_name() {
    assert!(explain(Some("hybrid")).expect("one key").starts_with("backbone.hybrid\n"));
    let error = explain(Some("lr")).expect_err("several keys").to_string();
    assert!(error.contains("optimizer.adam.lr") && error.contains("optimizer.sgd.lr"), "{error}");
}

/// What a reference of the schema means.
fn resolved<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    let inner = node.get("allOf").and_then(|all| all.get(0)).unwrap_or(node);
    match inner.get("$ref").and_then(Value::as_str) {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).expect(reference),
        None => inner,
    }
}

/// A key with a number of which the schema may know the range: its own one, or that of each entry of a list.
fn number_of(node: &Value) -> Option<(&Value, bool)> {
    let is = |node: &Value, name: &str| match node.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(many)) => many.iter().any(|one| one == name),
        _ => false,
    };
    let number = |node: &Value| is(node, "number") || is(node, "integer");
    match node.get("items").filter(|_| is(node, "array")) {
        Some(items) if number(items) => Some((items, true)),
        _ => number(node).then_some((node, false)),
    }
}

/// Whether a run with this value of the key is within the ranges that the types state; `None` where it cannot be read.
fn valid(base: &Value, path: &[&str], key: &str, value: f64, in_list: bool) -> Option<bool> {
    let mut run = base.clone();
    let table = path.iter().fold(&mut run, |node, step| match step.parse::<usize>() {
        Ok(index) => &mut node[index],
        Err(_) => &mut node[*step],
    });
    let number = if value.fract() == 0.0 { Value::from(value as i64) } else { Value::from(value) };
    let old = table[key].clone();
    table[key] = match old.as_array() {
        Some(items) => vec![number; items.len().max(1)].into(),
        None if in_list => vec![number; 3].into(),
        None => number,
    };
    let spec: RunSpec = serde_json::from_value(run).ok()?;
    Some(spec.validate().is_ok())
}

/// Compares one struct's ranges in the schema, which files are checked with, with those its type checks.
fn compare(definition: &Value, base: &Value, path: &[&str], wrong: &mut Vec<String>) {
    for (key, property) in definition["properties"].as_object().into_iter().flatten() {
        let Some((number, in_list)) = number_of(property) else { continue };
        for (name, beyond) in [("minimum", -1.0), ("maximum", 1.0)] {
            let value = match number.get(name).and_then(Value::as_f64) {
                Some(limit) => limit + beyond,
                None => beyond * 1e9,
            };
            let stated = number.get(name).is_some();
            if valid(base, path, key, value, in_list).is_some_and(|valid| valid == stated) {
                wrong.push(format!("{}.{key}: {value} (schema states {name}: {stated})", path.join(".")));
            }
        }
    }
}

#[test]
fn the_schema_states_the_ranges_that_the_types_check() {
    let schema = serde_json::to_value(schemars::schema_for!(RunSpec)).expect("a schema");
    let base: RunSpec = toml::from_str(
        "data.synthetic = {}\nwarmup.length = 1\nema = {}\nearly_stop.patience = 3\n\
         fold = {}\nsubset.fraction = 0.5\nprogressive.from = 32",
    )
    .expect("a run");
    let base = serde_json::to_value(base).expect("JSON");
    let mut wrong = Vec::new();
    compare(&schema, &base, &[], &mut wrong);
    for (key, name) in [
        ("input", "Input"),
        ("backbone", "BackboneSpec"),
        ("ema", "Ema"),
        ("early_stop", "EarlyStop"),
        ("fold", "Fold"),
        ("subset", "Subset"),
        ("progressive", "Progressive"),
    ] {
        compare(&schema["$defs"][name], &base, &[key], &mut wrong);
    }
    let mut family = |key: &str, definition: &str, list: bool, every: Vec<Value>| {
        for component in every {
            let name = component.as_object().and_then(|keys| keys.keys().next().cloned()).expect("a name");
            let mut base = base.clone();
            base[key] = if list { vec![component].into() } else { component };
            let branches = schema["$defs"][definition]["oneOf"].as_array().expect("a family");
            let branch = branches.iter().find_map(|branch| branch["properties"].get(&name)).expect("a component");
            let path: Vec<&str> = if list { vec![key, "0", &name] } else { vec![key, &name] };
            compare(resolved(&schema, branch), &base, &path, &mut wrong);
        }
    };
    family("optimizer", "OptimizerSpec", false, json(OptimizerSpec::every()));
    family("scheduler", "ScheduleSpec", false, json(ScheduleSpec::every()));
    family("loss", "LossSpec", false, json(LossSpec::every()));
    family("sampler", "SamplerSpec", false, json(SamplerSpec::every()));
    family("augment", "AugmentSpec", true, json(AugmentSpec::every()));
    family("synthesize", "SynthesizerSpec", false, json(SynthesizerSpec::every()));
    family("data", "DataSpec", false, json(DataSpec::every()));
    assert!(wrong.is_empty(), "garde's and schemars' attributes differ:\n{}", wrong.join("\n"));
}

fn json<T: serde::Serialize>(every: Vec<T>) -> Vec<Value> {
    every.iter().map(|component| serde_json::to_value(component).expect("JSON")).collect()
}
