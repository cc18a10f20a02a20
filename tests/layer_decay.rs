//! Layer-wise learning rates against timm's `param_groups_layer_decay` (tests/golden/layers.py).

use runner::{
    backbone::{self, Options, layers},
    tensor::{Device, Key},
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Golden {
    layer_decay: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    /// Parameters by their factor.
    names: BTreeMap<String, Vec<String>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/layers.json")).unwrap()
}

#[test]
fn factors_are_those_of_timm() {
    let golden = golden();
    assert_eq!(golden.cases.len(), 5);
    for Case { model, names } in &golden.cases {
        let ours = layers::scales(model, names.values().flatten().map(String::as_str), golden.layer_decay);
        assert!(names.len() > 8, "{model}");
        for (factor, names) in names {
            let factor: f64 = factor.parse().unwrap();
            for name in names {
                assert!((ours[name] - factor).abs() < 1e-12, "{model}: {name} has {} and not {factor}", ours[name]);
            }
        }
    }
}

#[test]
fn models_built_here_have_the_names_compared() {
    for Case { model, names } in &golden().cases {
        let options = Options::new(2);
        let Ok(built) = backbone::build(model, &options, &Device::Cpu, Key::new(0)) else { continue };
        let ours: BTreeSet<&str> =
            built.params.iter().filter(|weight| !weight.is_buffer()).map(|weight| weight.name()).collect();
        assert_eq!(ours, names.values().flatten().map(String::as_str).collect(), "{model}");
    }
}
