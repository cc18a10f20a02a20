//! Backbones against timm: names, shapes, fresh values, logits, gradients and running statistics.
//!
//! `golden/backbones.py` fills timm's models by a formula; the same formula fills ours.

use candle_core::{Device, Tensor};
use runner::{
    backbone::{Architecture, BACKBONES, Backbone, Options, build, find},
    error::Cause,
    tensor::{
        Builder, Key, Params, Pass, Weight, ops,
        safetensors::{hex, write},
        weights,
    },
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const CLASSES: usize = 5;
const BATCH: usize = 4;

#[derive(Deserialize)]
struct Golden {
    models: Vec<GoldenModel>,
}

#[derive(Deserialize)]
struct GoldenModel {
    name: String,
    parameters: usize,
    tensors: usize,
    names_sha256: String,
    classifier: String,
    /// Of each parameter: root of the mean square, largest magnitude.
    initial: Vec<[f64; 2]>,
    eval: Vec<GoldenEval>,
    train: GoldenTrain,
    pretrained: Vec<GoldenPretrained>,
}

#[derive(Deserialize)]
struct GoldenEval {
    size: usize,
    logits: Vec<f64>,
    /// Features before the pool: sum and sum of magnitudes; pooled features: sum.
    sums: [f64; 3],
}

#[derive(Deserialize)]
struct GoldenTrain {
    size: usize,
    loss: f64,
    logits: Vec<f64>,
    gradient_norms: Vec<f64>,
    gradient_dots: Vec<f64>,
    running_sums: Vec<f64>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct GoldenPretrained {
    tag: String,
    mean: [f32; 3],
    std: [f32; 3],
    size: usize,
    test_size: usize,
    crop: f32,
    interpolation: String,
    classes: usize,
    license: String,
}

fn golden(name: &str) -> GoldenModel {
    let golden: Golden = serde_json::from_str(include_str!("golden/backbones.json")).unwrap();
    golden.models.into_iter().find(|model| model.name == name).unwrap_or_else(|| panic!("no golden numbers of {name}"))
}

fn options(drop_rate: f64, drop_path: f64) -> Options {
    Options { drop_rate, drop_path, ..Options::new(CLASSES) }
}

fn of_size(image_size: usize) -> Options {
    Options { image_size, ..options(0.0, 0.0) }
}

/// Numbers in [-1, 1): murmur3's finalizer over an index and a hash (FNV-1a) of the name, as in `golden/backbones.py`.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f32> + use<> {
    let seed = name.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (0..count as u32).map(move |index| {
        let mut h = index.wrapping_mul(0x9e37_79b9).wrapping_add(seed);
        for (shift, factor) in [(16, 0x85eb_ca6b), (13, 0xc2b2_ae35)] {
            h = (h ^ (h >> shift)).wrapping_mul(factor);
        }
        (f64::from(h ^ (h >> 16)) / 2f64.powi(31) - 1.0) as f32
    })
}

/// A model filled by the formula; its fresh values are not made.
fn filled(name: &str, options: &Options) -> (Box<dyn Backbone>, Params) {
    let builder = Builder::blank(&Device::Cpu);
    let net = Architecture::parse(name).unwrap().build(&builder, options).unwrap();
    let params = builder.params();
    for weight in params.iter().filter(|weight| !weight.name().ends_with("num_batches_tracked")) {
        let values: Vec<f32> = uniform(weight.name(), weight.count()).map(fill(name, weight)).collect();
        weight.var().set(&Tensor::from_vec(values, weight.var().dims(), &Device::Cpu).unwrap()).unwrap();
    }
    (net, params)
}

/// What a parameter's uniform numbers become; the reasons are in `golden/backbones.py`.
fn fill(model: &str, weight: &Weight) -> impl Fn(f32) -> f32 + use<> {
    let (name, inside) = (weight.name(), weight.var().dims().iter().skip(1).product::<usize>());
    let hard = model.starts_with("mobilenetv3");
    // How many stages have ReLU.
    let relu_stages = if model.contains("large") { 3 } else { 2 };
    let relu = match name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()) {
        Some(stage) if hard => stage.parse::<usize>().unwrap() < relu_stages,
        _ => ["resnet", "vit_tiny_r_", "vit_small_r26_"].iter().any(|relu| model.contains(relu)),
    };
    let (center, scale) = match weight.var().dims().len() {
        2.. => (0.0, f64::from((6.0 / inside as f64).sqrt() as f32)),
        _ if name.ends_with("running_var") => {
            if hard {
                (0.32, 0.04)
            } else {
                (2.0, 0.25)
            }
        }
        _ if name.ends_with(".weight") => {
            if hard {
                (0.4, 0.1)
            } else {
                (1.0, 0.25)
            }
        }
        _ => (0.0, 0.25),
    };
    let hybrid = model.starts_with("vit") || model.contains('@');
    let own = !hybrid || name.contains(".backbone.");
    let shifted = relu && own && name.ends_with(".bias") && !name.contains(".se.");
    let shift = if !shifted {
        0.0
    } else if hard {
        2.0
    } else {
        5.0
    };
    let dark = ["bn1.bias", "norm1.bias", "stem.norm.bias", "backbone.norm.bias"];
    let two_sided = dark.iter().any(|end| name.ends_with(end));
    move |u| (center + scale * f64::from(u) + if u < 0.0 && two_sided { -shift } else { shift }) as f32
}

fn images(size: usize) -> Tensor {
    let values: Vec<f32> = uniform(&format!("images {size}"), BATCH * 3 * size * size).map(|u| 2.0 * u).collect();
    let channels_first = Tensor::from_vec(values, (BATCH, 3, size, size), &Device::Cpu).unwrap();
    channels_first.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f32> = tensor.detach().flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

fn sum(tensor: &Tensor) -> f64 {
    numbers(tensor).iter().sum()
}

/// Each number within `relative` of timm's, or of `floor` where that is smaller.
fn assert_close(what: &str, ours: &[f64], theirs: &[f64], relative: f64, floor: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (at, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= relative * b.abs().max(floor), "{what}, number {at}: {a}, timm has {b}");
    }
}

/// One test per backbone and aspect, so that a failure names both.
macro_rules! backbones {
    ($($name:ident),+) => {
        const TESTED: &[&str] = &[$(stringify!($name)),+];
        $(mod $name {
            #[test] fn names_and_shapes() { super::names_and_shapes(stringify!($name)); }
            #[test] fn fresh_values() { super::fresh_values(stringify!($name)); }
            #[test] fn evaluation() { super::evaluation(stringify!($name)); }
            #[test] fn training() { super::training(stringify!($name)); }
            #[test] fn pretrained() { super::pretrained(stringify!($name)); }
        })+
    };
}

backbones!(
    resnet18,
    resnet34,
    resnet50,
    resnet26d,
    resnet50d,
    seresnet50,
    ecaresnet50d,
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    mobilenetv3_small_100,
    mobilenetv3_large_100,
    convnext_atto,
    convnext_femto,
    convnext_pico,
    convnext_nano,
    convnext_tiny,
    vit_tiny_patch16_224,
    vit_small_patch16_224,
    vit_base_patch16_224,
    deit_tiny_patch16_224,
    deit_small_patch16_224,
    vit_tiny_r_s16_p8_224,
    vit_small_r26_s32_224
);

/// Against timm's own `HybridEmbed` around its CNNs.
mod hybrids {
    const NAMES: [&str; 2] = ["resnet18@3+vit_tiny_patch16_224", "efficientnet_b0@2+deit_tiny_patch16_224"];

    #[test]
    fn names_and_shapes() {
        NAMES.iter().for_each(|name| super::names_and_shapes(name));
    }

    #[test]
    fn evaluation() {
        NAMES.iter().for_each(|name| super::evaluation(name));
    }

    #[test]
    fn training() {
        NAMES.iter().for_each(|name| super::training(name));
    }
}

#[test]
fn every_backbone_is_tested() {
    assert_eq!(BACKBONES.iter().map(|entry| entry.name).collect::<Vec<_>>(), TESTED);
}

fn names_and_shapes(name: &str) {
    let builder = Builder::blank(&Device::Cpu);
    let architecture = Architecture::parse(name).unwrap();
    architecture.build(&builder, &options(0.0, 0.0)).unwrap();
    let (params, golden) = (builder.params(), golden(name));
    let line = |weight: &Weight| format!("{} {:?}\n", weight.name(), weight.var().dims());
    let names: String = params.iter().map(line).collect();
    assert_eq!(params.count(), golden.parameters);
    assert_eq!(params.iter().count(), golden.tensors);
    assert_eq!(architecture.classifier(), golden.classifier);
    assert_eq!(hex(&Sha256::digest(&names)), golden.names_sha256, "names, shapes or their order differ:\n{names}");
}

/// Constants exactly; random values by their spread, and by their bound where timm draws uniformly.
fn fresh_values(name: &str) {
    let model = build(name, &options(0.0, 0.0), &Device::Cpu, Key::new(0)).unwrap();
    let golden = golden(name);
    let trainable: Vec<_> = model.params.trainable().collect();
    assert_eq!(trainable.len(), golden.initial.len());
    for (weight, [spread, largest]) in trainable.into_iter().zip(golden.initial) {
        let (what, values) = (weight.name(), numbers(weight.var()));
        let ours = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
        let our_largest = values.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        if spread == largest {
            assert!(values.iter().all(|&value| value as f32 == spread as f32), "{what} should be {spread} throughout");
            continue;
        }
        // torch's `trunc_normal_` now and then draws an infinity and cuts it at 2, a hundred of timm's deviations.
        let spread = if largest == 2.0 { 0.02 } else { spread };
        let chance = 5.0 / (values.len() as f64).sqrt();
        assert!((ours / spread - 1.0).abs() < chance, "{what}: spread {ours}, timm's {spread}");
        let uniform = |spread: f64, largest: f64| largest / spread < 1.95;
        if values.len() >= 100 {
            assert_eq!(uniform(ours, our_largest), uniform(spread, largest), "{what}: uniform or normal");
        }
    }
}

fn evaluation(name: &str) {
    for expected in golden(name).eval {
        let (net, _) = filled(name, &of_size(expected.size));
        let (what, input) = (format!("{name} at {} pixels", expected.size), images(expected.size));
        let features = net.features(&input, &Pass::eval()).unwrap();
        assert_close(&format!("{what}, pooled features"), &[sum(&features)], &expected.sums[2..], 1e-4, 1.0);
        let logits = net.forward(&input, &Pass::eval()).unwrap();
        assert_eq!(logits.dims(), [BATCH, CLASSES]);
        assert_close(&format!("{what}, logits"), &numbers(&logits), &expected.logits, 1e-4, 1.0);
    }
}

fn training(name: &str) {
    let expected = golden(name).train;
    let (net, params) = filled(name, &of_size(expected.size));
    let logits = net.forward(&images(expected.size), &Pass::train(Key::new(0))).unwrap();
    assert_close("logits", &numbers(&logits), &expected.logits, 1e-4, 1.0);
    let targets = Tensor::eye(CLASSES, candle_core::DType::F32, &Device::Cpu).unwrap().narrow(0, 0, BATCH).unwrap();
    let losses = ops::soft_cross_entropy(&logits, &targets.contiguous().unwrap(), None).unwrap();
    let loss = losses.mean_all().unwrap();
    assert_close("loss", &[sum(&loss)], &[expected.loss], 1e-4, 1.0);
    let gradients = loss.backward().unwrap();
    let largest = expected.gradient_norms.iter().fold(0f64, |largest, norm| largest.max(*norm));
    let expectations = expected.gradient_norms.iter().zip(&expected.gradient_dots);
    for (weight, (norm, dot)) in params.trainable().zip(expectations) {
        let what = weight.name();
        let gradient = numbers(gradients.get(weight.var()).unwrap_or_else(|| panic!("{what} has no gradient")));
        let ours = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        // Where a norm layer follows, the true gradient of a shift is zero and only rounding is left.
        assert_close(&format!("gradient norm of {what}"), &[ours], &[*norm], 1e-3, 1e-2 * largest);
        let ours: f64 =
            gradient.iter().zip(uniform(&format!("dot {what}"), gradient.len())).map(|(g, u)| g * f64::from(u)).sum();
        let floor = norm.max(1e-2 * largest);
        assert_close(&format!("gradient of {what} along a direction"), &[ours], &[*dot], 1e-3, floor);
    }
    let running = params.iter().filter(|weight| weight.name().contains("running"));
    let sums: Vec<f64> = running.map(|weight| sum(weight.var())).collect();
    assert_close("running statistics", &sums, &expected.running_sums, 1e-4, 1.0);
    let counters = params.iter().filter(|weight| weight.name().ends_with("num_batches_tracked"));
    counters.for_each(|weight| assert_eq!(weight.var().to_scalar::<i64>().unwrap(), 1, "{}", weight.name()));
}

fn pretrained(name: &str) {
    let ours = find(name).unwrap().entry.pretrained.iter().map(|known| GoldenPretrained {
        tag: known.tag.into(),
        mean: known.mean,
        std: known.std,
        size: known.size,
        test_size: known.test_size,
        crop: known.crop,
        interpolation: known.interpolation.into(),
        classes: known.classes,
        license: known.license.into(),
    });
    assert_eq!(ours.collect::<Vec<_>>(), golden(name).pretrained);
}

#[test]
fn names_with_and_without_tag_are_found() {
    let found = find("efficientnet_b1").unwrap();
    assert_eq!((found.entry.name, found.pretrained.tag), ("efficientnet_b1", "ra4_e3600_r240_in1k"));
    assert_eq!(found.pretrained.mean, [0.5; 3]);
    let found = find("efficientnet_b1.ft_in1k").unwrap();
    assert_eq!((found.pretrained.tag, found.pretrained.std), ("ft_in1k", [0.229, 0.224, 0.225]));
}

#[test]
fn unknown_names_and_tags_name_the_nearest() {
    for (wrong, part) in [
        ("resnet81", "there is no backbone `resnet81`; did you mean `resnet18`?"),
        ("efficientnetb1", "did you mean `efficientnet_b1`?"),
        ("resnet18.a1_in1", "resnet18 has no weights `a1_in1`; did you mean `a1_in1k`?"),
        ("", "known: resnet18, resnet34"),
    ] {
        let error = find(wrong).err().unwrap();
        assert_eq!(error.cause, Cause::User);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn fresh_values_depend_on_the_key_alone() {
    let conv = |seed| {
        let model = build("resnet18", &options(0.0, 0.0), &Device::Cpu, Key::new(seed)).unwrap();
        numbers(model.params.get("layer4.1.conv2.weight").unwrap().var())
    };
    assert_eq!(conv(1), conv(1));
    assert_ne!(conv(1), conv(2));
}

#[test]
fn drops_follow_the_key_in_training_and_do_nothing_in_evaluation() {
    for name in ["resnet18", "efficientnet_b0", "mobilenetv3_small_100", "ecaresnet50d", "vit_tiny_patch16_224"] {
        let input = images(64);
        let eval = |net: &dyn Backbone| numbers(&net.forward(&input, &Pass::eval()).unwrap());
        let expected = eval(&*filled(name, &of_size(64)).0);
        for (drop_rate, drop_path) in [(0.5, 0.0), (0.0, 0.5)] {
            let (net, _) = filled(name, &Options { image_size: 64, ..options(drop_rate, drop_path) });
            assert_eq!(eval(&*net), expected, "{name} {drop_rate} {drop_path}");
            let train = |seed| numbers(&net.forward(&input, &Pass::train(Key::new(seed))).unwrap());
            assert_eq!(train(1), train(1), "{name} {drop_rate} {drop_path}");
            assert_ne!(train(1), train(2), "{name} {drop_rate} {drop_path}");
        }
    }
}

#[test]
#[ignore = "by hand, for golden/load_in_timm.py: writes the filled weights into the folder RUNNER_WRITE"]
fn write_weights_for_timm() {
    let folder = std::path::PathBuf::from(std::env::var("RUNNER_WRITE").expect("RUNNER_WRITE names a folder"));
    for name in TESTED {
        let arrays = weights::arrays(&filled(name, &options(0.0, 0.0)).1).unwrap();
        write(&folder.join(format!("{name}.safetensors")), &arrays, &BTreeMap::new()).unwrap();
    }
}
