//! Against torch's numbers; `tests/golden/ops.py` wrote them.

use crate::check::{Input, close, values};
use candle_core::{Device, Tensor, Var};
use runner::{
    error::Result,
    tensor::{
        Builder, Key, Pass,
        layers::BatchNorm,
        ops::{self, Activation, Window},
    },
};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Case {
    y: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

fn golden() -> BTreeMap<String, Case> {
    serde_json::from_str(include_str!("../golden/ops.json")).unwrap()
}

/// The script's inputs.
fn wave(shape: &[usize], phase: f64) -> Input {
    let count: usize = shape.iter().product();
    Input { shape: shape.to_vec(), values: (0..count).map(|i| (i as f64 * 1.7 + phase).sin() as f32).collect() }
}

fn compare(name: &str, shapes: &[&[usize]], op: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let inputs = shapes.iter().enumerate().map(|(i, shape)| wave(shape, i as f64 + 1.0).tensor());
    let vars: Vec<Var> = inputs.map(|input| Var::from_tensor(&input).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = op(&tensors).unwrap();
    let gradients = (&y * wave(y.dims(), 0.5).tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    let expected = &golden()[name];
    close(name, 1e-5, &values(&y), &expected.y);
    for (i, (var, expected)) in vars.iter().zip(&expected.gradients).enumerate() {
        close(&format!("{name}: gradient {i}"), 1e-5, &values(gradients.get(var).unwrap()), expected);
    }
}

const IMAGE: &[usize] = &[2, 5, 7, 3];

#[test]
fn batch_norm() {
    let shapes: [&[usize]; 4] = [&[2, 3, 3, 5], &[5], &[5], &[2, 3, 3, 5]];
    for (name, activation) in [("batch_norm_relu", Activation::Relu), ("batch_norm_silu", Activation::Silu)] {
        compare(name, &shapes, |x| Ok(ops::batch_norm_train(&x[0], &x[1], &x[2], Some(&x[3]), activation, 1e-5)?.0));
    }
}

#[test]
fn running_statistics() {
    let builder = Builder::new(&Device::Cpu, Key::new(0));
    let norm = BatchNorm::new(&builder, 5, Activation::Identity).unwrap();
    norm.forward(&wave(&[2, 3, 3, 5], 1.0).tensor(), None, &Pass::train(Key::new(0))).unwrap();
    let expected = &golden()["running"];
    let params = builder.params();
    let running = |name: &str| values(params.get(name).unwrap().var().as_tensor());
    close("running mean", 1e-6, &running("running_mean"), &expected.y);
    close("running variance", 1e-6, &running("running_var"), &expected.gradients[0]);
}

#[test]
fn layer_norm() {
    let shapes: [&[usize]; 3] = [&[3, 5, 19], &[19], &[19]];
    compare("layer_norm", &shapes, |x| ops::layer_norm(&x[0], Some((&x[1], &x[2])), 1e-6));
    compare("layer_norm_plain", &shapes[..1], |x| ops::layer_norm(&x[0], None, 1e-5));
}

/// Of three times the waves.
#[test]
fn attention() {
    compare("attention", &[&[2, 5, 24]], |x| ops::attention(&(&x[0] * 3.0)?, 2));
}

#[test]
fn group_norm() {
    let shapes: [&[usize]; 3] = [&[2, 3, 4, 6], &[6], &[6]];
    compare("group_norm_relu", &shapes, |x| ops::group_norm(&x[0], 3, &x[1], &x[2], Activation::Relu, 1e-5));
}

#[test]
fn activations() {
    let named = [("silu", Activation::Silu), ("gelu", Activation::Gelu), ("sigmoid", Activation::Sigmoid)];
    for (name, activation) in named {
        compare(name, &[IMAGE], |x| ops::activate(&x[0], activation));
    }
}

#[test]
fn pools() {
    compare("max_pool", &[IMAGE], |x| ops::max_pool2d(&x[0], Window::square(3, 2, 1)));
    compare("avg_pool", &[IMAGE], |x| ops::avg_pool2d(&x[0], Window::square(3, 2, 1)));
    compare("global_avg_pool", &[IMAGE], |x| ops::global_avg_pool(&x[0]));
}

#[test]
fn linear() {
    compare("linear_gelu", &[&[4, 6], &[3, 6], &[3]], |x| ops::linear(&x[0], &x[1], &x[2], Activation::Gelu));
}

/// The targets' absolute waves, and losses of eight times the logits.
#[test]
fn losses() {
    let positive = |shape: &[usize], phase| wave(shape, phase).map(f32::abs).tensor();
    let eight = |x: &Tensor| -> Result<Tensor> { Ok((x * 8.0)?) };
    let (targets, weights) = (positive(&[4, 6], 3.0), positive(&[6], 4.0));
    compare("cross_entropy", &[&[4, 6]], |x| ops::soft_cross_entropy(&eight(&x[0])?, &targets, Some(&weights)));
    compare("bce", &[&[4, 6]], |x| ops::bce_with_logits(&eight(&x[0])?, &targets));
}
