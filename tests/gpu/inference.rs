//! Evaluation and prediction: on a GPU the scores are those of the CPU.

use crate::device::on_gpu;
use candle_core::{DType, Device, Tensor};
use runner::{
    backbone::{self, Model, Options},
    cli,
    data::{Channels, Item, Split},
    loss::LossSpec,
    tensor::{Key, gpu::Queue, safetensors, weights},
    train::{self, Evaluation, Images, Normalize},
};
use std::{collections::BTreeMap, fs, path::Path};

const BACKBONE: &str = "mobilenetv3_small_100";
const SIZE: usize = 32;
const LOADED: usize = 35;
const COUNT: usize = 7;

/// A driver is lent to one thread: all work stays on it.
fn alone_on_gpu<T: Send>(work: impl FnOnce(&Device) -> T + Send) -> T {
    let alone = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
        pool.install(|| on_gpu(work))
    };
    std::thread::scope(|scope| scope.spawn(alone).join().unwrap())
}

/// The same weights on every device.
fn model(device: &Device) -> Model {
    backbone::build(BACKBONE, &Options { image_size: SIZE, ..Options::new(3) }, device, Key::new(4)).unwrap()
}

fn split() -> Split {
    let item = |place: usize| Item { name: place.to_string(), target: (place % 3) as u32, group: None };
    let mut rng = Key::new(5).rng();
    let pixels = (0..COUNT * LOADED * LOADED * 3).map(|_| rng.below(256) as u8).collect();
    Split::in_memory((0..COUNT).map(item).collect(), LOADED, pixels)
}

fn images(device: &Device, dtype: DType, channels: Channels) -> Images {
    let normalize = Normalize { channels, mean: [0.5, 0.4, 0.3], std: [0.25, 0.3, 0.2] };
    Images::of(SIZE, normalize, device, dtype)
}

fn evaluate(split: &Split, device: &Device, dtype: DType, there: Option<&Tensor>) -> Evaluation {
    let images = images(device, dtype, Channels::Rgb);
    train::evaluate(&model(device), LossSpec::every()[0].as_dyn(), (split, there), &images, 3).unwrap()
}

fn scores(evaluation: &Evaluation) -> Vec<f32> {
    evaluation.rows.iter().flat_map(|row| row.scores.clone()).collect()
}

fn far(ours: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(ours.len(), expected.len());
    ours.iter().zip(expected).fold(0.0, |most, (ours, expected)| most.max((ours - expected).abs()))
}

#[test]
fn evaluation() {
    let split = split();
    let cpu = evaluate(&split, &Device::Cpu, DType::F32, None);
    assert!(cpu.rows.len() == COUNT && scores(&cpu).iter().any(|score| (0.1..0.9).contains(score)), "{:?}", cpu.rows);
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::BF16, 5e-2), (DType::F16, 5e-3)] {
        let [streamed, resident] = alone_on_gpu(|device| {
            let there = split.on_device(device, usize::MAX).unwrap();
            [None, there.as_ref()].map(|there| evaluate(&split, device, dtype, there))
        });
        assert_eq!(scores(&streamed), scores(&resident), "{dtype:?}");
        assert_eq!(streamed.values, resident.values, "{dtype:?}");
        let off = far(&scores(&resident), &scores(&cpu));
        assert!(off < tolerance, "{dtype:?}: scores are {off} off");
        let [ours, expected] = [&resident, &cpu].map(|evaluation| evaluation.values["loss"]);
        assert!(
            (ours - expected).abs() < f64::from(tolerance) * expected,
            "{dtype:?}: a loss of {ours}, not {expected}"
        );
    }
}

#[test]
fn batches_are_those_of_the_cpu() {
    let split = split();
    for channels in [Channels::Rgb, Channels::Ycbcr, Channels::Srm] {
        let batch = |device: &Device, there: Option<&Tensor>| {
            let images = images(device, DType::F32, channels);
            let batch = images.load(&images.of_split(&split, 2..6, there).unwrap()).unwrap();
            batch.to_device(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let expected = batch(&Device::Cpu, None);
        let found = alone_on_gpu(|device| {
            let there = split.on_device(device, usize::MAX).unwrap();
            [None, there.as_ref()].map(|there| batch(device, there))
        });
        assert!(found.iter().all(|found| *found == expected), "{channels:?}");
    }
}

#[test]
fn images_stay_on_the_device() {
    let split = split();
    assert!(split.on_device(&Device::Cpu, usize::MAX).unwrap().is_none());
    on_gpu(|device| {
        let bytes = COUNT * LOADED * LOADED * 3;
        assert!(split.on_device(device, bytes - 1).unwrap().is_none(), "they do not fit");
        let place = |most| {
            let images = split.on_device(device, most).unwrap().unwrap();
            assert_eq!(images.dims(), [COUNT, LOADED, LOADED, 3]);
            Queue::of(&images).unwrap().unwrap().view(&images).unwrap().address
        };
        // Whatever room is left now, they have theirs.
        assert_eq!(place(bytes), place(0));
    });
}

/// Probabilities of class 1 by image.
fn predict(folder: &Path, more: &[&str]) -> Vec<(String, f32)> {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let [weights, set, out] = ["weights.safetensors", "set/valset", "out.csv"].map(at);
    let line = ["runner", "predict", "--backbone", BACKBONE, "--weights", &weights, "--input-size", "32"];
    let line = [&line[..], &["--images", &set, "--out", &out, "--tta", "2"], more].concat();
    assert_eq!(cli::line(&line).unwrap(), 0);
    let text = fs::read_to_string(&out).unwrap();
    let row = |line: &str| line.split_once(',').map(|(name, p)| (name.into(), p.parse().unwrap())).unwrap();
    text.lines().skip(1).map(row).collect()
}

#[test]
fn predictions() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    let synth = ["runner", "data", "synth", set.to_str().unwrap(), "--train", "2", "--val", "6", "--size", "40"];
    cli::line(&synth).unwrap();
    let options = Options { image_size: SIZE, ..Options::new(2) };
    let model = backbone::build(BACKBONE, &options, &Device::Cpu, Key::new(4)).unwrap();
    let arrays = weights::arrays(&model.params).unwrap();
    safetensors::write(&folder.path().join("weights.safetensors"), &arrays, &BTreeMap::new()).unwrap();
    let cpu = predict(folder.path(), &["--device", "cpu"]);
    assert!(cpu.len() == 6 && cpu.iter().any(|row| row.1 != cpu[0].1), "{cpu:?}");
    for (precision, tolerance) in [("f32", 1e-4), ("auto", 5e-2), ("f16", 5e-3)] {
        let device = if cfg!(feature = "cuda") { "auto" } else { "cpu" };
        let more = ["--precision", precision, "--device", device];
        let gpu = alone_on_gpu(|_| predict(folder.path(), &more));
        for (ours, expected) in gpu.iter().zip(&cpu) {
            assert_eq!(ours.0, expected.0);
            assert!((ours.1 - expected.1).abs() < tolerance, "{precision}: {ours:?} and not {expected:?}");
        }
    }
    let refused = cli::line(&["runner", "predict", "--backbone", BACKBONE, "--weights", "none", "--images", "none"]);
    assert!(refused.is_err());
}
