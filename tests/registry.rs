//! The contract of every component: what is listed in a registry is tested here, the day it is listed.

#[path = "registry/behaviour.rs"]
mod behaviour;

use garde::Validate;
use runner::{
    augment::AugmentSpec, data::sampler::SamplerSpec, loss::LossSpec, optim::OptimizerSpec, prune::PrunerSpec,
    schedule::ScheduleSpec, synthesize::SynthesizerSpec,
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt::Debug, path::Path};

/// What every family's enum can do.
trait Family: Serialize + DeserializeOwned + JsonSchema + Validate<Context = ()> + PartialEq + Debug {}
impl<T: Serialize + DeserializeOwned + JsonSchema + Validate<Context = ()> + PartialEq + Debug> Family for T {}

macro_rules! contract {
    ($($test:ident: $family:ident in $folder:literal),+ $(,)?) => {$(
        #[test]
        fn $test() {
            let every = $family::every();
            assert_eq!(every.iter().map(|spec| spec.name()).collect::<Vec<_>>(), $family::NAMES);
            for spec in &every {
                check(spec, spec.name(), $folder);
            }
        }
    )+};
}

contract! {
    augmentations_keep_the_contract: AugmentSpec in "augment",
    optimizers_keep_the_contract: OptimizerSpec in "optim",
    schedules_keep_the_contract: ScheduleSpec in "schedule",
    pruners_keep_the_contract: PrunerSpec in "prune",
    losses_keep_the_contract: LossSpec in "loss",
    synthesizers_keep_the_contract: SynthesizerSpec in "synthesize",
    samplers_keep_the_contract: SamplerSpec in "data/sampler",
}

fn check<S: Family>(spec: &S, name: &str, folder: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{folder}/{name}.rs"));
    assert!(file.exists(), "{name} is not at {}", file.display());
    spec.validate().unwrap_or_else(|report| panic!("{name}'s defaults are refused: {report}"));
    round_trip(spec, name);
    let schema = Schema::of::<S>(name);
    assert!(!schema.description(&schema.component).is_empty(), "{name} has no description in the schema");
    assert_eq!(schema.type_name, camel_case(name), "the struct of {name}");
    let parameters = serde_json::to_value(spec).unwrap()[name].clone();
    if let Value::Object(parameters) = parameters {
        unknown_key_is_refused::<S>(name);
        assert_eq!(&parse::<S>(name, &Map::new()).unwrap(), spec, "{name} = {{}} is not the default");
        fields::<S>(name, &parameters, &schema);
    }
}

/// Through JSON and TOML, under its name alone.
fn round_trip<S: Family>(spec: &S, name: &str) {
    let json = serde_json::to_value(spec).unwrap();
    assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), [name]);
    assert_eq!(&serde_json::from_value::<S>(json).unwrap(), spec);
    let text = toml::to_string(&BTreeMap::from([("component", spec)])).unwrap();
    let back: BTreeMap<String, S> = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(&back["component"], spec, "{text}");
}

fn parse<S: Family>(name: &str, parameters: &Map<String, Value>) -> Result<S, String> {
    serde_json::from_value(json!({ name: parameters })).map_err(|error| error.to_string())
}

fn unknown_key_is_refused<S: Family>(name: &str) {
    let wrong = Map::from_iter([("no_such_key".to_string(), json!(1))]);
    let message = parse::<S>(name, &wrong).expect_err(name);
    assert!(message.contains("no_such_key"), "{name}: {message}");
}

/// Every parameter is described, has its default in the schema, and the same limits in the schema and in the check.
fn fields<S: Family>(name: &str, defaults: &Map<String, Value>, schema: &Schema) {
    let empty = Map::new();
    let properties = schema.component.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    for (field, value) in defaults {
        let property = properties.get(field).unwrap_or_else(|| panic!("{name}.{field} is not in the schema"));
        assert_eq!(property.get("default"), Some(value), "{name}.{field}'s default in the schema");
    }
    for (field, property) in properties {
        let place = format!("{name}.{field}");
        assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{place} has no description");
        limits::<S>(name, field, defaults, property);
    }
}

/// A number beyond the schema's limits is refused by the check, and one that the check refuses is beyond them.
fn limits<S: Family>(name: &str, field: &str, defaults: &Map<String, Value>, property: &Value) {
    let list = property["items"].is_object();
    let number = if list { &property["items"] } else { property };
    let is =
        |kind: &str| number["type"] == kind || number["type"].as_array().is_some_and(|all| all.contains(&json!(kind)));
    if !is("number") && !is("integer") {
        return;
    }
    // As many values as the default has, so that the value alone decides.
    let count = defaults.get(field).and_then(Value::as_array).map_or(2, |list| list.len().max(1));
    let accepted = |value: Value| {
        let value = if list { Value::from(vec![value; count]) } else { value };
        let mut parameters = defaults.clone();
        parameters.insert(field.to_string(), value);
        parse::<S>(name, &parameters).is_ok_and(|spec| spec.validate().is_ok())
    };
    let scaled = |limit: &Value, by: f64| {
        let limit = limit.as_f64().unwrap();
        if is("integer") { json!((limit + by) as i64) } else { json!(limit + by) }
    };
    for (limit, beyond, far) in [("minimum", -1.0, json!(-1_000_000)), ("maximum", 1.0, json!(1_000_000))] {
        match number.get(limit) {
            Some(value) => assert!(!accepted(scaled(value, beyond)), "{name}.{field} beyond its {limit} is accepted"),
            None => assert!(accepted(far.clone()), "{name}.{field} = {far} is refused, but the schema has no {limit}"),
        }
    }
}

/// A component in its family's schema.
struct Schema {
    whole: Value,
    component: Value,
    type_name: String,
}

impl Schema {
    fn of<S: JsonSchema>(name: &str) -> Self {
        let whole = serde_json::to_value(schemars::schema_for!(S)).unwrap();
        let variants = whole["oneOf"].as_array().expect("a family is one of its components");
        let variant = variants.iter().find_map(|variant| variant["properties"].get(name));
        let reference =
            variant.and_then(|variant| variant["$ref"].as_str()).unwrap_or_else(|| panic!("{name}: {whole}"));
        let type_name = reference.rsplit('/').next().unwrap().to_string();
        let component = whole["$defs"][&type_name].clone();
        Self { component, type_name, whole }
    }

    fn description<'a>(&'a self, schema: &'a Value) -> &'a str {
        assert!(self.whole.is_object());
        schema["description"].as_str().unwrap_or_default()
    }
}

fn camel_case(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(capital).collect()
}
