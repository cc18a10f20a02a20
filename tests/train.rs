//! One run: it learns, it resumes to the same bits, and each setting does what it says.

use runner::{
    data::{self, Dataset, Decode, Interpolation},
    error::{Cause, Result},
    event::{Event, Split, Values},
    spec::RunSpec,
    tensor::Device,
    train::{self, Job},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

const SIZE: usize = 32;

/// A small data set, decoded once for all tests.
fn data() -> &'static Dataset {
    static DATA: OnceLock<Dataset> = OnceLock::new();
    DATA.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = serde_json::from_value(json!({ "synthetic": { "train": 48, "val": 24, "size": SIZE } })).unwrap();
        let decode = Decode { size: SIZE, interpolation: Interpolation::Bilinear };
        data::open(&source, decode, folder.path(), &|_| {}).unwrap()
    })
}

fn spec(change: Value) -> RunSpec {
    let mut spec = json!({
        "data": { "synthetic": { "train": 48, "val": 24, "size": SIZE } },
        "input": { "size": SIZE, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] },
        "backbone": { "name": "resnet18" },
        "optimizer": { "adam": { "lr": 0.001 } },
        "epochs": 2,
        "batch_size": 16,
        "log_every": 1,
        "select": { "metric": "accuracy", "mode": "max" },
        "augment": [{ "random_horizontal_flip": {} }],
    });
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

/// Runs with a pool of `threads`, stopping after `stop_after` steps where given.
fn run(spec: &RunSpec, dir: &Path, threads: usize, stop_after: Option<u64>) -> (Vec<Event>, Result<()>) {
    run_until(spec, dir, None, threads, stop_after)
}

/// The same, pausing after the epoch `until` where given.
fn run_until(
    spec: &RunSpec,
    dir: &Path,
    until: Option<u32>,
    threads: usize,
    stop_after: Option<u64>,
) -> (Vec<Event>, Result<()>) {
    let device = Device::Cpu;
    let job = Job { spec, seed: 3, data: data(), device, dir, until, threads, attempt: 1, micro_batch: None };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
        let (mut events, stop) = (Vec::new(), AtomicBool::new(false));
        let mut emit = |event: Event| {
            if let (Event::Step { step, .. }, Some(last)) = (&event, stop_after) {
                stop.store(*step >= last, Ordering::Relaxed);
            }
            events.push(event);
            Ok(())
        };
        let result = train::run(&job, &mut emit, &stop);
        (events, result)
    })
}

fn finished(spec: &RunSpec, threads: usize) -> Vec<Event> {
    let dir = tempfile::tempdir().unwrap();
    let (events, result) = run(spec, dir.path(), threads, None);
    result.unwrap();
    events
}

/// A whole run on other images than the usual ones.
fn finished_on(data: &Dataset, spec: &RunSpec) -> Vec<Event> {
    let dir = tempfile::tempdir().unwrap();
    let (device, dir) = (Device::Cpu, dir.path());
    let job = Job { spec, seed: 3, data, device, dir, until: None, threads: 1, attempt: 1, micro_batch: None };
    let mut events = Vec::new();
    let mut emit = |event| {
        events.push(event);
        Ok(())
    };
    train::run(&job, &mut emit, &AtomicBool::new(false)).unwrap();
    events
}

/// Everything that must not depend on time: all values and predictions.
fn numbers(events: &[Event]) -> Vec<String> {
    let keep = |event: &&Event| matches!(event, Event::Step { .. } | Event::Epoch { .. } | Event::Predictions { .. });
    let mut lines: Vec<String> =
        events.iter().filter(keep).map(|event| serde_json::to_string(event).unwrap()).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// Stopped after any of these steps and taken up again by `threads`, a run comes to the numbers of the whole one.
fn assert_resumes(spec: &RunSpec, whole: &[Event], stops: &[u64], threads: usize) {
    for &stop_after in stops {
        let dir = tempfile::tempdir().unwrap();
        let (mut events, result) = run(spec, dir.path(), 1, Some(stop_after));
        assert_eq!(result.unwrap_err().cause, Cause::Interrupted);
        let (rest, result) = run(spec, dir.path(), threads, None);
        result.unwrap();
        events.extend(rest);
        assert_eq!(numbers(&events), numbers(whole), "stopped after step {stop_after}");
    }
}

#[test]
fn a_run_that_paused_between_epochs_comes_to_the_numbers_of_the_whole_one() {
    let spec = spec(json!({ "epochs": 4, "scheduler": { "cosine": {} } }));
    let whole = finished(&spec, 1);
    let dir = tempfile::tempdir().unwrap();
    let mut events = Vec::new();
    for (until, last) in [(Some(1), Some(1)), (Some(3), Some(3)), (Some(3), Some(3)), (Some(9), None)] {
        let (part, result) = run_until(&spec, dir.path(), until, 1, None);
        result.unwrap();
        let paused = part.iter().find_map(|event| match event {
            Event::Paused { epoch } => Some(*epoch),
            _ => None,
        });
        assert_eq!(paused, last);
        events.extend(part);
    }
    assert_eq!(numbers(&events), numbers(&whole));
}

#[test]
fn images_are_cropped_from_their_loaded_size() {
    let run = |augment: Value| {
        let input = json!({ "size": 24, "load_size": SIZE, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] });
        let events = finished(&spec(json!({ "input": input, "epochs": 1, "augment": augment })), 1);
        assert!(epochs(&events, Split::Val)[0]["loss"].is_finite());
        numbers(&events)
    };
    let (middle, anywhere) = (run(json!([])), run(json!([{ "random_crop": {} }])));
    assert_eq!(middle, run(json!([{ "center_crop": {} }])));
    assert_ne!(middle, anywhere);
    assert_ne!(anywhere, run(json!([{ "random_resized_crop": {} }])));
}

/// Everything that touches the shape of a batch at once.
#[test]
fn added_channels_are_cropped_mixed_and_grow() {
    let input = |channels: &str| {
        let half = [0.5; 3];
        json!({ "size": 24, "load_size": SIZE, "channels": channels, "mean": half, "std": half })
    };
    let run = |channels: &str| {
        let spec = spec(json!({
            "input": input(channels), "epochs": 2, "sampler": { "balanced": {} }, "progressive": { "sizes": [16] },
            "augment": [
                { "random_crop": {} }, { "mixup": {} }, { "cutmix": {} }, { "resizemix": {} }, { "mixup_cutmix": {} },
            ],
        }));
        let events = finished(&spec, 1);
        assert!(epochs(&events, Split::Train).iter().all(|values| values["loss"].is_finite()), "{channels}");
        numbers(&events)
    };
    assert_ne!(run("rgb"), run("srm"));
    assert_ne!(run("ycbcr"), run("dct"));
}

fn epochs(events: &[Event], wanted: Split) -> Vec<&Values> {
    let values = |event| match event {
        &Event::Epoch { split, ref values, .. } if split == wanted => Some(values),
        _ => None,
    };
    events.iter().filter_map(values).collect()
}

fn learning_rates(events: &[Event]) -> Vec<f64> {
    let lr = |event: &Event| match event {
        Event::Step { values, .. } => Some(values["lr"]),
        _ => None,
    };
    events.iter().filter_map(lr).collect()
}

#[test]
fn a_run_learns_and_tells_what_happens() {
    let events = finished(&spec(json!({ "epochs": 6, "augment": [] })), 2);
    let train = epochs(&events, Split::Train);
    assert_eq!(train.len(), 6);
    assert!(train[5]["loss"] < 0.6 * train[0]["loss"], "{:?}", train);
    assert!(train[5]["accuracy"] > 0.7, "{:?}", train);
    assert_eq!(epochs(&events, Split::Val).len(), 6);
    assert!(matches!(events.first(), Some(Event::Started { steps_per_epoch: 3, epochs: 6, epoch: 0, .. })));
    let Some(Event::Finished { best_epoch, summary }) = events.last() else { panic!("{:?}", events.last()) };
    let best = epochs(&events, Split::Val)[*best_epoch as usize - 1];
    assert_eq!(summary["accuracy"], best["accuracy"]);
    let rows = events.iter().find_map(|event| match event {
        Event::Predictions { rows, .. } => Some(rows),
        _ => None,
    });
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 24);
    let right = rows.iter().filter(|row| (row.scores[1] > row.scores[0]) == (row.target == 1)).count();
    assert!((right as f64 / 24.0 - best["accuracy"]).abs() < 1e-9, "predictions are not the best epoch's");
}

#[test]
fn a_stopped_run_resumes_to_the_same_bits() {
    let spec = spec(json!({
        "epochs": 3, "accumulate": 2, "ema": {}, "keep": "all",
        "optimizer": { "sgd": { "lr": 0.01, "momentum": 0.9 } },
        "scheduler": { "cosine": {} },
    }));
    let whole = finished(&spec, 1);
    for stop_after in [1, 3, 4] {
        let dir = tempfile::tempdir().unwrap();
        let (mut events, result) = run(&spec, dir.path(), 1, Some(stop_after));
        assert_eq!(result.unwrap_err().cause, Cause::Interrupted);
        let (rest, result) = run(&spec, dir.path(), 1, None);
        result.unwrap();
        assert!(matches!(rest.first(), Some(Event::Started { .. })));
        events.extend(rest);
        assert_eq!(numbers(&events), numbers(&whole), "stopped after step {stop_after}");
    }
}

#[test]
fn a_sampled_and_growing_run_resumes_to_the_same_bits() {
    let spec = spec(json!({
        "epochs": 3, "sampler": { "balanced": {} }, "progressive": { "sizes": [16, 24] },
        "augment": [{ "random_horizontal_flip": {} }, { "mixup": {} }],
    }));
    let whole = finished(&spec, 1);
    assert_resumes(&spec, &whole, &[2, 4], 2);
}

/// The first epoch of a run that grows from 16 pixels trains on what Pillow would make of the images at 16.
#[test]
fn small_images_are_the_resized_ones() {
    let losses = |change: Value, data: &Dataset| {
        let events = finished_on(data, &spec(change));
        epochs(&events, Split::Train).iter().map(|values| values["loss"]).collect::<Vec<_>>()
    };
    let resized = |split: &data::Split| {
        let pixels = (0..split.items.len()).flat_map(|index| {
            let image = runner::tensor::Image { width: SIZE, height: SIZE, pixels: split.image(index).to_vec() };
            data::resize::resize(&image, 16, 16, Interpolation::Bilinear).unwrap().pixels
        });
        data::Split::in_memory(split.items.clone(), 16, pixels.collect())
    };
    let small = Dataset {
        classes: data().classes.clone(),
        train: resized(&data().train),
        val: resized(&data().val),
        fingerprint: String::new(),
        warnings: Vec::new(),
        contents: Default::default(),
    };
    let growing = losses(json!({ "epochs": 2, "progressive": { "from": 16 } }), data());
    let input = json!({ "size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] });
    let same = losses(json!({ "epochs": 2, "input": input }), &small);
    assert_eq!(growing[0], same[0]);
    assert_ne!(growing[1], same[1], "the second epoch has full size");
}

#[test]
fn a_sampler_decides_how_long_an_epoch_is() {
    let weighted = json!({ "weighted": { "weights": [1.0, 1.0], "num_samples": 20 } });
    let events = finished(&spec(json!({ "epochs": 1, "sampler": weighted })), 1);
    assert!(matches!(events.first(), Some(Event::Started { steps_per_epoch: 2, .. })), "{:?}", events.first());
    assert_eq!(learning_rates(&events).len(), 2);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let spec = spec(json!({ "augment": [{ "color_jitter": { "brightness": 0.5, "hue": 0.3 } }, { "mixup": {} }] }));
    assert_eq!(numbers(&finished(&spec, 1)), numbers(&finished(&spec, 3)));
}

#[test]
fn seeds_differ_and_repeat() {
    let spec = spec(json!({ "epochs": 1 }));
    let losses = |seed| {
        let dir = tempfile::tempdir().unwrap();
        let job = Job {
            spec: &spec,
            seed,
            data: data(),
            device: Device::Cpu,
            dir: dir.path(),
            until: None,
            threads: 1,
            attempt: 1,
            micro_batch: None,
        };
        let mut events = Vec::new();
        let mut emit = |event| {
            events.push(event);
            Ok(())
        };
        train::run(&job, &mut emit, &AtomicBool::new(false)).unwrap();
        epochs(&events, Split::Train)[0]["loss"]
    };
    assert_eq!(losses(1), losses(1));
    assert_ne!(losses(1), losses(2));
}

#[test]
fn a_broken_checkpoint_is_told_and_the_run_goes_on_from_the_one_before() {
    let spec = spec(json!({ "epochs": 3 }));
    let whole = finished(&spec, 1);
    let cut = |dir: &Path, name: &str| {
        let path = dir.join("checkpoints").join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let both = &["goes on from the one before", "starts over"][..];
    for (broken, linked, started, told) in [
        (&["last.safetensors"][..], false, 2, &both[..1]),
        (&["last.safetensors", "previous.safetensors"], false, 0, both),
        // Killed before the next one was written.
        (&["last.safetensors"], true, 0, both),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut all, _) = run(&spec, dir.path(), 1, Some(7));
        if linked {
            let [last, previous] =
                ["last", "previous"].map(|name| dir.path().join(format!("checkpoints/{name}.safetensors")));
            std::fs::remove_file(&previous).unwrap();
            std::fs::hard_link(last, previous).unwrap();
        }
        broken.iter().for_each(|name| cut(dir.path(), name));
        let (events, result) = run(&spec, dir.path(), 1, None);
        result.unwrap();
        let warnings: Vec<&String> = events
            .iter()
            .filter_map(|event| if let Event::Warning { message } = event { Some(message) } else { None })
            .collect();
        assert_eq!(warnings.len(), told.len(), "{warnings:?}");
        assert!(warnings.iter().zip(told).all(|(warning, part)| warning.contains(part)), "{warnings:?}");
        let from = |event: &Event| if let Event::Started { epoch, .. } = event { Some(*epoch) } else { None };
        assert_eq!(events.iter().find_map(from), Some(started));
        all.extend(events);
        assert_eq!(numbers(&all), numbers(&whole));
        assert!(!dir.path().join("checkpoints/previous.safetensors").exists());
    }
}

#[test]
fn balanced_weights_follow_from_the_training_images() {
    let folder = tempfile::tempdir().unwrap();
    let source = json!({ "synthetic": { "train": 32, "val": 8, "size": SIZE, "fakes": 0.25 } });
    let decode = Decode { size: SIZE, interpolation: Interpolation::Bilinear };
    let data = data::open(&serde_json::from_value(source).unwrap(), decode, folder.path(), &|_| {}).unwrap();
    let fakes = data.train.items.iter().filter(|item| item.target == 1).count();
    let numbers_with = |weights: Value| {
        let loss = json!({ "cross_entropy": { "class_weights": weights } });
        numbers(&finished_on(&data, &spec(json!({ "epochs": 1, "loss": loss }))))
    };
    let [real, fake] = [32 - fakes, fakes].map(|count| 32.0 / (2 * count) as f64);
    assert_ne!(real, fake);
    assert_eq!(numbers_with(json!("balanced")), numbers_with(json!([real, fake])));
    assert_ne!(numbers_with(json!("balanced")), numbers_with(json!([1.0, 1.0])));
}

#[test]
fn a_loss_that_is_no_longer_finite_ends_the_run_and_names_the_step() {
    let spec = spec(json!({ "optimizer": { "sgd": { "lr": 1e30 } } }));
    let dir = tempfile::tempdir().unwrap();
    let error = run(&spec, dir.path(), 1, None).1.unwrap_err();
    assert_eq!(error.cause, Cause::NonFinite);
    assert!(error.to_string().contains("step "), "{error}");
}

#[test]
fn warmup_and_schedule_set_the_learning_rate() {
    let spec = spec(json!({
        "epochs": 3, "warmup": { "length": "3 steps", "start_factor": 0.1 },
        "scheduler": { "step": { "step_size": 1, "gamma": 0.5 } },
    }));
    let lrs = learning_rates(&finished(&spec, 1));
    let expected = [0.1, 0.4, 0.7, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5].map(|factor| factor * 0.001);
    assert!(lrs.len() == 9 && lrs.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{lrs:?}");
}

#[test]
fn frozen_parameters_stay() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(json!({ "epochs": 1, "freeze": ["layer*", "conv1.*"], "keep": "all" }));
    run(&spec, dir.path(), 1, None).1.unwrap();
    let read = |name: &str| {
        let path = dir.path().join("checkpoints/best.safetensors");
        runner::tensor::safetensors::Stored::read(&path).unwrap().values(name).unwrap()
    };
    let fresh = runner::backbone::build(
        "resnet18",
        &runner::backbone::Options::new(2),
        &Device::Cpu,
        runner::tensor::Key::new(3).named("init"),
    )
    .unwrap();
    let value = |name| fresh.params.get(name).unwrap().var().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(read("layer1.0.conv1.weight"), value("layer1.0.conv1.weight"));
    assert_ne!(read("fc.weight"), value("fc.weight"));
    let unknown = self::spec(json!({ "freeze": ["nothing.*"] }));
    let error = run(&unknown, dir.path(), 1, None).1.unwrap_err();
    assert_eq!(error.cause, Cause::User);
}

/// A tensor of a run's `last` or `best` checkpoint.
fn stored(dir: &Path, file: &str, name: &str) -> Vec<f32> {
    let path = dir.join(format!("checkpoints/{file}.safetensors"));
    runner::tensor::safetensors::Stored::read(&path).unwrap().values(name).unwrap()
}

/// The folder of a whole run on one thread, all checkpoints kept.
fn trained(change: Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut change = change;
    change["keep"] = "all".into();
    run(&spec(change), dir.path(), 1, None).1.unwrap();
    dir
}

#[test]
fn wrappers_and_averages_resume_to_the_same_bits() {
    let spec = spec(json!({
        "epochs": 3, "swa": { "start": 2, "lr": 0.02, "anneal_epochs": 1 }, "layer_decay": 0.7,
        "optimizer": { "lookahead": { "k": 2, "base": { "sam": { "base": { "nadam": { "lr": 0.001 } } } } } },
        "scheduler": { "cosine": {} },
    }));
    let whole = finished(&spec, 2);
    assert_resumes(&spec, &whole, &[2, 6, 7], 1);
}

#[test]
fn swa_is_the_plain_mean_of_epochs() {
    let ends: Vec<_> = (1..=3).map(|epochs| trained(json!({ "epochs": epochs, "optimizer": { "sgd": {} } }))).collect();
    let averaged = trained(json!({ "epochs": 3, "optimizer": { "sgd": {} }, "swa": { "start": 1, "every": 2 } }));
    for name in ["layer1.0.conv1.weight", "fc.bias"] {
        let [first, third] = [0, 2].map(|epoch: usize| stored(ends[epoch].path(), "last", name));
        let average = stored(averaged.path(), "last", &format!("ema:{name}"));
        assert_ne!(first, third);
        for ((a, b), mean) in first.iter().zip(&third).zip(&average) {
            assert!(((a + b) / 2.0 - mean).abs() < 1e-6, "{name}: {mean} of {a} and {b}");
        }
        // Averaging is beside training, not part of it.
        assert_eq!(stored(averaged.path(), "last", name), third);
    }
}

/// Every family, with dropping: what is computed again is the same, and so are the gradients.
#[test]
fn gradient_checkpointing_changes_no_bit() {
    let hybrid = json!({ "cnn": "resnet18", "stage": 2, "vit": "vit_tiny_patch16_224" });
    let mut backbones: Vec<Value> = ["resnet18", "efficientnet_b0", "mobilenetv3_small_100", "convnext_atto"]
        .into_iter()
        .chain(["vit_tiny_patch16_224", "vit_tiny_r_s16_p8_224"])
        .map(|name| json!({ "name": name, "drop_rate": 0.1, "drop_path": 0.2 }))
        .collect();
    let name = runner::backbone::Hybrid::name("resnet18", 2, "vit_tiny_patch16_224");
    backbones.push(json!({ "name": name, "hybrid": hybrid }));
    for mut backbone in backbones {
        let change = |backbone: &Value| json!({ "epochs": 1, "backbone": backbone });
        let plain = finished(&spec(change(&backbone)), 1);
        backbone["grad_checkpointing"] = true.into();
        assert_eq!(numbers(&finished(&spec(change(&backbone)), 1)), numbers(&plain), "{backbone}");
    }
}

/// What a greedy soup comes to, told from the epochs' own weights.
#[test]
fn a_soup_is_the_mean_of_its_best_epochs_and_no_worse_than_the_best() {
    let change = json!({ "epochs": 4, "select": { "metric": "loss", "mode": "min" }, "soup": { "epochs": 3 } });
    let spec = spec(change.clone());
    let whole = tempfile::tempdir().unwrap();
    let (events, result) = run(&spec, whole.path(), 1, None);
    result.unwrap();
    let Some(Event::Finished { best_epoch, summary }) = events.last() else { panic!("{:?}", events.last()) };
    let losses: Vec<f64> = epochs(&events, Split::Val).iter().map(|values| values["loss"]).collect();
    let averaged = summary["epochs_averaged"];
    assert!((1.0..=3.0).contains(&averaged) && averaged.fract() == 0.0, "{averaged}");
    let best = losses[*best_epoch as usize - 1];
    assert!(
        summary["loss"] <= best && (averaged > 1.0) == (summary["loss"] != best),
        "{} of {losses:?}",
        summary["loss"]
    );
    // Only the mean stays.
    let left: Vec<String> = std::fs::read_dir(whole.path().join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["best.safetensors"]);
    // A run that is cut off cooks the same.
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&spec, dir.path(), 1, Some(8)).1.unwrap_err().cause, Cause::Interrupted);
    run(&spec, dir.path(), 1, None).1.unwrap();
    let name = "layer1.0.conv1.weight";
    assert_eq!(stored(dir.path(), "best", name), stored(whole.path(), "best", name));
}

#[test]
fn statistics_of_averaged_weights_are_the_mean_over_batches() {
    // Weights that do not move: the average is the starting network, and each batch of an epoch counts alike.
    let still = json!({ "epochs": 1, "optimizer": { "sgd": { "lr": 0.0 } }, "augment": [], "shuffle": false });
    let mut change = still.clone();
    change["swa"] = json!({ "start": 1 });
    let (plain, averaged) = (trained(still), trained(change));
    let name = "bn1.running_mean";
    let running = stored(plain.path(), "last", name);
    let mean = stored(averaged.path(), "best", name);
    assert_eq!(stored(averaged.path(), "last", name), running);
    // Three batches at torch's momentum of 0.1 from 0 leave less than a third of the mean.
    for (running, mean) in running.iter().zip(&mean) {
        let share = running / mean;
        assert!((share - 0.271).abs() < 0.1 || mean.abs() < 1e-3, "{running} of {mean}");
    }
}

#[test]
fn groups_have_their_own_rates_and_decay() {
    let groups = json!([
        { "match": "layer*", "lr_scale": 0.5 }, { "match": "layer1.*", "lr_scale": 0.0 },
        { "match": "fc.weight", "weight_decay": 0.0 }
    ]);
    let change = |groups: &Value| json!({ "epochs": 1, "optimizer": { "adamw": { "lr": 0.001, "weight_decay": 100.0 } }, "groups": groups });
    let (plain, grouped) = (trained(change(&json!([]))), trained(change(&groups)));
    let size = |dir: &tempfile::TempDir, name| {
        stored(dir.path(), "last", name).iter().map(|value| value.powi(2)).sum::<f32>().sqrt()
    };
    let fresh = trained(json!({ "epochs": 1, "optimizer": { "sgd": { "lr": 0.0 } } }));
    assert_eq!(size(&grouped, "layer1.0.conv1.weight"), size(&fresh, "layer1.0.conv1.weight"));
    // Three steps each leave 1 - lr weight_decay: 0.9, and 0.95 at half the rate.
    let left = |dir, name| size(dir, name) / size(&fresh, name);
    let name = "layer3.0.conv2.weight";
    assert!((left(&plain, name) - 0.729).abs() < 0.05, "{}", left(&plain, name));
    assert!((left(&grouped, name) - 0.857).abs() < 0.05, "{}", left(&grouped, name));
    assert!(left(&grouped, "fc.weight") > left(&plain, "fc.weight") + 0.1);
    let unknown = self::spec(json!({ "groups": [{ "match": "nothing.*" }] }));
    let error = run(&unknown, tempfile::tempdir().unwrap().path(), 1, None).1.unwrap_err();
    assert_eq!(error.cause, Cause::User);
}

#[test]
fn the_contrastive_term_adds_to_the_loss() {
    let loss = |change: Value| {
        let first = finished(&spec(change), 1).into_iter().find_map(|event| match event {
            Event::Step { values, .. } => Some(values["loss"]),
            _ => None,
        });
        first.unwrap()
    };
    let plain = loss(json!({ "epochs": 1 }));
    let with = |weight: f64| loss(json!({ "epochs": 1, "supcon": { "weight": weight, "temperature": 0.5 } }));
    assert_eq!(with(0.0), plain);
    let (one, two) = (with(1.0) - plain, with(2.0) - plain);
    assert!(one > 0.5 && (two - 2.0 * one).abs() < 1e-3, "{one} {two}");
}

#[test]
fn a_student_learns_from_a_finished_run() {
    let results = tempfile::tempdir().unwrap();
    let place = |id: &str| results.path().join("sweep/runs").join(id);
    let teacher =
        spec(json!({ "epochs": 2, "input": { "size": SIZE, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4] } }));
    run(&teacher, &place("teacher"), 1, None).1.unwrap();
    std::fs::write(place("teacher").join("spec.toml"), toml::to_string(&teacher).unwrap()).unwrap();
    let student = |id: &str, weight: f64, other: &str| {
        let spec = spec(json!({ "epochs": 1, "distill": { "teacher": other, "weight": weight, "temperature": 2.0 } }));
        let (events, result) = run(&spec, &place(id), 1, None);
        result.map(|()| epochs(&events, Split::Train)[0]["loss"])
    };
    let plain = epochs(&finished(&spec(json!({ "epochs": 1 })), 1), Split::Train)[0]["loss"];
    assert!((student("a", 0.0, "teacher").unwrap() - plain).abs() < 1e-6);
    let distilled = student("b", 1.0, "teacher").unwrap();
    assert!(distilled > 0.0 && (distilled - plain).abs() > 1e-3, "{distilled} and {plain}");
    let error = student("c", 1.0, "nobody").unwrap_err();
    assert!(error.cause == Cause::User && error.to_string().contains("nobody"), "{error}");
    let seeing = |channels: &str| {
        let half = [0.5; 3];
        let input = json!({ "size": SIZE, "channels": channels, "mean": half, "std": half });
        let distill = json!({ "teacher": "teacher", "weight": 1.0, "temperature": 2.0 });
        run(&spec(json!({ "epochs": 1, "input": input, "distill": distill })), &place("d"), 1, None).1
    };
    let error = seeing("srm").unwrap_err();
    assert!(error.cause == Cause::User && error.to_string().contains("set input.channels alike"), "{error}");
}

#[test]
fn early_stopping_ends_a_run_that_no_longer_improves() {
    let spec = spec(
        json!({ "epochs": 12, "optimizer": { "adam": { "lr": 0.0 } }, "augment": [], "early_stop": { "patience": 2 } }),
    );
    let events = finished(&spec, 1);
    assert!(epochs(&events, Split::Val).len() < 12);
}

#[test]
fn micro_batches_cover_each_step() {
    let spec = spec(json!({ "epochs": 1, "batch_size": 16 }));
    let dir = tempfile::tempdir().unwrap();
    let job = Job {
        spec: &spec,
        seed: 0,
        data: data(),
        device: Device::Cpu,
        dir: dir.path(),
        until: None,
        threads: 1,
        attempt: 1,
        micro_batch: Some(5),
    };
    let mut events = Vec::new();
    let mut emit = |event| {
        events.push(event);
        Ok(())
    };
    train::run(&job, &mut emit, &AtomicBool::new(false)).unwrap();
    assert!(matches!(events.first(), Some(Event::Started { steps_per_epoch: 3, .. })));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Step { .. })).count(), 3);
}
