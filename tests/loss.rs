//! Losses and their gradients against torch's, torchvision's and timm's (tests/golden/loss.py).

use candle_core::{Device, Tensor, Var};
use runner::loss::{LossSpec, Targets, terms};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    supcon: Vec<Supcon>,
    distill: Vec<Distill>,
}

#[derive(Deserialize)]
struct Distill {
    student: Vec<Vec<f32>>,
    teacher: Vec<Vec<f32>>,
    temperature: f64,
    value: f64,
    gradient: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Supcon {
    features: Vec<Vec<f32>>,
    classes: Vec<u32>,
    temperature: f64,
    value: f64,
    gradient: Vec<Vec<f64>>,
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
    assert_eq!(golden.cases.len(), 56);
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
fn the_contrastive_term_and_its_gradient_are_the_references() {
    let golden: Golden = serde_json::from_str(include_str!("golden/loss.json")).unwrap();
    assert_eq!(golden.supcon.len(), 3);
    for Supcon { features, classes, temperature, value, gradient } in &golden.supcon {
        let features = Var::from_tensor(&Tensor::new(features.clone(), &Device::Cpu).unwrap()).unwrap();
        let loss = terms::supervised_contrastive(&features, classes, *temperature).unwrap();
        let ours = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((ours - value).abs() < 1e-5 * value.abs().max(1.0), "{ours} not {value}");
        let gradients = loss.backward().unwrap();
        let slopes = gradients.get(&features).unwrap().to_vec2::<f32>().unwrap();
        for (ours, torch) in slopes.iter().flatten().zip(gradient.iter().flatten()) {
            assert!((f64::from(*ours) - torch).abs() < 1e-5 * torch.abs().max(1.0), "gradient {ours} not {torch}");
        }
    }
}

#[test]
fn distillation_and_its_gradient_are_those_of_torch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/loss.json")).unwrap();
    assert_eq!(golden.distill.len(), 3);
    for Distill { student, teacher, temperature, value, gradient } in &golden.distill {
        let student = Var::from_tensor(&Tensor::new(student.clone(), &Device::Cpu).unwrap()).unwrap();
        let teacher = Tensor::new(teacher.clone(), &Device::Cpu).unwrap();
        let loss = terms::distillation(&student, &teacher, *temperature).unwrap();
        let ours = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((ours - value).abs() < 1e-5 * value.abs().max(1.0), "{ours} not {value}");
        let gradients = loss.backward().unwrap();
        let slopes = gradients.get(&student).unwrap().to_vec2::<f32>().unwrap();
        for (ours, torch) in slopes.iter().flatten().zip(gradient.iter().flatten()) {
            assert!((f64::from(*ours) - torch).abs() < 1e-5 * torch.abs().max(1.0), "gradient {ours} not {torch}");
        }
    }
}

#[test]
fn without_two_images_of_a_class_there_is_no_contrastive_term() {
    let features = Tensor::new(vec![vec![1f32, 2.0], vec![0.0, 0.0]], &Device::Cpu).unwrap();
    let loss = terms::supervised_contrastive(&features, &[0, 1], 0.07).unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
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
