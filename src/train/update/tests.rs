use super::*;
use crate::tensor::{Builder, Device, Init, Key};
use serde_json::Value;

fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A backward pass of the golden problem at the parameter's value.
fn backward(weight: &Weight, problem: &Value) -> Gradients {
    let constant = |key: &str| Tensor::new(floats(&problem[key]), &Device::Cpu).unwrap();
    let distance = (weight.var().flatten_all().unwrap() - constant("target")).unwrap();
    let loss = (distance.sqr().unwrap() * constant("curvature")).unwrap().sum_all().unwrap() * 0.5;
    loss.unwrap().backward().unwrap().into()
}

/// The trajectories of tests/optim.rs again, with everything that stands around a rule in training.
#[test]
fn whole_steps_follow_the_originals() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/optim.json")).unwrap();
    for case in golden["cases"].as_array().unwrap().iter().filter(|case| case["cycled"] == false) {
        let rule: OptimizerSpec = serde_json::from_value(case["optimizer"].clone()).unwrap();
        let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
        let size = shape.iter().product::<usize>();
        let problems = golden["problems"].as_array().unwrap();
        let problem = problems.iter().find(|problem| floats(&problem["target"]).len() == size).unwrap();
        let builder = Builder::new(&Device::Cpu, Key::new(0));
        let weight = builder.param("x", shape.clone(), Init::ZEROS).unwrap();
        let start = Tensor::full(case["start"].as_f64().unwrap() as f32, shape, &Device::Cpu).unwrap();
        weight.var().set(&start).unwrap();
        let mut updater = Updater::new(&rule, &builder.params(), &Groups::default()).unwrap();
        for count in 1..=50 {
            updater.accumulate(&backward(&weight, problem)).unwrap();
            if let Some(sharpness) = rule.as_dyn().sharpness() {
                let raised = updater.climb(sharpness).unwrap();
                updater.accumulate(&backward(&weight, problem)).unwrap();
                raised.restore().unwrap();
            }
            updater.step(rule.as_dyn().lr(), None, None).unwrap();
            let Some(expected) = case["x"].get(count.to_string()) else { continue };
            let ours = weight.var().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (ours, original) in ours.iter().zip(floats(expected)) {
                let off = (ours - original).abs() / original.abs().max(1.0);
                assert!(off < 1e-5, "{rule:?}, step {count}: {ours} and not {original}");
            }
        }
    }
}
