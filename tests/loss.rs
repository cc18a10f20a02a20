//! Losses and their gradients against torch's, torchvision's and timm's (tests/golden/loss.py).

use candle_core::{Device, Tensor, Var};
use runner::loss::{LossSpec, Targets};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    loss: LossSpec,
    logits: Vec<Vec<f32>>,
    classes: Vec<u32>,
    mixed: Option<Vec<Vec<f32>>>,
    value: f64,
    gradient: Vec<Vec<f64>>,
}

fn one_hot(classes: &[u32], count: usize) -> Vec<Vec<f32>> {
    classes.iter().map(|class| (0..count).map(|c| if c == *class as usize { 1.0 } else { 0.0 }).collect()).collect()
}

#[test]
fn values_and_gradients_are_the_originals() {
    let golden: Golden = serde_json::from_str(include_str!("golden/loss.json")).unwrap();
    assert_eq!(golden.cases.len(), 48);
    for case in &golden.cases {
        let logits = Var::from_tensor(&Tensor::new(case.logits.clone(), &Device::Cpu).unwrap()).unwrap();
        let rows = case.mixed.clone().unwrap_or_else(|| one_hot(&case.classes, case.logits[0].len()));
        let probabilities = Tensor::new(rows, &Device::Cpu).unwrap();
        let classes = case.mixed.is_none().then_some(case.classes.as_slice());
        let targets = Targets { probabilities: &probabilities, classes };
        let loss = case.loss.as_dyn().loss(&logits, &targets).unwrap();
        let place = format!("{:?}, {} classes, mixed: {}", case.loss, case.logits[0].len(), case.mixed.is_some());
        let value = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((value - case.value).abs() < 1e-5 * case.value.abs().max(1.0), "{place}: {value} not {}", case.value);
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&logits).unwrap().to_vec2::<f32>().unwrap();
        for (ours, torch) in gradient.iter().flatten().zip(case.gradient.iter().flatten()) {
            assert!((f64::from(*ours) - torch).abs() < 1e-5, "{place}: gradient {ours} not {torch}");
        }
    }
}

#[test]
fn a_list_must_have_one_value_a_class() {
    for text in ["cross_entropy = { class_weights = [1, 2, 3] }", "focal = { alpha = [1, 2, 3] }"] {
        let spec: LossSpec = toml::from_str(text).unwrap();
        assert!(spec.as_dyn().check(3).is_ok());
        let message = spec.as_dyn().check(2).unwrap_err();
        assert!(message.contains("3 values") && message.contains("2 classes"), "{message}");
    }
}
