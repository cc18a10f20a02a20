//! The automatic policies against torchvision and timm (tests/golden/policies.py), and what they draw.

mod pictures;

use pictures::{digest, dim};
use runner::{
    augment::{
        AugmentSpec,
        aug_mix::{self, AugMix, Mixture},
        auto_augment::{AutoAugment, Policy},
        policy::{Canvas, Op, RAND_AUGMENT_OPS, Space, Step},
        policy_timm,
        rand_augment::RandAugment,
        trivial_augment_wide::TrivialAugmentWide,
        warp::Filter,
    },
    tensor::{Key, Rng},
};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    spaces: Vec<Magnitudes>,
    results: Vec<Outcome>,
    policies: BTreeMap<String, Vec<[Choice; 2]>>,
    levels: Vec<Level>,
    mixed: String,
}

/// Policy, operation, bin, sign, size, filter, digest.
type Outcome = (String, String, usize, f64, [usize; 2], String, String);

/// Operation, probability, bin.
type Choice = (String, f64, Option<usize>);

/// Operation, increasing, level, negative, argument, filter, digest.
type Level = (String, bool, f64, bool, f64, String, Option<String>);

#[derive(Deserialize)]
struct Magnitudes {
    policy: String,
    size: [usize; 2],
    ops: BTreeMap<String, Arguments>,
}

#[derive(Deserialize)]
struct Arguments {
    values: Vec<f64>,
    signed: bool,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/policies.json")).unwrap()
}

const ALL: [Op; 16] = [
    Op::Identity,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
    Op::Rotate,
    Op::Brightness,
    Op::Color,
    Op::Contrast,
    Op::Sharpness,
    Op::Posterize,
    Op::Solarize,
    Op::SolarizeAdd,
    Op::AutoContrast,
    Op::Equalize,
    Op::Invert,
];

fn op(name: &str) -> Op {
    ALL.into_iter().find(|op| format!("{op:?}") == name).unwrap_or_else(|| panic!("no operation {name}"))
}

fn space(policy: &str) -> Space {
    match policy {
        "rand_augment" => Space::standard(31),
        "rand_augment_7" => Space::standard(7),
        "auto_augment" => Space::standard(10),
        "trivial_augment_wide" => TrivialAugmentWide::default().space(),
        _ => aug_mix::SPACE,
    }
}

/// The operations of a policy, in any order.
fn ops(policy: &str) -> Vec<Op> {
    match policy {
        "auto_augment" => [&RAND_AUGMENT_OPS[1..], &[Op::Invert]].concat(),
        "aug_mix" => aug_mix::OPS.into(),
        _ => RAND_AUGMENT_OPS.into(),
    }
}

fn filter(name: &str) -> Filter {
    match name {
        "nearest" => Filter::Nearest,
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        other => panic!("no filter {other}"),
    }
}

/// The digest of a made picture after a step.
fn outcome(step: Step, size: [usize; 2], canvas: Canvas) -> String {
    let mut image = dim(size[0], size[1]);
    step.apply(&mut image, canvas);
    digest(&image)
}

#[test]
fn magnitudes_are_those_of_torchvision() {
    let spaces = golden().spaces;
    assert_eq!(spaces.len(), 10);
    for Magnitudes { policy, size, ops: golden } in spaces {
        let mut ours: Vec<Op> = ops(&policy);
        let mut theirs: Vec<Op> = golden.keys().map(|name| op(name)).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{policy}");
        let space = space(&policy);
        for (name, Arguments { values, signed }) in golden {
            assert!(values.len() == 1 || values.len() == space.bins, "{policy} {name}");
            for (bin, value) in values.into_iter().enumerate() {
                let [positive, negative] =
                    [false, true].map(|negative| space.step(op(&name), bin, negative, size).argument);
                assert_eq!(positive, value, "{policy} {name} at {bin} of {size:?}");
                let neutral =
                    if matches!(name.as_str(), "Brightness" | "Color" | "Contrast" | "Sharpness") { 1.0 } else { 0.0 };
                let wanted = if signed { 2.0 * neutral - value } else { value };
                assert!((negative - wanted).abs() < 1e-12, "{policy} {name} at -{bin} of {size:?}");
            }
        }
    }
}

#[test]
fn operations_are_those_of_torchvision_bit_for_bit() {
    let results = golden().results;
    assert!(results.len() > 800, "{}", results.len());
    let wrong: Vec<String> = results
        .iter()
        .filter_map(|(policy, name, bin, sign, size, mode, digest)| {
            let fill = if *sign > 0.0 { [0; 3] } else { [9, 80, 200] };
            let step = space(policy).step(op(name), *bin, *sign < 0.0, *size);
            let ours = outcome(step, *size, Canvas { filter: filter(mode), fill });
            (ours != *digest).then(|| format!("{policy} {step:?}, bin {bin}, {size:?}, {mode}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), results.len(), wrong.join("\n"));
}

#[test]
fn pairs_of_auto_augment_are_those_of_torchvision() {
    let golden = golden().policies;
    for (name, policy) in [("imagenet", Policy::ImageNet), ("cifar10", Policy::Cifar10), ("svhn", Policy::Svhn)] {
        let theirs: Vec<_> = golden[name]
            .iter()
            .map(|pair| pair.clone().map(|(name, p, bin)| (op(&name), p, bin.unwrap_or(0))))
            .collect();
        assert_eq!(policy.pairs().to_vec(), theirs, "{name}");
        let text = format!("auto_augment = {{ policy = '{name}' }}");
        let AugmentSpec::auto_augment(parsed) = toml::from_str(&text).unwrap() else { panic!("{text}") };
        assert_eq!(parsed.policy, policy);
    }
}

#[test]
fn levels_of_timm_become_its_arguments_and_images() {
    let levels = golden().levels;
    assert_eq!(levels.len(), 2 * 15 * 6 * 2);
    for (name, increasing, level, negative, argument, mode, digest) in levels {
        let name = op(&name);
        let step = policy_timm::step(name, level, increasing, negative, [37, 29]);
        // timm gives the share of the side that an image moves to the left or up.
        let argument = match name {
            Op::TranslateX => argument * 37.0,
            Op::TranslateY => argument * 29.0,
            _ => argument,
        };
        assert!((step.argument - argument).abs() < 1e-12, "{step:?}, level {level}: not {argument}");
        let towards = if matches!(name, Op::TranslateX | Op::TranslateY) { -1.0 } else { 1.0 };
        let step = Step { argument: towards * step.argument, ..step };
        let ours = outcome(step, [37, 29], Canvas { filter: filter(&mode), fill: [128; 3] });
        assert!(digest.is_none_or(|digest| digest == ours), "{step:?}, {mode}");
    }
}

#[test]
fn aug_mix_averages_as_torchvision() {
    let step = |op, argument| Step { op, argument };
    let chains =
        vec![(0.35, vec![step(Op::Invert, 0.0)]), (0.4, vec![step(Op::Solarize, 100.0), step(Op::Equalize, 0.0)])];
    let mut image = dim(24, 20);
    let canvas = Canvas { filter: Filter::Bilinear, fill: [0; 3] };
    Mixture { own: 0.25, chains }.apply(&mut image, canvas);
    assert_eq!(digest(&image), golden().mixed);
}

const SIZE: [usize; 2] = [224, 224];

fn rng(i: u64) -> Rng {
    Key::new(13).with(i).rng()
}

/// Each of these as often as its share says, within five standard deviations.
fn assert_shares<T: Ord + std::fmt::Debug>(drawn: impl Iterator<Item = T>, share: impl Fn(&T) -> f64, kinds: usize) {
    let mut counts = BTreeMap::new();
    drawn.for_each(|kind| *counts.entry(kind).or_insert(0) += 1);
    let total: i32 = counts.values().sum();
    for (kind, count) in &counts {
        let share = share(kind);
        let spread = (f64::from(total) * share * (1.0 - share)).sqrt();
        assert!(
            (f64::from(*count) - f64::from(total) * share).abs() < 5.0 * spread + 1e-9,
            "{kind:?}: {count} of {total}"
        );
    }
    assert_eq!(counts.len(), kinds, "{counts:?}");
}

#[test]
fn rand_augment_draws_operations_and_sides_alike() {
    let policy = RandAugment { num_ops: 3, ..Default::default() };
    let steps: Vec<Step> = (0..5000).flat_map(|i| policy.draw(SIZE, &mut rng(i))).map(|(step, _)| step).collect();
    assert_eq!(steps.len(), 15_000);
    assert_shares(steps.iter().map(|step| step.op), |_| 1.0 / 14.0, 14);
    let rotations: Vec<f64> = steps.iter().filter(|step| step.op == Op::Rotate).map(|step| step.argument).collect();
    assert!(rotations.iter().all(|angle| (angle.abs() - 9.0).abs() < 1e-6), "magnitude 9 of 31 bins to 30 degrees");
    assert_shares(rotations.iter().map(|angle| *angle > 0.0), |_| 0.5, 2);
}

#[test]
fn rand_augment_of_timm_draws_half_the_time_and_around_its_magnitude() {
    let text = "rand_augment = { magnitude = 9, mstd = 0.5, increasing = true }";
    let AugmentSpec::rand_augment(policy) = toml::from_str(text).unwrap() else { panic!("{text}") };
    let drawn: Vec<(Step, Canvas)> = (0..20_000).flat_map(|i| policy.draw(SIZE, &mut rng(i))).collect();
    assert!((drawn.len() as f64 - 20_000.0).abs() < 5.0 * 100.0, "{} of 40000 operations", drawn.len());
    assert_shares(drawn.iter().map(|(step, _)| step.op), |_| 1.0 / 15.0, 15);
    assert_shares(drawn.iter().map(|(_, canvas)| format!("{:?}", canvas.filter)), |_| 0.5, 2);
    assert!(drawn.iter().all(|(_, canvas)| canvas.fill == [128; 3]));
    let angles: Vec<f64> =
        drawn.iter().filter(|(step, _)| step.op == Op::Rotate).map(|(step, _)| step.argument / 3.0).collect();
    // A normal of mean 9 and deviation 0.5 that is cut at 10: mean 8.9958, deviation 0.4899.
    let mean = angles.iter().map(|level| level.abs()).sum::<f64>() / angles.len() as f64;
    let deviation = (angles.iter().map(|level| (level.abs() - mean).powi(2)).sum::<f64>() / angles.len() as f64).sqrt();
    assert!((mean - 8.9958).abs() < 5.0 * 0.49 / (angles.len() as f64).sqrt(), "mean {mean}");
    assert!((deviation - 0.48995).abs() < 0.05, "deviation {deviation}");
    assert!(angles.iter().all(|level| level.abs() <= 10.0));
}

#[test]
fn rand_augment_of_timm_draws_evenly_above_an_mstd_of_100() {
    let mut rng = rng(0);
    let levels: Vec<f64> = (0..4000).map(|_| policy_timm::draw_level(8.0, 101.0, &mut rng)).collect();
    assert_shares(levels.iter().map(|level| *level as u32), |_| 1.0 / 8.0, 8);
}

#[test]
fn trivial_augment_draws_operations_and_strengths_alike() {
    let policy = TrivialAugmentWide::default();
    let steps: Vec<Step> = (0..60_000).map(|i| policy.draw(SIZE, &mut rng(i))).collect();
    assert_shares(steps.iter().map(|step| step.op), |_| 1.0 / 14.0, 14);
    let of = |op| steps.iter().filter(move |step| step.op == op).map(|step| step.argument);
    // 30 strengths to both sides, and no change twice as often.
    let angles = of(Op::Rotate).map(|angle| (angle / 135.0 * 30.0).round() as i32);
    assert_shares(angles, |bin| if *bin == 0 { 2.0 / 62.0 } else { 1.0 / 62.0 }, 61);
    assert_shares(of(Op::Solarize).map(|level| level as i32), |_| 1.0 / 31.0, 31);
}

#[test]
fn auto_augment_draws_each_pair_alike_and_each_operation_by_its_probability() {
    let policy = AutoAugment { policy: Policy::Cifar10, ..Default::default() };
    let steps: Vec<Step> = (0..20_000).flat_map(|i| policy.draw(SIZE, &mut rng(i))).collect();
    let mut expected = BTreeMap::new();
    Policy::Cifar10.pairs().iter().flatten().for_each(|(op, p, _)| *expected.entry(*op).or_insert(0.0) += p / 25.0);
    let each: f64 = expected.values().sum();
    assert!(
        (steps.len() as f64 - 20_000.0 * each).abs() < 5.0 * 100.0,
        "{} operations, not {each} an image",
        steps.len()
    );
    assert_shares(steps.iter().map(|step| step.op), |op| expected[op] / each, expected.len());
    let moves = steps.iter().filter(|step| step.op == Op::TranslateY).map(|step| step.argument > 0.0);
    assert_shares(moves, |_| 0.5, 2);
}

#[test]
fn aug_mix_draws_depths_strengths_and_weights_as_torchvision() {
    let policy = AugMix::default();
    let mixtures: Vec<Mixture> = (0..5000).map(|i| policy.draw(SIZE, &mut rng(i))).collect();
    let chains = || mixtures.iter().flat_map(|mixture| &mixture.chains);
    assert_eq!(chains().count(), 15_000);
    assert_shares(chains().map(|(_, steps)| steps.len()), |_| 1.0 / 3.0, 3);
    assert_shares(chains().flat_map(|(_, steps)| steps).map(|step| step.op), |_| 1.0 / 13.0, 13);
    let solarized = chains().flat_map(|(_, steps)| steps).filter(|step| step.op == Op::Solarize);
    assert_shares(solarized.map(|step| step.argument.round() as i32), |_| 1.0 / 3.0, 3);
    for mixture in &mixtures {
        let sum = mixture.own + mixture.chains.iter().map(|(weight, _)| weight).sum::<f32>();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
    // Uniform, and a third of the rest each: at alpha 1, with variances 1/12 and E[(s m)^2] - 1/36 = 1/18 - 1/36.
    let moments = |values: Vec<f64>| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
    };
    let (mean, variance) = moments(mixtures.iter().map(|mixture| f64::from(mixture.own)).collect());
    assert!((mean - 0.5).abs() < 0.02 && (variance - 1.0 / 12.0).abs() < 0.005, "{mean} {variance}");
    let (mean, variance) = moments(chains().map(|(weight, _)| f64::from(*weight)).collect());
    assert!((mean - 1.0 / 6.0).abs() < 0.01 && (variance - 1.0 / 36.0).abs() < 0.003, "{mean} {variance}");
    let few = AugMix { all_ops: false, chain_depth: 4, mixture_width: 2, ..policy };
    let mixtures: Vec<Mixture> = (0..1000).map(|i| few.draw(SIZE, &mut rng(i))).collect();
    let steps = mixtures.iter().flat_map(|mixture| &mixture.chains).flat_map(|(_, steps)| steps);
    assert_eq!(steps.clone().count(), 8000);
    assert_shares(steps.map(|step| step.op), |_| 1.0 / 9.0, 9);
}

#[test]
fn a_magnitude_without_its_bin_is_refused() {
    for (text, message) in [
        ("rand_augment = { magnitude = 31 }", "has only 0 to 30"),
        ("rand_augment = { magnitude = 11, increasing = true }", "from 0 to 10"),
    ] {
        let spec: AugmentSpec = toml::from_str(text).unwrap();
        assert!(spec.as_dyn().check(224).unwrap_err().contains(message), "{text}");
    }
}
