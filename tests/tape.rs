//! Our tape finds what Candle's finds, and leads through Candle's own operations.

use candle_core::{DType, Device, Module, Tensor, Var};
use runner::{
    backbone::{self, BACKBONES, Options},
    tensor::{
        Key, Pass,
        ops::{self, Activation, Tape, Window},
    },
};

fn values(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Key::new(seed).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn variable(shape: &[usize], seed: u64) -> Var {
    Var::from_tensor(&values(shape, seed)).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(what: &str, ours: &Tensor, expected: &Tensor) {
    assert_eq!(ours.dims(), expected.dims(), "{what}");
    let (ours, expected) = (numbers(ours), numbers(expected));
    let largest = expected.iter().fold(1e-12f32, |most, value| most.max(value.abs()));
    for (ours, expected) in ours.iter().zip(&expected) {
        assert!((ours - expected).abs() <= 1e-6 * largest, "{what}: {ours} and not {expected} (of {largest})");
    }
}

/// Holds the gradients of `result` by every variable against those of Candle's tape.
fn agree(what: &str, variables: &[(&str, &Tensor)], result: impl Fn() -> Tensor) {
    let expected = result().backward().unwrap();
    let mut tape = Tape::default();
    let end = tape.record(&result);
    let gradients = tape.backward(&end).unwrap();
    for (name, variable) in variables {
        let what = format!("{what}: {name}");
        match (gradients.get(variable), expected.get(variable)) {
            (None, None) => {}
            (ours, theirs) => close(
                &what,
                ours.unwrap_or_else(|| panic!("{what} has no gradient")),
                theirs.unwrap_or_else(|| panic!("{what} has a gradient")),
            ),
        }
    }
}

fn backbone(name: &str) {
    let options = Options { image_size: 32, drop_rate: 0.2, drop_path: 0.2, ..Options::new(3) };
    let model = backbone::build(name, &options, &Device::Cpu, Key::new(3)).unwrap();
    // Away from the zeros that blocks begin with.
    for (place, weight) in model.params.trainable().enumerate() {
        let noise = (values(weight.var().dims(), place as u64) * 0.02).unwrap();
        weight.var().set(&(weight.var().as_detached_tensor() + noise).unwrap()).unwrap();
    }
    let (images, targets) = (values(&[3, 32, 32, 3], 7), Tensor::eye(3, DType::F32, &Device::Cpu).unwrap());
    let named: Vec<(&str, &Tensor)> =
        model.params.trainable().map(|weight| (weight.name(), weight.var().as_tensor())).collect();
    let pass = Pass { momentum: Some(0.0), ..Pass::train(Key::new(5)) };
    agree(name, &named, || {
        let logits = model.net.forward(&images, &pass).unwrap();
        ops::total(&ops::soft_cross_entropy(&logits, &targets, None).unwrap(), 0.3).unwrap()
    });
}

#[test]
fn every_backbone_has_the_same_gradients_on_both_tapes() {
    BACKBONES.iter().for_each(|entry| backbone(entry.name));
    backbone("resnet18@2+vit_tiny_patch16_224");
}

/// Operations of Candle's in front of ours, between and behind them, and results that several of both use.
#[test]
fn candles_own_operations_may_stand_anywhere() {
    let (x, weight, bias) = (variable(&[4, 6], 1), variable(&[6, 6], 2), variable(&[6], 3));
    let named = [("x", x.as_tensor()), ("weight", weight.as_tensor()), ("bias", bias.as_tensor())];
    agree("a mixture", &named, || {
        let doubled = (x.as_tensor() * 2.0).unwrap();
        let turned = weight.t().unwrap();
        let a = ops::linear(&doubled, &turned, &bias, Activation::Gelu).unwrap();
        let b = ops::linear(&a, &turned, &bias, Activation::Identity).unwrap();
        let c = (&a * &doubled).unwrap().exp().unwrap();
        let d = ops::activate(&(&c + &b).unwrap(), Activation::Silu).unwrap();
        let e = ops::add(&ops::reshape(&d, (6, 4)).unwrap(), &c.reshape((6, 4)).unwrap()).unwrap();
        (ops::reshape(&e, 24).unwrap().sqr().unwrap().mean_all().unwrap() + ops::total(&d, 0.5).unwrap()).unwrap()
    });
}

/// The same gradient goes several ways, and is added to on some of them.
#[test]
fn gradients_that_are_shared_stay_as_they_are() {
    let (x, y) = (variable(&[3, 5], 1), variable(&[3, 5], 2));
    agree("sums", &[("x", x.as_tensor()), ("y", y.as_tensor())], || {
        let a = ops::add(&x, &y).unwrap();
        let b = ops::add(&a, &x).unwrap();
        let c = ops::add(&ops::activate(&b, Activation::Sigmoid).unwrap(), &ops::add(&b, &a).unwrap()).unwrap();
        let view = ops::reshape(&c, (5, 3)).unwrap();
        let d = ops::add(&view, &ops::activate(&view, Activation::Gelu).unwrap()).unwrap();
        ops::total(&ops::add(&d, &d).unwrap(), 2.0).unwrap()
    });
}

/// A gate's gradient leaves part of the work to the squeeze in front of it, beside which the image is used again.
#[test]
fn a_gate_beside_other_uses_of_its_input() {
    let (x, weight, bias) = (variable(&[2, 3, 3, 4], 1), variable(&[4, 4], 2), variable(&[4], 3));
    let (scale, shift) = (variable(&[4], 4), variable(&[4], 5));
    let named = [("x", x.as_tensor()), ("weight", weight.as_tensor()), ("scale", scale.as_tensor())];
    agree("a gate", &named, || {
        let normal = ops::batch_norm_train(&x, &scale, &shift, Some(x.as_tensor()), Activation::Relu, 1e-5).unwrap().0;
        let gated = ops::squeeze_excite(&normal, Activation::Sigmoid, |means| {
            ops::linear(means, &weight, &bias, Activation::Relu)
        });
        let pooled = ops::max_pool2d(&ops::add(&gated.unwrap(), &normal).unwrap(), Window::square(2, 1, 0)).unwrap();
        ops::total(&ops::global_avg_pool(&pooled).unwrap(), 1.0).unwrap()
    });
}

/// A network of Candle's alone.
#[test]
fn candles_modules_train() {
    let (weight, bias) = (variable(&[3, 6], 1), variable(&[3], 2));
    let layer = candle_nn::Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
    let (x, targets) = (values(&[3, 6], 3), Tensor::eye(3, DType::F32, &Device::Cpu).unwrap());
    agree("a module", &[("weight", weight.as_tensor()), ("bias", bias.as_tensor())], || {
        let logits = layer.forward(&x).unwrap().relu().unwrap();
        ops::soft_cross_entropy(&logits, &targets, None).unwrap().mean_all().unwrap()
    });
}

#[test]
fn a_seed_takes_the_place_of_a_loss() {
    let (x, weights) = (variable(&[2, 3], 1), values(&[2, 3], 2));
    let mut tape = Tape::default();
    let y = tape.record(|| ops::activate(&x, Activation::Silu)).unwrap();
    let ours = tape.backward_from(&y, weights.clone()).unwrap();
    let y = ops::activate(&x, Activation::Silu).unwrap();
    let expected = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    close("a seed", ours.get(&x).unwrap(), expected.get(&x).unwrap());
}

#[test]
fn nothing_is_kept_of_what_nobody_records() {
    let x = variable(&[2, 3, 3, 4], 1);
    let scale = variable(&[4], 4);
    let compute = || ops::batch_norm_train(&x, &scale, &scale, Some(x.as_tensor()), Activation::Relu, 1e-5).unwrap().0;
    let mut tape = Tape::default();
    let y = tape.record(|| ops::untracked(compute));
    assert!(!y.track_op());
    let recorded = tape.record(compute);
    assert_eq!(numbers(&y), numbers(&recorded));
    assert!(tape.backward(&recorded).unwrap().get(&scale).is_some());
}

/// What is not recorded is on Candle's tape, also after a recording that failed.
#[test]
fn recording_ends_with_its_scope() {
    let x = variable(&[4], 1);
    let failed = std::panic::catch_unwind(|| {
        Tape::default().record(|| panic!("inside"));
    });
    assert!(failed.is_err());
    let y = ops::activate(&x, Activation::Silu).unwrap();
    assert!(y.sum_all().unwrap().backward().unwrap().get(&x).is_some());
    let mut tape = Tape::default();
    tape.record(|| Tape::default().record(|| ops::activate(&x, Activation::Silu)).map(drop)).unwrap();
    let y = tape.record(|| ops::activate(&x, Activation::Silu)).unwrap();
    assert!(tape.backward(&y).unwrap().get(&x).is_some());
}
