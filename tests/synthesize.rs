//! Synthesized training images: the networks against torch, where the images go and where not, made once for all.

#[cfg(target_os = "linux")]
#[allow(dead_code)]
mod sweeps;

use candle_core::{Device, Tensor, Var};
use runner::{
    data::{DataSpec, Dataset, Decode, Fold, Interpolation, Item, Progress, Split},
    synthesize::{
        self, On, Synthesizer, SynthesizerSpec, Training,
        gan::{
            Gan, Trainer,
            diff_augment::{Change, Policy, diff_augment},
        },
        self_blend::{SelfBlend, jitter},
    },
    tensor::{Image, Key, ops::Gradients, safetensors},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

#[derive(Deserialize)]
struct Golden {
    game: Game,
    diff_augment: Augmented,
    sharpen: Vec<u8>,
    downscale: Vec<f64>,
}

#[derive(Deserialize)]
struct Game {
    discriminator_loss: f64,
    generator_loss: f64,
    norms: [f64; 2],
    made: Vec<f64>,
    sigma: BTreeMap<String, f64>,
    project: Vec<f64>,
    first_layer: Vec<f64>,
}

#[derive(Deserialize)]
struct Augmented {
    x: Vec<f32>,
    y: Vec<f64>,
    weight: Vec<f32>,
    gradient: Vec<f64>,
}

/// `tests/golden/synthesize.py` wrote it.
fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/synthesize.json")).unwrap()
}

fn close(name: &str, tolerance: f64, ours: &[f32], expected: &[f64]) {
    assert!(ours.len() >= expected.len() && !expected.is_empty(), "{name}: {} numbers", ours.len());
    for (i, (&ours, &expected)) in ours.iter().zip(expected).enumerate() {
        let error = (f64::from(ours) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{name}, number {i}: {ours} instead of {expected}");
    }
}

/// The script's numbers.
fn wave(shape: &[usize], phase: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i as f64 * 1.7 + phase).sin() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn one_hot(targets: [usize; 4]) -> Tensor {
    let rows: Vec<f32> = targets.iter().flat_map(|&t| (0..3).map(move |c| if c == t { 1.0 } else { 0.0 })).collect();
    Tensor::from_vec(rows, (4, 3), &Device::Cpu).unwrap()
}

/// Gives every parameter the script's value; norm and Adam start as they are.
fn fill(trainer: &Trainer) {
    let plain = |name: &str| name.replace("parametrizations.weight.original", "weight");
    for player in ["generator.", "discriminator."] {
        let own = trainer.params().trainable().filter(|weight| weight.name().starts_with(player));
        let mut own: Vec<_> = own.map(|weight| (plain(weight.name()), weight)).collect();
        own.sort_by(|a, b| a.0.cmp(&b.0));
        for (index, (name, weight)) in own.iter().enumerate() {
            let dims = weight.var().dims();
            let scale = if dims.len() > 1 { 0.1 } else { 0.05 };
            let one = if name.contains(".norm.weight") || name.ends_with("first.weight") { 1.0 } else { 0.0 };
            let value = wave(dims, index as f64 + 0.3).affine(scale, one).unwrap();
            weight.var().set(&value).unwrap();
        }
    }
    for weight in trainer.params().iter() {
        let phase = if weight.name().ends_with("._u") { 0.1 } else { 0.2 };
        if weight.name().ends_with("._u") || weight.name().ends_with("._v") {
            let vector = wave(weight.var().dims(), phase);
            let length = vector.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            weight.var().set(&(vector / f64::from(length)).unwrap()).unwrap();
        }
    }
}

/// A split of `count` noisy pictures of `size x size`, of three classes in turn.
fn noisy(count: usize, size: usize) -> Split {
    let items = (0..count).map(|i| Item { name: format!("{i}.png"), target: (i % 3) as u32, group: None }).collect();
    Split::in_memory(items, size, (0..count * size * size * 3).map(|i| (i * 31 % 251) as u8).collect())
}

/// Over all parameters that have a gradient.
fn norm(trainer: &Trainer, gradients: &Gradients) -> f64 {
    let own = trainer.params().trainable().filter_map(|weight| gradients.get(weight.var()));
    own.flat_map(values).map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn a_step_of_both_players_is_torchs() {
    let rates = Gan { generator_lr: 2e-4, discriminator_lr: 2e-4, ..Gan::default() };
    let gan = Gan { size: 16, width: 4, noise: 5, batch_size: 4, ..rates };
    let mut trainer = Trainer::new(&gan, &noisy(6, 16), 3, &Device::Cpu).unwrap();
    fill(&trainer);
    let (real, noise) = (wave(&[4, 16, 16, 3], 0.7), wave(&[4, 5], 0.9));
    let (real_classes, made_classes) = (one_hot([0, 1, 2, 0]), one_hot([2, 1, 0, 1]));
    let played = trainer.play(&real, &real_classes, &noise, &made_classes, [None, None, None]).unwrap();
    let golden = golden().game;
    let near = |name: &str, ours: f64, expected: f64| {
        assert!((ours - expected).abs() <= 1e-3 * expected.abs(), "{name}: {ours} instead of {expected}");
    };
    close("made images", 1e-5, &values(&played.made), &golden.made);
    near("discriminator's loss", values(&played.losses[0])[0].into(), golden.discriminator_loss);
    near("generator's loss", values(&played.losses[1])[0].into(), golden.generator_loss);
    near("discriminator's gradient", norm(&trainer, &played.gradients[0]), golden.norms[0]);
    near("generator's gradient", norm(&trainer, &played.gradients[1]), golden.norms[1]);
    let of = |name: &str| trainer.params().get(name).unwrap_or_else(|| panic!("{name}")).var().as_tensor().clone();
    close("generator's weights", 1e-5, &values(&of("generator.project.weight")), &golden.project);
    let first = of("discriminator.layers.0.parametrizations.weight.original");
    close("discriminator's weights", 1e-5, &values(&first), &golden.first_layer);
    assert_eq!(golden.sigma.len(), 5);
    for (name, expected) in &golden.sigma {
        let at = |end: &str| of(&format!("discriminator.{name}.parametrizations.weight.{end}"));
        let (u, v) = (at("0._u").unsqueeze(0).unwrap(), at("0._v").unsqueeze(1).unwrap());
        let sigma = u.matmul(&at("original").flatten_from(1).unwrap()).unwrap().matmul(&v).unwrap();
        near(&format!("sigma of {name}"), values(&sigma)[0].into(), *expected);
    }
}

#[test]
fn augmentations_that_gradients_flow_through_are_the_originals() {
    let golden = golden().diff_augment;
    let x = Var::from_vec(golden.x, (2, 8, 8, 3), &Device::Cpu).unwrap();
    let change = |brightness, saturation, contrast, shift| Change { brightness, saturation, contrast, shift };
    let changes = vec![change(0.2, 1.6, 0.7, [1, -1]), change(-0.3, 0.4, 1.2, [-1, 0])];
    let y = diff_augment(x.as_tensor(), changes).unwrap();
    close("images", 1e-5, &values(&y), &golden.y);
    let weight = Tensor::from_vec(golden.weight, (2, 8, 8, 3), &Device::Cpu).unwrap();
    let gradients = (y * weight).unwrap().sum_all().unwrap().backward().unwrap();
    close("gradient", 1e-5, &values(gradients.get(x.as_tensor()).unwrap()), &golden.gradient);
}

/// Means, ends and spans of what is drawn, at 32 pixels.
#[test]
fn changes_are_drawn_as_the_original_draws_them() {
    let change = |policy: Policy, i: u64| policy.draw(32, &mut Key::new(5).with(i).rng());
    let draw = |i: u64| change(Policy::ColorTranslation, i).unwrap();
    let all: Vec<Change> = (0..20_000).map(draw).collect();
    let mean = |of: &dyn Fn(&Change) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    let variance = |of: &dyn Fn(&Change) -> f64| mean(&|c| of(c).powi(2)) - mean(of).powi(2);
    for (of, expected, spread) in [
        (&(|c: &Change| c.brightness.into()) as &dyn Fn(&Change) -> f64, 0.0, 1.0 / 12.0),
        (&|c: &Change| c.saturation.into(), 1.0, 4.0 / 12.0),
        (&|c: &Change| c.contrast.into(), 1.0, 1.0 / 12.0),
    ] {
        assert!((mean(of) - expected).abs() < 0.02 && (variance(of) / spread - 1.0).abs() < 0.05);
    }
    let shifts: BTreeSet<i32> = all.iter().flat_map(|c| c.shift).collect();
    assert_eq!(shifts, (-4..=4).collect());
    let moved = Change { brightness: 0.0, saturation: 1.0, contrast: 1.0, shift: all[0].shift };
    assert_eq!((change(Policy::Translation, 0), change(Policy::None, 0)), (Some(moved), None));
}

fn pattern() -> Image {
    let mut image = Image::new(11, 9);
    for (y, x) in (0..9).flat_map(|y| (0..11).map(move |x| (y, x))) {
        image.set_pixel(x, y, [0, 57, 114].map(|c| ((x * 23 + y * 31 + c + x * y * 7) % 256) as u8));
    }
    image
}

#[test]
fn the_blends_filters_are_the_originals() {
    let golden = golden();
    let sharp = jitter::sharpened(&pattern(), 0.3, 0.7).pixels;
    for (ours, expected) in sharp.iter().zip(&golden.sharpen) {
        assert!(ours.abs_diff(*expected) <= 1, "{ours} instead of {expected}");
    }
    let coarse = jitter::downscaled(&pattern(), 2).pixels;
    for (ours, expected) in coarse.iter().zip(&golden.downscale) {
        assert!((f64::from(*ours) - expected).abs() <= 0.51, "{ours} instead of {expected}");
    }
    let mut image = pattern();
    jitter::colours(&mut image, [10.0, 0.0, -200.0], 1.1, -0.1);
    let before = pattern().pixel(3, 4).map(f64::from);
    let levels = [before[0] + 10.0, before[1], (before[2] - 200.0).max(0.0)].map(|v| (1.1 * v - 25.5).round() as u8);
    assert_eq!(image.pixel(3, 4), levels);
}

#[test]
fn a_blend_changes_the_face_and_leaves_the_corners() {
    let mut face = Image::new(64, 64);
    face.pixels.iter_mut().enumerate().for_each(|(i, value)| *value = (i * 7 % 200) as u8 + (i / 1536) as u8);
    let (mut corners, mut middles) = (0, 0);
    for i in 0..200 {
        let blended = SelfBlend::default().blended(&face, Key::new(1).with(i));
        assert_eq!(blended, SelfBlend::default().blended(&face, Key::new(1).with(i)));
        // Half of the time it is the picture below that changes, everywhere; else only what the mask shows.
        corners += usize::from(
            [(0, 0), (63, 0), (0, 63), (63, 63)].iter().all(|&(x, y)| blended.pixel(x, y) == face.pixel(x, y)),
        );
        middles += usize::from(blended.pixel(32, 33) != face.pixel(32, 33));
    }
    assert!((70..=130).contains(&corners), "{corners} of 200 keep their corners");
    assert!(middles > 150, "{middles} of 200 change in the middle");
}

fn spec(text: &str) -> SynthesizerSpec {
    serde_json::from_str(text).unwrap()
}

const TINY: &str = r#"{"gan": {"images": 10, "size": 8, "steps": 4, "batch_size": 4, "width": 4, "noise": 3}}"#;
const DECODE: Decode = Decode { size: 16, interpolation: Interpolation::Bilinear };

fn data(cache: &Path) -> Dataset {
    let source: DataSpec = serde_json::from_str(r#"{"synthetic": {"train": 12, "val": 8, "size": 32}}"#).unwrap();
    runner::data::open(&source, DECODE, cache, &|_| ()).unwrap()
}

/// The data set with what is synthesized, and how many steps that took.
fn with(cache: &Path, synthesizer: &str) -> (Dataset, usize) {
    let (mut data, steps) = (data(cache), AtomicUsize::new(0));
    let count = |news| {
        if let Progress::Synthesizing { .. } = news {
            steps.fetch_add(1, Relaxed);
        }
    };
    synthesize::add(&mut data, &spec(synthesizer), DECODE, cache, &On::Cpu, &count).unwrap();
    (data, steps.into_inner())
}

fn pixels(split: &Split) -> Vec<Vec<u8>> {
    (0..split.items.len()).map(|index| split.image(index).to_vec()).collect()
}

#[test]
fn made_images_go_into_training_alone() {
    let cache = tempfile::tempdir().unwrap();
    let plain = data(cache.path());
    let blend = r#"{"self_blend": {"images": 10}}"#;
    for (synthesizer, name) in [(TINY, "gan/000009"), (blend, "self_blend/000009")] {
        let (with, _) = with(cache.path(), synthesizer);
        assert_eq!((with.val.items.len(), pixels(&with.val)), (8, pixels(&plain.val)), "validation is untouched");
        assert_eq!(with.val.items, plain.val.items);
        assert_eq!((with.train.real(), with.train.items.len(), with.train.items[21].name.as_str()), (12, 22, name));
        assert_eq!(pixels(&with.train)[..12], pixels(&plain.train));
        let made: BTreeSet<Vec<u8>> = pixels(&with.train)[12..].iter().cloned().collect();
        assert_eq!(made.len(), 10, "every made image is another one");
        assert!(made.iter().all(|image| image.len() == 16 * 16 * 3));
        let targets: Vec<u32> = with.train.items[12..].iter().map(|item| item.target).collect();
        let expected = if name.starts_with("gan") { [0, 1].repeat(5) } else { vec![1; 10] };
        assert_eq!(targets, expected);
        let order = with.train.order(0, true, Key::new(1));
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 22, "an epoch shows every image once");
        assert!(synthesize::sample_sheet(&with).unwrap().is_some_and(|png| png.starts_with(b"\x89PNG")));
    }
    assert!(synthesize::sample_sheet(&plain).unwrap().is_none());
}

#[test]
fn a_fold_makes_its_images_from_its_own_training_images() {
    let cache = tempfile::tempdir().unwrap();
    let whole = data(cache.path());
    let blend = spec(r#"{"self_blend": {"images": 6}}"#);
    let mut made = Vec::new();
    for index in 0..2 {
        let fold = Fold { index, of: 2, ..Fold::default() };
        let mut data = whole.cut(Some(&fold), None).unwrap();
        let (train, val) = (pixels(&data.train), pixels(&data.val));
        synthesize::add(&mut data, &blend, DECODE, cache.path(), &On::Cpu, &|_| ()).unwrap();
        assert_eq!((data.train.real(), data.train.items.len(), data.train.per_epoch()), (6, 12, 12));
        assert_eq!((&pixels(&data.train)[..6], pixels(&data.val)), (&train[..], val));
        made.push(pixels(&data.train).split_off(6));
    }
    assert!(made[0].iter().all(|image| !made[1].contains(image)), "folds share no made image");
}

#[test]
fn an_epoch_has_the_share_of_made_images() {
    let cache = tempfile::tempdir().unwrap();
    let (data, _) = with(cache.path(), r#"{"self_blend": {"images": 10, "share": 0.25}}"#);
    assert_eq!(data.train.per_epoch(), 16);
    let mut seen = BTreeSet::new();
    for epoch in 0..5 {
        let order = data.train.order(epoch, true, Key::new(1));
        let real: BTreeSet<usize> = order.iter().copied().filter(|&index| index < 12).collect();
        assert_eq!((real.len(), order.len()), (12, 16));
        seen.extend(order.into_iter().filter(|&index| index >= 12));
    }
    assert_eq!(seen, (12..22).collect(), "every made image has its turn");
}

#[test]
fn a_label_names_the_class_of_all_made_images() {
    let cache = tempfile::tempdir().unwrap();
    let (plain, steps) = with(cache.path(), TINY);
    let labelled = TINY.replace("\"images\"", "\"label\": \"fake\", \"images\"");
    let (data, again) = with(cache.path(), &labelled);
    assert!(data.train.items[12..].iter().all(|item| item.target == 1));
    assert_eq!(pixels(&data.train), pixels(&plain.train));
    assert_eq!((steps, again), (4, 0), "another label needs no other training");
}

#[test]
fn bytes_do_not_depend_on_threads_and_nothing_is_made_twice() {
    let made = |threads: usize| {
        let cache = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (first, steps) = pool.install(|| with(cache.path(), TINY));
        let (second, again) = pool.install(|| with(cache.path(), TINY));
        assert_eq!((steps, again), (4, 0), "trained once");
        assert_eq!(pixels(&first.train), pixels(&second.train));
        pixels(&first.train)
    };
    let one = made(1);
    assert!(one == made(3), "the images depend on the number of threads");
}

/// Training that stops at any step goes on from its checkpoint to the same bytes.
#[test]
fn a_training_that_was_cut_off_goes_on() {
    let text = TINY.replace("\"steps\": 4", "\"steps\": 60");
    let SynthesizerSpec::gan(gan) = spec(&text) else { panic!("a gan") };
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (expected, _) = with(whole.path(), &text);
    let data = data(cut.path());
    let checkpoint = find(whole.path(), "safetensors");
    let folder = cut.path().join("synthesized");
    std::fs::create_dir_all(&folder).unwrap();
    // Killed between steps 50 and 60: the checkpoint is of step 50.
    let steps = AtomicUsize::new(0);
    let quit = |_: Progress| assert!(steps.fetch_add(1, Relaxed) < 55, "killed");
    let training = Training::new(&data, DECODE.interpolation, &folder, &On::Cpu, &quit).unwrap();
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gan.make(&training, &mut |_, _| Ok(()))));
    assert!(killed.is_err());
    let name = checkpoint.file_name().unwrap();
    let stored = safetensors::Stored::read(&folder.join(name)).unwrap();
    assert_eq!(stored.metadata()["runner.step"], "50");
    let (resumed, steps) = with(cut.path(), &text);
    assert_eq!(steps, 10, "only what was missing");
    assert!(pixels(&resumed.train) == pixels(&expected.train), "a resumed training makes other images");
    // A damaged checkpoint and damaged images are made again.
    std::fs::write(folder.join(name), b"nothing").unwrap();
    std::fs::write(find(cut.path(), "images"), b"nothing").unwrap();
    let (again, steps) = with(cut.path(), &text);
    assert_eq!(steps, 60);
    assert!(pixels(&again.train) == pixels(&expected.train));
}

/// The only file with this ending.
fn find(cache: &Path, ending: &str) -> PathBuf {
    let entries = std::fs::read_dir(cache.join("synthesized")).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[cfg(target_os = "linux")]
#[test]
fn a_sweep_makes_them_once_for_all_runs_and_shows_them() {
    use sweeps::{Bench, TWO_EXPERIMENTS, text};
    let gan = "images = 10, size = 8, steps = 3, batch_size = 4, width = 4, noise = 3";
    let file = TWO_EXPERIMENTS.replace("[defaults]", &format!("[defaults]\nsynthesize.gan = {{ {gan}, share = 0.2 }}"));
    let bench = Bench::new(&format!("{file}\n[[experiment]]\nname = \"without\"\nsynthesize = false\n"));
    let output = bench.run("out", &["--jobs", "2", "--set", "epochs=1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(find(&bench.out("out/cache"), "images").exists());
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE status = 'finished'"), 6);
    assert_eq!(bench.count("out", "SELECT count(*) FROM predictions WHERE image LIKE 'gan/%'"), 0);
    // 24 real images make 3 steps of 8; 20 % made ones on top make 4.
    let steps = |experiment: &str| {
        let of = "(SELECT run_id FROM sweep_runs WHERE experiment =";
        bench.count("out", &format!("SELECT max(step) FROM metrics WHERE run_id IN {of} '{experiment}')"))
    };
    assert_eq!((steps("baseline"), steps("without")), (4, 3));
    let page = std::fs::read_to_string(bench.out("out/tiny/report.html")).unwrap();
    assert!(page.contains("Synthesized training images") && page.contains("data:image/png;base64,iVBOR"));
    let figures = bench.out("out/tiny/figures");
    assert!(figures.join("synthesized-baseline.png").exists() && !figures.join("synthesized-without.png").exists());
    bench.assert_clean("out");
}
