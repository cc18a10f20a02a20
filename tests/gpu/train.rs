//! Whole training runs: on a GPU the losses are those of the CPU.

use crate::device::on_gpu;
use runner::{
    data::{self, Dataset, Decode, Interpolation},
    error::Result,
    event::{Event, Split},
    spec::RunSpec,
    tensor::{Device, gpu::Queue, safetensors::Stored},
    train::{self, Job},
};
use serde_json::{Value, json};
use std::sync::{OnceLock, atomic::AtomicBool};

const SIZE: usize = 32;

fn data() -> &'static Dataset {
    static DATA: OnceLock<Dataset> = OnceLock::new();
    DATA.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = serde_json::from_value(json!({ "synthetic": { "train": 12, "val": 4, "size": SIZE } })).unwrap();
        let decode = Decode { size: SIZE, interpolation: Interpolation::Bilinear };
        data::open(&source, decode, folder.path(), &|_| {}).unwrap()
    })
}

pub fn spec(backbone: &str, precision: &str, change: Value) -> RunSpec {
    let mut spec = json!({
        "data": { "synthetic": { "train": 12, "val": 4, "size": SIZE } },
        "input": { "size": SIZE, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] },
        "backbone": { "name": backbone },
        "precision": precision,
        "optimizer": { "adam": { "lr": 1e-4 } },
        "epochs": 1,
        "batch_size": 4,
        "log_every": 1,
        "select": { "metric": "accuracy", "mode": "max" },
        "augment": [
            { "random_horizontal_flip": {} },
            { "color_jitter": { "brightness": 0.5, "hue": 0.3 } },
            { "mixup": { "alpha": 0.2 } },
        ],
    });
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

/// The training loss of each step, and the validation loss.
pub type Losses = (Vec<f64>, f64);

/// What a run came to.
#[derive(Default)]
pub struct Run {
    /// The training loss of each step.
    pub losses: Vec<f64>,
    /// The validation loss.
    pub val: f64,
    pub warnings: Vec<String>,
    /// All that its last checkpoint holds, where it keeps that.
    pub stored: Vec<Vec<f32>>,
}

/// Trains, with so many images at a time where memory holds no whole batch.
pub fn losses(spec: &RunSpec, device: &Device, micro_batch: Option<usize>) -> Result<Losses> {
    attempt(spec, device, micro_batch, || {}).map(|run| (run.losses, run.val))
}

pub fn run(spec: &RunSpec, device: &Device, after_step: impl FnMut() + Send) -> Run {
    attempt(spec, device, None, after_step).unwrap()
}

/// A driver is lent to one thread: all work stays on it.
fn attempt(
    spec: &RunSpec,
    device: &Device,
    micro_batch: Option<usize>,
    after_step: impl FnMut() + Send,
) -> Result<Run> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    pool.install(|| train(spec, device, micro_batch, after_step))
}

fn train(spec: &RunSpec, device: &Device, micro_batch: Option<usize>, mut after_step: impl FnMut()) -> Result<Run> {
    let on_gpu = Queue::of_device(device).unwrap().is_some();
    let dir = tempfile::tempdir().unwrap();
    let job = Job {
        spec,
        seed: 3,
        data: data(),
        device: device.clone(),
        dir: dir.path(),
        until: None,
        threads: 1,
        attempt: 1,
        micro_batch,
    };
    let mut run = Run::default();
    let mut emit = |event: Event| {
        assert_eq!(Queue::of_device(device).unwrap().is_some(), on_gpu, "the work left its thread");
        match event {
            Event::Step { values, .. } => {
                run.losses.extend(values.get("loss"));
                after_step();
            }
            Event::Epoch { split: Split::Val, values, .. } => run.val = values["loss"],
            Event::Warning { message } => run.warnings.push(message),
            _ => {}
        }
        Ok(())
    };
    train::run(&job, &mut emit, &AtomicBool::new(false))?;
    if let Ok(stored) = Stored::read(&dir.path().join("checkpoints/last.safetensors")) {
        run.stored = stored.names().iter().map(|name| stored.values(name).unwrap()).collect();
    }
    Ok(run)
}

fn check(backbone: &str, precision: &str, tolerance: f64, change: Value) {
    let (on_cpu, on_device) = (spec(backbone, "f32", change.clone()), spec(backbone, precision, change));
    let [cpu, gpu] = std::thread::scope(|scope| {
        let cpu = scope.spawn(|| run(&on_cpu, &Device::Cpu, || {}));
        let gpu = scope.spawn(|| on_gpu(|device| run(&on_device, device, || {})));
        [cpu.join().unwrap(), gpu.join().unwrap()]
    });
    assert_eq!(gpu.warnings, cpu.warnings);
    assert_eq!(cpu.losses.len(), gpu.losses.len());
    let pairs = cpu.losses.iter().chain([&cpu.val]).zip(gpu.losses.iter().chain([&gpu.val]));
    for (step, (cpu, gpu)) in pairs.enumerate() {
        let off = (cpu - gpu).abs() / cpu.abs().max(0.1);
        assert!(off < tolerance, "{backbone} in {precision}, step {}: {gpu} and not {cpu}", step + 1);
    }
}

#[test]
fn resnet18() {
    check("resnet18", "f32", 1e-3, json!({ "clip_grad_norm": 1.0, "ema": { "decay": 0.9 } }));
    check("resnet18", "bf16", 5e-2, json!({}));
    check("resnet18", "f16", 2e-2, json!({}));
}

#[test]
fn efficientnet_b0() {
    // Short steps: at a pixel a map its gradients are huge, and a longer one grows any difference.
    let short = json!({ "optimizer": { "sgd": { "lr": 1e-4 } }, "clip_grad_norm": 1.0 });
    check("efficientnet_b0", "f32", 2e-3, short);
}

#[test]
fn vit_tiny() {
    check("vit_tiny_patch16_224", "f32", 1e-3, json!({ "optimizer": { "sgd": { "lr": 1e-3, "momentum": 0.9 } } }));
    check("vit_tiny_patch16_224", "bf16", 5e-2, json!({}));
}

/// Images that start smaller, wander, and are changed by their neighbours and by noise.
#[test]
fn resnet18_that_grows() {
    let augment = json!([
        { "random_crop": { "padding": 3 } },
        { "one_of": [{ "jpeg_compression": {} }, { "gaussian_blur": {} }, { "gaussian_noise": {} }] },
        { "rand_augment": {} },
        { "resizemix": {} },
    ]);
    let progressive = json!({ "sizes": [24] });
    let change = json!({ "augment": augment, "progressive": progressive, "epochs": 2, "clip_grad_norm": 1.0 });
    check("resnet18", "f32", 1e-3, change);
}

#[test]
fn convnext_of_residuals() {
    check(
        "convnext_atto",
        "f32",
        1e-3,
        json!({ "input": { "size": SIZE, "channels": "srm", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] } }),
    );
}
