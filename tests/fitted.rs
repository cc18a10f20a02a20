//! What is fitted on validation predictions, and views for test-time augmentation, against scipy, scikit-learn and Pillow
//! (tests/golden/fitted.py).

use runner::{
    data::{
        Interpolation,
        views::{self, View},
    },
    metric::{
        Pooling, Scores, temperature,
        threshold::{Rule, at_threshold},
    },
    tensor::Image,
};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    picture: Vec<u8>,
    views: BTreeMap<String, Vec<u8>>,
    large: Vec<u8>,
    crops: Vec<Vec<u8>>,
    reflected: Vec<u8>,
}

#[derive(Deserialize)]
struct Case {
    samples: usize,
    classes: usize,
    seed: u32,
    skill: f64,
    checksum: f64,
    temperature: f64,
    loss: f64,
    loss_at_1: f64,
    best: Option<BTreeMap<String, f64>>,
    ensembles: BTreeMap<String, Weights>,
}

#[derive(Deserialize)]
struct Weights {
    weights: Vec<f64>,
    loss: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/fitted.json")).unwrap()
}

/// The scores that the script made, of its targets or of those given.
fn make(case: &Case, seed: u32, skill: f64, given: Option<&[u32]>) -> (Vec<f32>, Vec<u32>) {
    let mut x = seed;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(x >> 16) / 65536.0
    };
    let (mut probabilities, mut targets) = (Vec::new(), Vec::new());
    for sample in 0..case.samples {
        let raw: Vec<f64> = (0..=case.classes).map(|_| next()).collect();
        let drawn = ((raw[case.classes] * case.classes as f64) as u32).min(case.classes as u32 - 1);
        let target = given.map_or(drawn, |given| given[sample]);
        let bonus = |class: usize| if class == target as usize { skill } else { 0.0 };
        let row: Vec<f32> =
            (0..case.classes).map(|class| (raw[class].powi(4) + 1.0 / 64.0 + bonus(class)) as f32).collect();
        let total = row.iter().copied().reduce(|a, b| a + b).unwrap();
        probabilities.extend(row.iter().map(|value| value / total));
        targets.push(target);
    }
    (probabilities, targets)
}

#[test]
fn temperatures_are_those_of_scipy() {
    for case in golden().cases {
        let (probabilities, targets) = make(&case, case.seed, case.skill, None);
        let last: f64 = probabilities.chunks(case.classes).map(|row| f64::from(row[case.classes - 1])).sum();
        assert!((last - case.checksum).abs() < 1e-4, "seed {}: the scores are not the script's", case.seed);
        let scores = Scores { probabilities: &probabilities, targets: &targets, classes: case.classes };
        let fitted = temperature::fit(&scores).unwrap();
        assert!((fitted / case.temperature - 1.0).abs() < 1e-4, "{fitted} and not {}", case.temperature);
        let loss = |temperature| temperature::log_loss(&scores, temperature).unwrap();
        assert!((loss(fitted) - case.loss).abs() < 1e-7 && (loss(1.0) - case.loss_at_1).abs() < 1e-7);
        // Scaling the scores is what the loss is about: they then want no other temperature.
        let scaled: Vec<f32> =
            probabilities.chunks(case.classes).flat_map(|row| temperature::scale(row, fitted)).collect();
        let again = temperature::fit(&Scores { probabilities: &scaled, ..scores }).unwrap();
        assert!((again - 1.0).abs() < 1e-5, "{again}");
    }
}

#[test]
fn a_model_that_is_never_wrong_gets_the_lowest_temperature() {
    let scores = Scores { probabilities: &[0.9, 0.1, 0.2, 0.8], targets: &[0, 1], classes: 2 };
    assert!((temperature::fit(&scores).unwrap() - 0.01).abs() < 1e-9);
    assert_eq!(temperature::fit(&Scores { probabilities: &[], targets: &[], classes: 2 }), None);
}

#[test]
fn ensemble_weights_are_those_of_scipy() {
    for case in golden().cases {
        let (first, targets) = make(&case, case.seed, case.skill, None);
        let other = |k: u32, factor: f64| make(&case, case.seed + 100 * k, case.skill * factor, Some(&targets)).0;
        let models = [first, other(1, 1.5), other(2, 0.2)];
        let scores: Vec<Scores> = models
            .iter()
            .map(|probabilities| Scores { probabilities, targets: &targets, classes: case.classes })
            .collect();
        for (pooling, name) in [(Pooling::Probabilities, "probabilities"), (Pooling::Logits, "logits")] {
            let (weights, wanted) = (pooling.fit(&scores), &case.ensembles[name]);
            let off = weights.iter().zip(&wanted.weights).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 2e-3, "seed {}, {name}: {weights:?} and not {:?}", case.seed, wanted.weights);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let rows = (0..case.samples).flat_map(|sample| {
                let row = |model: &Vec<f32>| model[sample * case.classes..(sample + 1) * case.classes].to_vec();
                let rows: Vec<Vec<f32>> = models.iter().map(row).collect();
                pooling.mean(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), &weights)
            });
            let pooled: Vec<f32> = rows.collect();
            let pooled = Scores { probabilities: &pooled, targets: &targets, classes: case.classes };
            let loss = temperature::log_loss(&pooled, 1.0).unwrap();
            assert!((loss - wanted.loss).abs() < 2e-7, "seed {}, {name}: {loss} and not {}", case.seed, wanted.loss);
        }
    }
}

#[test]
fn thresholds_reach_what_scikit_learns_curve_reaches() {
    let cases: Vec<Case> = golden().cases.into_iter().filter(|case| case.best.is_some()).collect();
    assert!(cases.len() >= 3);
    for case in cases {
        let (probabilities, targets) = make(&case, case.seed, case.skill, None);
        let scores = Scores { probabilities: &probabilities, targets: &targets, classes: 2 };
        for (rule, best) in case.best.as_ref().unwrap() {
            let values = at_threshold(&scores, rule.parse::<Rule>().unwrap().choose(&scores).unwrap());
            let reached = match &rule[..] {
                "youden" => values["tpr"] - values["fpr"],
                "accuracy" => values["accuracy"],
                limit => {
                    assert!(values["fpr"] <= limit[4..].parse().unwrap());
                    values["tpr"]
                }
            };
            assert!((reached - best).abs() < 1e-9, "seed {}, {rule}: {reached} and not {best}", case.seed);
        }
    }
}

#[test]
fn a_threshold_lies_between_scores_and_nearest_to_one_half() {
    let probabilities = [0.9, 0.1, 0.8, 0.2, 0.3, 0.7, 0.0, 1.0];
    let scores = Scores { probabilities: &probabilities, targets: &[0, 0, 1, 1], classes: 2 };
    assert!((Rule::Youden.choose(&scores).unwrap() - 0.45).abs() < 1e-6);
    let same = Scores { probabilities: &[0.5; 4], targets: &[0, 1], classes: 2 };
    let all = Rule::Accuracy.choose(&same).unwrap();
    assert!((all - 0.5).abs() < 1e-9, "{all}");
    assert_eq!(Rule::Youden.choose(&Scores { probabilities: &[0.5; 4], targets: &[1, 1], classes: 2 }), None);
    for wrong in ["best", "fpr=2", "1.5", "fpr", "tpr=0.1"] {
        assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
    }
}

fn square(pixels: &[u8]) -> Image {
    let size = ((pixels.len() / 3) as f64).sqrt() as usize;
    Image { width: size, height: size, pixels: pixels.to_vec() }
}

#[test]
fn views_are_those_of_pillow() {
    let golden = golden();
    let picture = square(&golden.picture);
    let all = views::parse("8").unwrap();
    assert_eq!(all.len(), 8);
    for (view, image) in all.iter().zip(views::render(&all, &picture, 5, Interpolation::Bilinear).unwrap()) {
        assert_eq!(image.pixels, golden.views[&view.to_string()], "{view}");
    }
    let large = square(&golden.large);
    let render =
        |names: &str| views::render(&views::parse(names).unwrap(), &large, 8, Interpolation::Bilinear).unwrap();
    let crops = render("multicrop");
    assert_eq!(crops.len(), 6);
    for (image, wanted) in crops[1..].iter().zip(&golden.crops) {
        assert_eq!(&image.pixels, wanted);
    }
    assert_eq!(render("scale0.75")[1].pixels, golden.reflected);
}

#[test]
fn names_of_views() {
    let names = |text: &str| views::parse(text).unwrap().iter().map(View::to_string).collect::<Vec<_>>();
    assert_eq!(names("1"), ["identity"]);
    assert_eq!(names("6"), ["identity", "hflip", "vflip", "rot90", "rot180", "rot270"]);
    assert_eq!(names("flips, hflip,scales"), ["identity", "hflip", "vflip", "scale0.9", "scale1.1"]);
    for (wrong, part) in [("0", "8 symmetries"), ("9", "name others"), ("flip", "did you mean"), ("scale9", "no view")]
    {
        let message = views::parse(wrong).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
