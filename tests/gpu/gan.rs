//! A GAN on a GPU: a step of both networks, and the images that come of a training, are those of the CPU.

use crate::{check::close, device::on_gpu, emulator::emulator, limit};
use candle_core::{Device, Tensor};
use runner::{
    data::{self, Dataset, Decode, Interpolation, Item, Progress, Split},
    error::Cause,
    synthesize::{
        self, On, Synthesizer, SynthesizerSpec, Training,
        gan::{Gan, Trainer, diff_augment::Policy},
    },
    tensor::{Key, gpu::with_driver},
};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

const BATCH: usize = 5;

fn gan() -> Gan {
    Gan { size: 16, width: 6, noise: 5, batch_size: BATCH, diff_augment: Policy::ColorTranslation, ..Gan::default() }
}

fn pictures() -> Split {
    let items = (0..6).map(|i| Item { name: format!("{i}.png"), target: i % 3, group: None }).collect();
    Split::in_memory(items, 16, (0..6 * 16 * 16 * 3).map(|i| (i * 31 % 251) as u8).collect())
}

/// What one step comes to, by name.
fn step(device: &Device) -> BTreeMap<String, Tensor> {
    let gan = gan();
    let mut trainer = Trainer::new(&gan, &pictures(), 3, device).unwrap();
    let random = |seed: u64, dims: &[usize]| {
        let mut rng = Key::new(seed).rng();
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| rng.uniform() as f32 * 2.0 - 1.0).collect();
        Tensor::from_vec(values, dims, device).unwrap()
    };
    let classes = |first: usize| {
        let of = |at: usize| if at % 3 == (first + at / 3) % 3 { 1.0f32 } else { 0.0 };
        Tensor::from_vec((0..BATCH * 3).map(of).collect(), (BATCH, 3), device).unwrap()
    };
    let changes = [1, 2, 3].map(|seed| {
        let mut rng = Key::new(seed).rng();
        (0..BATCH).map(|_| gan.diff_augment.draw(gan.size, &mut rng)).collect()
    });
    let (real, noise) = (random(4, &[BATCH, 16, 16, 3]), random(5, &[BATCH, 5]));
    let played = trainer.play(&real, &classes(0), &noise, &classes(1), changes).unwrap();
    let mut all = BTreeMap::from([("made".to_string(), played.made)]);
    for (player, loss) in ["discriminator", "generator"].iter().zip(played.losses) {
        all.insert(format!("loss of the {player}"), loss);
    }
    for weight in trainer.params().iter().filter(|weight| weight.var().dtype().is_float()) {
        let gradient = played.gradients.iter().find_map(|gradients| gradients.get(weight.var()));
        all.extend(gradient.map(|gradient| (format!("gradient of {}", weight.name()), gradient.clone())));
        all.insert(weight.name().to_string(), weight.var().as_detached_tensor());
    }
    all
}

#[test]
fn a_step_of_both_players() {
    let (cpu, gpu) = (step(&Device::Cpu), on_gpu(step));
    assert_eq!(cpu.keys().collect::<Vec<_>>(), gpu.keys().collect::<Vec<_>>());
    let gradients = cpu.keys().filter(|name| name.starts_with("gradient of")).count();
    assert_eq!(gradients, 22, "every trained weight of both has a gradient");
    for (name, expected) in &cpu {
        close(&gpu[name], expected, 1e-3, name);
    }
}

const DECODE: Decode = Decode { size: 16, interpolation: Interpolation::Bilinear };

fn dataset(cache: &Path) -> Dataset {
    let source = serde_json::from_str(r#"{"synthetic": {"train": 12, "val": 4, "size": 16}}"#).unwrap();
    data::open(&source, DECODE, cache, &|_| ()).unwrap()
}

fn spec(steps: usize) -> SynthesizerSpec {
    let text =
        format!(r#"{{"gan": {{"images": 10, "size": 8, "steps": {steps}, "batch_size": 2, "width": 4, "noise": 3}}}}"#);
    serde_json::from_str(&text).unwrap()
}

/// The images that a device makes, and in how many steps.
fn made(cache: &Path, steps: usize, on: &On) -> (Vec<Vec<u8>>, usize) {
    let (mut data, made) = (dataset(cache), AtomicUsize::new(0));
    let count = |news| {
        if let Progress::Synthesizing { .. } = news {
            made.fetch_add(1, Relaxed);
        }
    };
    synthesize::add(&mut data, &spec(steps), DECODE, cache, on, &count).unwrap();
    ((12..22).map(|index| data.train.image(index).to_vec()).collect(), made.into_inner())
}

#[test]
fn images_are_the_cpus_within_a_level_and_kept_apart() {
    let cache = tempfile::tempdir().unwrap();
    let on_device = || on_gpu(|device| made(cache.path(), 6, &On::of(device).unwrap()));
    let ((cpu, steps), (gpu, gpu_steps)) = (made(cache.path(), 6, &On::Cpu), on_device());
    assert_eq!((steps, gpu_steps), (6, 6), "a GPU's images are another set");
    let pairs = cpu.iter().flatten().zip(gpu.iter().flatten());
    assert!(pairs.clone().all(|(cpu, gpu)| cpu.abs_diff(*gpu) <= 1), "{:?}", pairs.collect::<Vec<_>>());
    assert_eq!((made(cache.path(), 6, &On::Cpu), on_device()), ((cpu, 0), (gpu, 0)), "each is made once");
}

/// Also from the checkpoint, which a GPU reads back.
#[test]
fn a_training_that_was_cut_off_goes_on() {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (expected, resumed) = on_gpu(|device| {
        let on = On::of(device).unwrap();
        let (expected, _) = made(whole.path(), 52, &on);
        let (data, folder) = (dataset(cut.path()), cut.path().join("synthesized"));
        std::fs::create_dir_all(&folder).unwrap();
        let steps = AtomicUsize::new(0);
        let quit = |_: Progress| assert!(steps.fetch_add(1, Relaxed) < 51, "killed");
        let training = Training::new(&data, DECODE.interpolation, &folder, &on, &quit).unwrap();
        let SynthesizerSpec::gan(gan) = spec(52) else { panic!("a gan") };
        assert!(catch_unwind(AssertUnwindSafe(|| gan.make(&training, &mut |_, _| Ok(())))).is_err());
        (expected, made(cut.path(), 52, &on))
    });
    assert_eq!(resumed, (expected, 2), "only what was missing, to the same images");
}

#[test]
fn memory_that_runs_out_is_told() {
    let cache = tempfile::tempdir().unwrap();
    let mut data = dataset(cache.path());
    let (result, _) = limit::within(10_000, || {
        with_driver(emulator(), || {
            let on = On::of(&Device::Cpu).unwrap();
            synthesize::add(&mut data, &spec(6), DECODE, cache.path(), &on, &|_| ())
        })
    });
    let error = result.unwrap_err();
    assert_eq!(error.cause, Cause::OutOfMemory, "{error}");
    assert!(error.to_string().contains("a smaller `batch_size`"), "{error}");
}
