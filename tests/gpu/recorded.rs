//! Recorded training steps: the numbers of a run are those of one without, bit for bit.

use crate::{
    emulator::{Asked, Records, asked, emulator, recording},
    train::{Run, run, spec},
};
use runner::tensor::{Device, gpu::with_driver};
use serde_json::{Value, json};

/// A run on a thread of its own, and what each of its steps asked of the device.
fn trained(backbone: &str, precision: &str, change: &Value, records: Option<Records>) -> (Run, Vec<Asked>) {
    let spec = spec(backbone, precision, change.clone());
    let work = || {
        let mut each = Vec::new();
        let run = recording(records, || with_driver(emulator(), || run(&spec, &Device::Cpu, || each.push(asked()))));
        (run, each)
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Trains with and without recording, which must come to the same, and returns the latter.
fn same(backbone: &str, precision: &str, change: Value, records: Records) -> (Run, Vec<Asked>) {
    let (plain, eager) = trained(backbone, precision, &change, None);
    let (recorded, asked) = trained(backbone, precision, &change, Some(records));
    assert_eq!(plain.losses, recorded.losses, "{backbone} in {precision}: the losses");
    assert!(!plain.stored.is_empty() && plain.stored == recorded.stored, "{backbone} in {precision}: the weights");
    assert!(eager.iter().all(|asked| asked.replays == 0) && plain.warnings.is_empty());
    (recorded, asked)
}

/// 12 images in batches of 5: two whole ones and a smaller one an epoch, the third whole one is recorded.
fn recipe(more: Value) -> Value {
    let mut recipe = json!({
        "epochs": 3, "batch_size": 5, "scheduler": { "cosine": {} }, "ema": { "decay": 0.9 }, "augment": [], "keep": "last",
    });
    more.as_object().unwrap().iter().for_each(|(key, value)| recipe[key] = value.clone());
    recipe
}

#[test]
fn resnet18() {
    let (run, asked) = same("resnet18", "f32", recipe(json!({ "clip_grad_norm": 1.0 })), Records::Well);
    assert!(run.warnings.is_empty(), "{:?}", run.warnings);
    let replays: Vec<usize> = asked.iter().map(|asked| asked.replays).collect();
    // From the third whole batch on; the smaller ones are never recorded.
    assert_eq!(replays, [0, 0, 0, 1, 1, 0, 1, 1, 0]);
    let (eager, replayed) = (asked[0], asked.iter().find(|asked| asked.replays == 1).unwrap());
    assert!(eager.works > 250, "{eager:?}");
    let last = asked.iter().rfind(|asked| asked.replays == 1).unwrap();
    assert!(last.works < 12 && last.uploads < 8, "{last:?}, the first one {replayed:?}");
}

#[test]
fn resnet18_in_f16() {
    let (_, asked) = same("resnet18", "f16", recipe(json!({})), Records::Well);
    assert!(asked.iter().any(|asked| asked.replays == 1));
}

#[test]
fn vit_tiny_with_drops() {
    let backbone = json!({ "name": "vit_tiny_patch16_224", "drop_rate": 0.3, "drop_path": 0.3 });
    let loss = json!({ "cross_entropy": { "label_smoothing": 0.1 } });
    let recipe = recipe(json!({ "backbone": backbone, "loss": loss }));
    let (_, asked) = same("vit_tiny_patch16_224", "f32", recipe, Records::Well);
    assert!(asked.iter().any(|asked| asked.replays == 1));
}

/// The device makes a batch's images in front of the recording: in one launch, whatever becomes of them, and one to mix them.
#[test]
fn augmented_images_are_two_launches() {
    let augment = json!([
        { "random_horizontal_flip": {} },
        { "random_rotation": { "degrees": 20 } },
        { "color_jitter": { "brightness": 0.5, "hue": 0.3 } },
        { "mixup": { "alpha": 0.2 } },
    ]);
    let works = |asked: &[Asked]| asked.iter().rfind(|asked| asked.replays == 1).unwrap().works;
    let (_, plain) = trained("mobilenetv3_small_100", "f32", &recipe(json!({})), Some(Records::Well));
    let (_, augmented) = same("mobilenetv3_small_100", "f32", recipe(json!({ "augment": augment })), Records::Well);
    // One to mix them; but no answer to a mixed image is right, so that none are counted.
    assert_eq!(works(&augmented), works(&plain));
}

/// What cannot be recorded is done as ever.
#[test]
fn other_losses_are_not_recorded() {
    let recipe = recipe(json!({ "loss": { "focal": {} }, "epochs": 2 }));
    let (run, asked) = same("mobilenetv3_small_100", "f32", recipe, Records::Well);
    assert!(asked.iter().all(|asked| asked.replays == 0) && run.warnings.is_empty());
}

#[test]
fn a_recording_that_fails_is_told_once_and_done_without() {
    let (run, asked) = same("mobilenetv3_small_100", "f32", recipe(json!({ "epochs": 2 })), Records::Badly);
    assert!(asked.iter().all(|asked| asked.replays == 0));
    let [warning] = run.warnings.as_slice() else { panic!("{:?}", run.warnings) };
    assert!(warning.contains("slower for it: the step waits for the device"), "{warning}");
}
