//! Whole training steps on a GPU against the CPU's: every rule, and all that stands around a rule.

use crate::device::on_gpu;
use candle_core::{D, Device, Tensor};
use runner::{
    error::Cause,
    optim::OptimizerSpec,
    spec::{WeightDecayOn, recipe},
    tensor::{
        Builder, Init, Key, Params, Weight,
        ops::Gradients,
        safetensors::{self, Stored, Values},
    },
    train::{
        average::Average,
        groups::Groups,
        update::{LossScale, Updater},
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// Odd sizes, one of more than a chunk; two matrices of one size, one wide and one tall.
const SHAPES: [(&str, &[usize]); 8] = [
    ("stem.weight", &[8, 3, 3, 3]),
    ("stem.bias", &[7]),
    ("a.weight", &[33, 5]),
    ("scale", &[1]),
    ("b.weight", &[33, 5]),
    ("big.weight", &[97, 89]),
    ("head.weight", &[5, 23]),
    ("head.bias", &[5]),
];

const RATES: [(&str, f64); 2] = [("lr_scale", 0.5), ("weight_decay", 0.07)];

fn params(device: &Device) -> Params {
    let builder = Builder::new(device, Key::new(5));
    for (name, shape) in SHAPES {
        builder.param(name, shape.to_vec(), Init::Uniform { bound: 0.5 }).unwrap();
    }
    builder.params()
}

/// Parameters of their own rates, and parameters without weight decay.
fn groups() -> Groups {
    let [lr_scale, weight_decay] = RATES.map(|(_, value)| Some(value));
    let head = recipe::Group { pattern: "head.*".into(), lr_scale, weight_decay };
    Groups { decay_on: WeightDecayOn::Matrices, groups: vec![head], layers: BTreeMap::new() }
}

fn uniform(key: Key, like: &Tensor) -> Tensor {
    let mut rng = key.rng();
    let values: Vec<f32> = (0..like.elem_count()).map(|_| rng.uniform() as f32).collect();
    Tensor::from_vec(values, like.dims(), like.device()).unwrap()
}

/// What one backward pass gives: the gradient of a bowl around other values, a little different each step. Now and then a
/// parameter has none. Some lie at odd places.
fn gradients(params: &Params, step: u64, size: f64) -> Gradients {
    let mut store = Gradients::default();
    for (place, weight) in params.iter().enumerate() {
        if place == 2 && step % 5 == 3 {
            continue;
        }
        let value = weight.var().as_detached_tensor();
        let key = Key::new(9).with(place as u64);
        let center = (uniform(key, &value) - 0.5).unwrap();
        let curvature = (uniform(key.with(1), &value) + 0.1).unwrap();
        let noise = ((uniform(key.with(step + 2), &value) - 0.5).unwrap() * 0.1).unwrap();
        let gradient = (((value - center).unwrap() * curvature).unwrap() + noise).unwrap();
        let mut gradient = (gradient * size).unwrap();
        if place % 2 == 1 {
            let flat = gradient.flatten_all().unwrap();
            let one = flat.narrow(0, 0, 1).unwrap();
            let moved = Tensor::cat(&[&one, &flat], 0).unwrap().narrow(D::Minus1, 1, flat.elem_count()).unwrap();
            gradient = moved.reshape(gradient.dims()).unwrap();
        }
        store.insert(weight.var(), gradient);
    }
    store
}

#[derive(Clone, Copy)]
struct Recipe {
    steps: u64,
    /// Backward passes of a step.
    parts: u64,
    clip: Option<f64>,
    cycled: bool,
    /// The loss is scaled as in f16.
    scaled: bool,
}

const PLAIN: Recipe = Recipe { steps: 50, parts: 1, clip: None, cycled: false, scaled: false };

/// Makes the steps from `first` on.
fn train(updater: &mut Updater, rule: &OptimizerSpec, params: &Params, first: u64, recipe: Recipe) {
    let one = Tensor::new(1f32, params.iter().next().unwrap().var().device()).unwrap();
    let pass = |updater: &mut Updater, step| {
        for part in 0..recipe.parts {
            let scale = match recipe.scaled {
                true => updater.scaled(&one).unwrap().to_scalar::<f32>().unwrap(),
                false => 1.0,
            };
            let gradients = gradients(params, step * recipe.parts + part, f64::from(scale) / recipe.parts as f64);
            updater.accumulate(&gradients).unwrap();
        }
    };
    for step in first..first + recipe.steps {
        pass(updater, step);
        if let Some(sharpness) = rule.as_dyn().sharpness() {
            let raised = updater.climb(sharpness).unwrap();
            pass(updater, step);
            raised.restore().unwrap();
        }
        let momentum = recipe.cycled.then(|| 0.95 - 0.1 * step as f64 / 50.0);
        updater.step(rule.as_dyn().lr(), momentum, recipe.clip).unwrap();
    }
}

/// The parameters after training, by name.
fn values(params: &Params) -> BTreeMap<String, Vec<f32>> {
    params.iter().map(named).collect()
}

fn named(weight: &Weight) -> (String, Vec<f32>) {
    (weight.name().to_string(), weight.var().flatten_all().unwrap().to_vec1().unwrap())
}

fn trained(rule: &OptimizerSpec, recipe: Recipe, device: &Device) -> BTreeMap<String, Vec<f32>> {
    let params = params(device);
    let mut updater = Updater::new(rule, &params, &groups()).unwrap();
    if recipe.scaled {
        updater.scale_losses().unwrap();
    }
    train(&mut updater, rule, &params, 0, recipe);
    updater.check().unwrap();
    values(&params)
}

fn close(ours: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>, tolerance: f32, what: &str) {
    for (name, expected) in expected {
        for (place, (ours, expected)) in ours[name].iter().zip(expected).enumerate() {
            let off = (ours - expected).abs() / expected.abs().max(1.0);
            assert!(off <= tolerance, "{what}: {name} at {place}: {ours} and not {expected}");
        }
    }
}

fn same_on_gpu(rule: &OptimizerSpec, recipe: Recipe, tolerance: f32) {
    let expected = trained(rule, Recipe { scaled: false, ..recipe }, &Device::Cpu);
    let ours = on_gpu(|device| trained(rule, recipe, device));
    close(&ours, &expected, tolerance, &format!("{rule:?}"));
}

fn rule(text: &str) -> OptimizerSpec {
    toml::from_str(text).unwrap()
}

/// With all the options that tests/optim.rs holds against the originals.
#[test]
fn every_rule() {
    let golden: Value = serde_json::from_str(include_str!("../golden/optim.json")).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let rule: OptimizerSpec = serde_json::from_value(case["optimizer"].clone()).unwrap();
        let recipe = Recipe { cycled: case["cycled"] == true, ..PLAIN };
        same_on_gpu(&rule, recipe, 1e-5);
    }
}

const ADAMW: &str = "adamw = { lr = 0.02, weight_decay = 0.1 }";
const SAM: &str = "sam = { rho = 0.2, adaptive = true, base.sgd = { lr = 0.05, momentum = 0.9 } }";

#[test]
fn clipping() {
    for text in [ADAMW, "sgd = { lr = 0.5, momentum = 0.9 }", "lamb = { lr = 0.02, max_grad_norm = 0.2 }"] {
        // Well below the norm, which is about 8 at first, and above it.
        for clip in [0.5, 100.0] {
            same_on_gpu(&rule(text), Recipe { clip: Some(clip), steps: 20, ..PLAIN }, 1e-5);
        }
    }
}

#[test]
fn gradients_of_several_passes() {
    for text in [ADAMW, SAM] {
        same_on_gpu(&rule(text), Recipe { parts: 3, clip: Some(2.0), steps: 20, ..PLAIN }, 1e-5);
    }
}

#[test]
fn scaled_losses_change_nothing() {
    for (text, clip) in [(ADAMW, None), (SAM, None), (ADAMW, Some(0.5))] {
        same_on_gpu(&rule(text), Recipe { scaled: true, clip, parts: 2, steps: 20, ..PLAIN }, 1e-5);
    }
}

/// The gradients of a step, one of them no number any more.
fn broken(params: &Params) -> Gradients {
    let mut store = gradients(params, 0, 1.0);
    let weight = params.get("big.weight").unwrap();
    let mut values = vec![0.0; weight.count()];
    values[8300] = f32::INFINITY;
    let value = weight.var().as_tensor();
    store.insert(weight.var(), Tensor::from_vec(values, value.dims(), value.device()).unwrap());
    store
}

#[test]
fn a_step_that_overflows_is_skipped_and_the_scale_halved() {
    on_gpu(|device| {
        let (rule, params) = (rule(ADAMW), params(device));
        let mut updater = Updater::new(&rule, &params, &groups()).unwrap();
        updater.scale_losses().unwrap();
        assert_eq!(updater.check().unwrap(), Some(LossScale { scale: 65536.0, skipped: 0 }));
        train(&mut updater, &rule, &params, 0, Recipe { steps: 2, scaled: true, ..PLAIN });
        let before = (values(&params), updater.arrays().unwrap().len());
        updater.accumulate(&broken(&params)).unwrap();
        updater.step(0.1, None, None).unwrap();
        assert_eq!((values(&params), updater.arrays().unwrap().len()), before);
        assert_eq!(updater.check().unwrap(), Some(LossScale { scale: 32768.0, skipped: 1 }));
        train(&mut updater, &rule, &params, 3, Recipe { steps: 1, scaled: true, ..PLAIN });
        assert_ne!(values(&params), before.0);
        assert_eq!(updater.check().unwrap(), Some(LossScale { scale: 32768.0, skipped: 1 }));
    });
}

/// With losses scaled, skipped steps are as if they had never been, also for what depends on the number of steps and
/// across a checkpoint.
#[test]
fn skipped_steps_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let texts = [
        ADAMW,
        "nadam = { lr = 0.02 }",
        "radam = { lr = 0.02 }",
        "adan = { lr = 0.02 }",
        "lamb = { lr = 0.02 }",
        "adagrad = { lr = 0.1, lr_decay = 0.1 }",
        "sgd = { lr = 0.02, momentum = 0.9, dampening = 0.5 }",
        "lookahead = { k = 2, base.adamw = { lr = 0.02 } }",
    ];
    for text in texts {
        let rule = rule(text);
        let expected = trained(&rule, Recipe { steps: 6, ..PLAIN }, &Device::Cpu);
        let ours = on_gpu(|device| {
            let params = params(device);
            let skip = |updater: &mut Updater| {
                updater.accumulate(&broken(&params)).unwrap();
                updater.step(rule.as_dyn().lr(), None, None).unwrap();
            };
            let good = |updater: &mut Updater, first: u64, steps: u64| {
                train(updater, &rule, &params, first, Recipe { steps, scaled: true, ..PLAIN });
            };
            let fresh = || {
                let mut updater = Updater::new(&rule, &params, &groups()).unwrap();
                updater.scale_losses().unwrap();
                updater
            };
            let mut updater = fresh();
            skip(&mut updater);
            skip(&mut updater);
            good(&mut updater, 0, 3);
            skip(&mut updater);
            save(&updater, &file, |_, _| {});
            let mut resumed = fresh();
            resumed.restore(updater.count(), &Stored::read(&file).unwrap()).unwrap();
            good(&mut resumed, 3, 1);
            skip(&mut resumed);
            good(&mut resumed, 4, 2);
            assert_eq!(resumed.check().unwrap().unwrap().skipped, 4);
            values(&params)
        });
        close(&ours, &expected, 1e-5, text);
    }
}

#[test]
fn gradients_that_are_never_finite_are_an_error() {
    on_gpu(|device| {
        let (rule, params) = (rule(ADAMW), params(device));
        let mut updater = Updater::new(&rule, &params, &groups()).unwrap();
        updater.scale_losses().unwrap();
        for _ in 0..33 {
            assert!(updater.check().is_ok());
            updater.accumulate(&broken(&params)).unwrap();
            updater.step(0.1, None, None).unwrap();
        }
        let error = updater.check().unwrap_err();
        assert!(error.cause == Cause::NonFinite && error.to_string().contains("33 steps were skipped"), "{error}");
    });
}

#[test]
fn without_scaling_a_gradient_that_is_not_finite_is_told_when_asked() {
    on_gpu(|device| {
        for (rule, climbs) in [(rule(ADAMW), false), (rule(SAM), true)] {
            let params = params(device);
            let mut updater = Updater::new(&rule, &params, &groups()).unwrap();
            let before = values(&params);
            updater.accumulate(&broken(&params)).unwrap();
            assert_eq!(updater.check().unwrap(), None);
            match climbs {
                true => drop(updater.climb(rule.as_dyn().sharpness().unwrap()).unwrap()),
                false => updater.step(0.1, None, Some(1.0)).unwrap(),
            }
            assert_eq!(values(&params), before);
            assert_eq!(updater.check().unwrap_err().cause, Cause::NonFinite);
        }
    });
}

fn save(updater: &Updater, file: &Path, change: impl Fn(&str, &mut Vec<f32>)) {
    let mut arrays = updater.arrays().unwrap();
    for array in &mut arrays {
        if let Values::F32(values) = &mut array.values {
            change(&array.name, values.to_mut());
        }
    }
    safetensors::write(file, &arrays, &BTreeMap::new()).unwrap();
}

#[test]
fn the_scale_grows_after_2000_good_steps() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    on_gpu(|device| {
        let (rule, params) = (rule("sgd = { lr = 0.01 }"), params(device));
        let mut updater = Updater::new(&rule, &params, &groups()).unwrap();
        updater.scale_losses().unwrap();
        train(&mut updater, &rule, &params, 0, Recipe { steps: 2, scaled: true, ..PLAIN });
        save(&updater, &file, |name, values| {
            if name == "loss_scale:state" {
                assert_eq!(values[4], 2.0, "good steps");
                values[4] = 1998.0;
            }
        });
        updater.restore(2, &Stored::read(&file).unwrap()).unwrap();
        train(&mut updater, &rule, &params, 2, Recipe { steps: 1, scaled: true, ..PLAIN });
        assert_eq!(updater.check().unwrap().unwrap().scale, 65536.0);
        train(&mut updater, &rule, &params, 3, Recipe { steps: 1, scaled: true, ..PLAIN });
        assert_eq!(updater.check().unwrap().unwrap().scale, 131072.0);
    });
}

/// What a GPU saves is what the CPU saves, and both go on from it.
#[test]
fn checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let texts = [
        ADAMW,
        "nadam = { lr = 0.02 }",
        "muon = { lr = 0.02 }",
        "adagrad = { lr = 0.1, initial_accumulator_value = 0.5 }",
        "lookahead = { k = 3, base.adan = { lr = 0.02 } }",
    ];
    for text in texts {
        let rule = rule(text);
        let whole = on_gpu(|device| {
            let params = params(device);
            let mut updater = Updater::new(&rule, &params, &groups()).unwrap();
            train(&mut updater, &rule, &params, 0, Recipe { steps: 4, ..PLAIN });
            save(&updater, &file, |_, _| {});
            let half = values(&params);
            train(&mut updater, &rule, &params, 4, Recipe { steps: 4, ..PLAIN });
            (half, values(&params))
        });
        let go_on = |device: &Device| {
            let params = params(device);
            for weight in params.iter() {
                let value = Tensor::new(whole.0[weight.name()].as_slice(), device).unwrap();
                weight.var().set(&value.reshape(weight.var().dims()).unwrap()).unwrap();
            }
            let mut updater = Updater::new(&rule, &params, &groups()).unwrap();
            updater.restore(4, &Stored::read(&file).unwrap()).unwrap();
            train(&mut updater, &rule, &params, 4, Recipe { steps: 4, ..PLAIN });
            values(&params)
        };
        assert!(on_gpu(go_on) == whole.1, "{text}");
        close(&go_on(&Device::Cpu), &whole.1, 1e-5, text);
    }
}

#[test]
fn averages() {
    let spec = serde_json::from_value(json!({
        "data": { "synthetic": { "train": 8, "val": 8, "size": 32 } }, "epochs": 1, "ema": { "decay": 0.9, "warmup": true },
    }))
    .unwrap();
    let run = |device: &Device| {
        let builder = Builder::new(device, Key::new(5));
        SHAPES.iter().for_each(|(name, shape)| drop(builder.param(name, shape.to_vec(), Init::ZEROS).unwrap()));
        let counter = builder.counter("num_batches_tracked").unwrap();
        let params = builder.params();
        let mut average = Average::new(&spec, &params).unwrap().unwrap();
        for step in 1..=20 {
            for (place, weight) in params.iter().enumerate().filter(|(_, weight)| !weight.is_buffer()) {
                let value = uniform(Key::new(step).with(place as u64), weight.var().as_tensor());
                weight.var().set(&value).unwrap();
            }
            counter.var().set(&Tensor::new(step as i64, device).unwrap()).unwrap();
            average.after_step(&params, step).unwrap();
        }
        let trained = average.swap_in(&params).unwrap();
        assert_eq!(counter.var().to_scalar::<i64>().unwrap(), 20);
        let floats = params.iter().filter(|weight| !weight.is_buffer());
        let averaged: BTreeMap<String, Vec<f32>> = floats.map(named).collect();
        trained.restore(&params).unwrap();
        averaged
    };
    close(&on_gpu(run), &run(&Device::Cpu), 1e-6, "the average");
}
