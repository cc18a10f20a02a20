//! Training images that do not fit on a device: each batch brings its own, and nothing else changes.

use crate::{device::on_gpu, emulator::FULL};
use runner::{
    data::{Dataset, Item, Split},
    event::{self, Event, Values},
    tensor::{Device, Key},
    train::{self, Job},
};
use serde_json::json;
use std::sync::atomic::AtomicBool;

const SIDE: usize = 35;

fn split(count: usize) -> Split {
    let item = |place: usize| Item { name: place.to_string(), target: (place % 2) as u32, group: None };
    let mut rng = Key::new(count as u64).rng();
    let pixels = (0..count * SIDE * SIDE * 3).map(|_| rng.below(256) as u8).collect();
    Split::in_memory((0..count).map(item).collect(), SIDE, pixels)
}

/// What each step and each epoch came to.
fn numbers(device: &Device) -> Vec<Values> {
    let spec = json!({
        "data": { "synthetic": { "train": 10, "val": 6, "size": SIDE } },
        "input": { "size": 32, "load_size": SIDE, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] },
        "backbone": { "name": "mobilenetv3_small_100" },
        "precision": "f32",
        "epochs": 1,
        "batch_size": 4,
        "log_every": 1,
        "select": { "metric": "accuracy", "mode": "max" },
        "augment": [{ "random_crop": {} }, { "color_jitter": { "hue": 0.3 } }, { "mixup": { "alpha": 0.2 } }],
    });
    let (dir, spec) = (tempfile::tempdir().unwrap(), serde_json::from_value(spec).unwrap());
    let classes = ["real", "fake"].map(String::from).into();
    let (fingerprint, warnings, contents) = Default::default();
    let data = Dataset { classes, train: split(10), val: split(6), fingerprint, warnings, contents };
    let job = Job {
        spec: &spec,
        seed: 1,
        data: &data,
        device: device.clone(),
        dir: dir.path(),
        until: None,
        threads: 1,
        attempt: 1,
        micro_batch: None,
    };
    let mut numbers = Vec::new();
    let mut emit = |event: Event| {
        match event {
            Event::Step { values, .. } => numbers.push(values),
            Event::Epoch { split: event::Split::Val, values, .. } => numbers.push(values),
            _ => {}
        }
        Ok(())
    };
    train::run(&job, &mut emit, &AtomicBool::new(false)).unwrap();
    assert_eq!(data.train.on_device(device, 0).unwrap().is_none(), FULL.get());
    numbers
}

#[test]
fn images_that_do_not_fit_come_batch_by_batch() {
    let run = |full: bool| {
        // A driver is lent to one thread: all work stays on it.
        let alone = move || {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
            FULL.set(full);
            pool.install(|| on_gpu(numbers))
        };
        std::thread::spawn(alone).join().unwrap()
    };
    let there = run(false);
    assert_eq!(there.len(), 4);
    if !cfg!(feature = "cuda") {
        assert_eq!(there, run(true));
    }
}
