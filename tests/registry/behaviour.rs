//! What every component of a family must do, whatever it is.

use candle_core::{Device, Tensor, Var};
use runner::{
    augment::{self, AugmentSpec, Batch, Context, Scope},
    loss::{LossSpec, Targets},
    metric::{METRICS, Scores},
    optim::{OptimizerSpec, Slot, Step},
    schedule::{Clock, ScheduleSpec},
    tensor::{Image, Key},
};

fn picture() -> Image {
    let mut image = Image::new(24, 20);
    image.pixels.iter_mut().enumerate().for_each(|(i, value)| *value = (i * 37 + i / 11) as u8);
    image
}

/// `input.size`: smaller than the picture, so that crops have a choice.
const SIDE: usize = 16;

fn augmented(spec: &AugmentSpec, key: Key) -> Image {
    let mut image = picture();
    let context = Context { class: 0, classes: &[], size: SIDE, mean: [0.5; 3], std: [0.5; 3] };
    augment::sample(std::slice::from_ref(spec), &mut image, &context, key).unwrap();
    image
}

/// Images and targets of a made batch after the entry.
fn mixed(spec: &AugmentSpec, key: Key) -> (Vec<f32>, Vec<f32>) {
    let (samples, classes, side) = (5, 3, 12);
    let mut images: Vec<f32> = (0..samples * side * side * 3).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    let mut targets = vec![0.0; samples * classes];
    (0..samples).for_each(|i| targets[i * classes + i % classes] = 1.0);
    let mut batch = Batch { images: &mut images, targets: &mut targets, samples, height: side, width: side, classes };
    augment::batch(std::slice::from_ref(spec), &mut batch, key);
    (images, targets)
}

/// A null entry: what an unchanged batch looks like.
fn unchanged() -> (Vec<f32>, Vec<f32>) {
    let flip = AugmentSpec::every().into_iter().find(|spec| spec.as_dyn().scope() == Scope::Sample).unwrap();
    mixed(&flip, Key::new(0))
}

#[test]
fn an_image_has_the_size_it_should_and_depends_on_the_key_alone() {
    for spec in AugmentSpec::every() {
        let [w, h] = spec.as_dyn().output_size([24, 20], SIDE).unwrap();
        let outcomes: Vec<Image> = (0..64).map(|i| augmented(&spec, Key::new(9).with(i))).collect();
        for (i, image) in (0..).zip(&outcomes) {
            let Image { width, height, pixels } = image;
            assert_eq!((*width, *height, pixels.len()), (w, h, w * h * 3), "{}", spec.name());
            assert_eq!(*image, augmented(&spec, Key::new(9).with(i)), "{} is not deterministic", spec.name());
        }
        let changes = outcomes.iter().any(|image| *image != picture());
        let varies = outcomes.iter().any(|image| *image != outcomes[0]);
        let same_always = ["center_crop", "pad"].contains(&spec.name());
        assert!(varies || !changes || same_always, "{} does the same under every key", spec.name());
        assert!(!changes || spec.as_dyn().scope() == Scope::Sample, "{} changes single images", spec.name());
    }
}

#[test]
fn a_batch_depends_on_the_key_alone_and_targets_stay_probabilities() {
    for spec in AugmentSpec::every() {
        let outcomes: Vec<_> = (0..64).map(|i| mixed(&spec, Key::new(9).with(i))).collect();
        for (i, outcome) in (0..).zip(&outcomes) {
            assert_eq!(*outcome, mixed(&spec, Key::new(9).with(i)), "{} is not deterministic", spec.name());
            for row in outcome.1.chunks(3) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{}: {row:?}", spec.name());
                assert!(row.iter().all(|value| (0.0..=1.0).contains(value)), "{}: {row:?}", spec.name());
            }
        }
        let is_batch = spec.as_dyn().scope() == Scope::Batch;
        assert_eq!(outcomes.iter().any(|outcome| *outcome != unchanged()), is_batch, "{}", spec.name());
        assert_eq!(outcomes.iter().any(|outcome| *outcome != outcomes[0]), is_batch, "{}", spec.name());
    }
}

#[test]
fn every_augmentation_takes_a_usual_input_size() {
    for spec in AugmentSpec::every() {
        assert_eq!(spec.as_dyn().check(224), Ok(()), "{}", spec.name());
        assert!(spec.as_dyn().output_size([224; 2], 224).is_ok(), "{}", spec.name());
        assert_eq!(spec.as_dyn().check_classes(&["real".into(), "fake".into()]), Ok(()), "{}", spec.name());
    }
}

fn fresh_slots(spec: &OptimizerSpec, shape: &[usize]) -> Vec<Vec<f32>> {
    spec.as_dyn().slots(shape).iter().map(Slot::fresh).collect()
}

fn step<'a>(spec: &OptimizerSpec, count: u64, momentum: Option<f64>, shape: &'a [usize]) -> Step<'a> {
    let (lr, weight_decay) = (spec.as_dyn().lr(), spec.as_dyn().weight_decay());
    Step { count, lr, weight_decay, momentum, shape, gradient_norm: 1.0 }
}

#[test]
fn optimizers_go_down_a_bowl() {
    let places = [(vec![24], None), (vec![24], Some(0.9)), (vec![4, 6], None), (vec![4, 2, 3, 1], Some(0.9))];
    for (spec, (shape, momentum)) in
        OptimizerSpec::every().iter().flat_map(|spec| places.iter().map(move |place| (spec, place)))
    {
        let mut x: Vec<f32> = [3.0, -2.0, 0.5, 1e-3, 0.0, -0.7].repeat(4);
        x.iter_mut().enumerate().for_each(|(i, x)| *x *= 1.0 + i as f32 / 24.0);
        let mut slots = fresh_slots(spec, shape);
        let sizes: Vec<usize> = slots.iter().map(Vec::len).collect();
        let height = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
        let start = height(&x);
        for count in 1..=200 {
            let gradient: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
            spec.as_dyn().update(&step(spec, count, *momentum, shape), &mut x, &gradient, &mut slots);
            assert!(x.iter().chain(slots.iter().flatten()).all(|value| value.is_finite()), "{}: {x:?}", spec.name());
            assert!(slots.iter().map(Vec::len).eq(sizes.iter().copied()), "{} resizes a slot", spec.name());
        }
        assert!(height(&x) < 0.99 * start, "{}: from {start} to {}", spec.name(), height(&x));
        let kinds = spec.as_dyn().slots(shape);
        let unused = kinds.iter().zip(&slots).find(|(kind, slot)| slot.iter().all(|value| *value == kind.start));
        assert_eq!(unused, None, "{} never writes a slot it declares", spec.name());
    }
}

#[test]
fn no_gradient_and_no_decay_change_nothing() {
    for spec in OptimizerSpec::every() {
        for shape in [vec![100], vec![10, 10]] {
            let before: Vec<f32> = (0..100).map(|i| i as f32 / 7.0 - 5.0).collect();
            let (mut x, mut slots) = (before.clone(), fresh_slots(&spec, &shape));
            for count in 1..=7 {
                let step = Step { weight_decay: 0.0, ..step(&spec, count, None, &shape) };
                spec.as_dyn().update(&step, &mut x, &[0.0; 100], &mut slots);
            }
            assert_eq!(x, before, "{}", spec.name());
        }
    }
}

#[test]
fn optimizers_do_not_depend_on_the_number_of_threads() {
    for (spec, shape) in
        OptimizerSpec::every().iter().flat_map(|spec| [vec![200_003], vec![701, 130]].map(|shape| (spec, shape)))
    {
        let size = shape.iter().product();
        let gradient: Vec<f32> = (0..size).map(|i| ((i * 7919) % 10_007) as f32 / 5000.0 - 1.0).collect();
        let run = |threads| {
            let (mut x, mut slots) = (vec![0.5; size], fresh_slots(spec, &shape));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                for count in 1..=3 {
                    spec.as_dyn().update(&step(spec, count, None, &shape), &mut x, &gradient, &mut slots);
                }
            });
            (x, slots)
        };
        assert!(run(1) == run(4), "{}", spec.name());
    }
}

#[test]
fn schedules_are_pure_and_give_usable_rates() {
    let history = [1.0, 0.9, 0.95, 0.95, 0.95, f64::NAN, 0.8];
    for spec in ScheduleSpec::every() {
        // Trainings of no step, one step, and many; and a clock beyond the end.
        for (steps_per_epoch, epochs) in [(0, 0), (1, 1), (1, 30), (25, 12)] {
            let total_steps = steps_per_epoch * epochs;
            for step in 0..=total_steps + 3 {
                let clock = Clock { step, steps_per_epoch, total_steps, history: &history };
                let lr = spec.as_dyn().lr(0.1, &clock);
                let place = format!("{} at {clock:?}: {lr}", spec.name());
                assert!(lr.is_finite() && (0.0..=0.1 + 1e-12).contains(&lr), "{place}");
                assert_eq!(lr, spec.as_dyn().lr(0.1, &clock), "{place}");
                assert!((spec.as_dyn().lr(0.2, &clock) - 2.0 * lr).abs() < 1e-12, "not in proportion: {place}");
                let momentum = spec.as_dyn().momentum(&clock);
                assert!(momentum.is_none_or(|momentum| (0.0..1.0).contains(&momentum)), "{place}, {momentum:?}");
            }
        }
    }
}

fn loss(spec: &LossSpec, logits: &[[f32; 3]], classes: &[u32], hard: bool) -> (f32, Vec<Vec<f32>>) {
    let rows: Vec<Vec<f32>> = logits.iter().map(|row| row.to_vec()).collect();
    let logits = Var::from_tensor(&Tensor::new(rows, &Device::Cpu).unwrap()).unwrap();
    let row = |class: &u32| (0..3).map(|c| if c == *class { 1f32 } else { 0.0 }).collect::<Vec<_>>();
    let probabilities = Tensor::new(classes.iter().map(row).collect::<Vec<_>>(), &Device::Cpu).unwrap();
    let targets = Targets { probabilities: &probabilities, classes: hard.then_some(classes) };
    let value = spec.as_dyn().loss(&logits, &targets).unwrap();
    let gradients = value.backward().unwrap();
    (value.to_scalar().unwrap(), gradients.get(&logits).unwrap().to_vec2().unwrap())
}

#[test]
fn losses_stay_finite_at_extreme_logits() {
    for spec in LossSpec::every() {
        for size in [0.0, 30.0, 1e4] {
            let logits = [[size, -size, 0.0], [-size, size, size], [0.0, 0.0, -size]];
            let (value, gradient) = loss(&spec, &logits, &[0, 0, 2], true);
            assert!(value.is_finite() && value >= 0.0, "{} at {size}: {value}", spec.name());
            assert!(gradient.iter().flatten().all(|g| g.is_finite()), "{} at {size}: {gradient:?}", spec.name());
        }
    }
}

#[test]
fn losses_pull_the_right_class_up_and_the_others_down() {
    for spec in LossSpec::every() {
        let (_, gradient) = loss(&spec, &[[0.0, 0.5, -0.5], [1.0, 0.0, 0.2]], &[2, 1], true);
        for (row, class) in gradient.iter().zip([2, 1]) {
            let right = row.iter().enumerate().all(|(c, slope)| (*slope < 0.0) == (c == class));
            assert!(right, "{}: {row:?} for class {class}", spec.name());
        }
        let (good, _) = loss(&spec, &[[4.0, -4.0, -4.0]], &[0], true);
        let (bad, _) = loss(&spec, &[[4.0, -4.0, -4.0]], &[1], true);
        assert!(good < 0.1 * bad, "{}: {good} and {bad}", spec.name());
    }
}

#[test]
fn one_hot_probabilities_are_classes() {
    for spec in LossSpec::every() {
        let logits = [[0.3, -1.0, 2.0], [5.0, 0.0, 0.2], [0.0, 0.0, 0.0]];
        let (hard, soft) = (loss(&spec, &logits, &[0, 1, 2], true), loss(&spec, &logits, &[0, 1, 2], false));
        assert!((hard.0 - soft.0).abs() < 1e-6, "{}: {} and {}", spec.name(), hard.0, soft.0);
        let off = hard.1.iter().flatten().zip(soft.1.iter().flatten()).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-6, "{}", spec.name());
    }
}

/// Probabilities of a classifier that is right a little more often than not.
fn scores(samples: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
    let mut rng = Key::new(4).with(classes as u64).rng();
    let targets: Vec<u32> = (0..samples).map(|_| rng.below(classes) as u32).collect();
    let mut probabilities = Vec::new();
    for target in &targets {
        let raw: Vec<f64> =
            (0..classes).map(|c| rng.uniform() + if c == *target as usize { 0.3 } else { 0.0 }).collect();
        let sum: f64 = raw.iter().sum();
        probabilities.extend(raw.iter().map(|value| (value / sum) as f32));
    }
    (probabilities, targets)
}

#[test]
fn metrics_stay_in_their_range_and_ignore_the_order_of_samples() {
    for classes in [2, 3, 7] {
        let (probabilities, targets) = scores(500, classes);
        let backwards: Vec<f32> = probabilities.chunks(classes).rev().flatten().copied().collect();
        let reversed: Vec<u32> = targets.iter().rev().copied().collect();
        for metric in METRICS {
            assert!(!metric.about.is_empty());
            let value = (metric.value)(&Scores { probabilities: &probabilities, targets: &targets, classes }).unwrap();
            let again = (metric.value)(&Scores { probabilities: &backwards, targets: &reversed, classes }).unwrap();
            let lowest = if metric.name == "mcc" { -1.0 } else { 0.0 };
            assert!((lowest..=1.0).contains(&value), "{}: {value}", metric.name);
            assert!((value - again).abs() < 1e-12, "{}: {value} and {again}", metric.name);
        }
    }
}

#[test]
fn perfect_scores_are_best() {
    let (mut probabilities, targets) = scores(300, 3);
    for (row, target) in probabilities.chunks_mut(3).zip(&targets) {
        row.fill(0.0);
        row[*target as usize] = 1.0;
    }
    for metric in METRICS {
        let value = (metric.value)(&Scores { probabilities: &probabilities, targets: &targets, classes: 3 });
        assert_eq!(value, Some(if metric.larger_is_better { 1.0 } else { 0.0 }), "{}", metric.name);
    }
}

#[test]
fn metric_names_are_unique() {
    let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}
