//! Which images a run trains on: folds, groups, subsets and samplers.

use runner::{
    data::{
        self, DataSpec, Dataset, Decode, Fold, Interpolation, Item, Over, Subset,
        ffdi::Ffdi,
        folder::Folder,
        folds::{cut, deal_groups},
        sampler::{SamplerSpec, draw},
    },
    tensor::Key,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use tempfile::tempdir;

const DECODE: Decode = Decode { size: 8, interpolation: Interpolation::Bilinear };

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/folds.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<usize> {
    serde_json::from_value(value.clone()).unwrap()
}

/// So many images of each class, in mixed order.
fn items(counts: &[usize]) -> Vec<Item> {
    let classes = counts.iter().enumerate().flat_map(|(class, &count)| vec![class as u32; count]);
    let items = classes.enumerate().map(|(i, target)| Item { name: format!("{i}.png"), target, group: None });
    let items: Vec<Item> = items.collect();
    Key::new(5).rng().permutation(items.len()).into_iter().map(|i| items[i].clone()).collect()
}

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class {class}")).collect()
}

fn fold(index: u32, of: u32) -> Fold {
    Fold { index, of, ..Fold::default() }
}

fn counts(items: &[Item], places: &[usize], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    places.iter().for_each(|&place| counts[items[place].target as usize] += 1);
    counts
}

#[test]
fn each_fold_holds_as_many_of_each_class_as_scikit_learns() {
    for case in golden()["stratified"].as_array().unwrap() {
        let (wanted, k) = (numbers(&case["counts"]), case["k"].as_u64().unwrap() as u32);
        let items = items(&wanted);
        let mut held = vec![0; items.len()];
        for index in 0..k {
            let cut = cut([&items, &[]], &names(wanted.len()), Some(&fold(index, k)), None).unwrap();
            cut.val.iter().for_each(|&place| held[place] += 1);
            assert_eq!(counts(&items, &cut.val, wanted.len()), numbers(&case["held"][index as usize]));
            let whole: BTreeSet<usize> = cut.train.iter().chain(&cut.val).copied().collect();
            assert_eq!((whole.len(), cut.train.len() + cut.val.len()), (items.len(), items.len()));
        }
        assert!(held.iter().all(|&times| times == 1), "every image is held out once");
    }
}

#[test]
fn groups_are_dealt_as_scikit_learns() {
    for case in golden()["grouped"].as_array().unwrap() {
        let counts: Vec<Vec<usize>> = case["counts"].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(deal_groups(&counts, case["k"].as_u64().unwrap() as usize), numbers(&case["fold"]));
    }
}

#[test]
fn folds_follow_names_and_their_seed_alone() {
    let items = items(&[30, 20]);
    let held = |items: &[Item], fold: &Fold| -> BTreeSet<String> {
        let cut = cut([items, &[]], &names(2), Some(fold), None).unwrap();
        cut.val.iter().map(|&place| items[place].name.clone()).collect()
    };
    let reversed: Vec<Item> = items.iter().rev().cloned().collect();
    assert_eq!(held(&items, &fold(1, 5)), held(&reversed, &fold(1, 5)));
    assert_ne!(held(&items, &fold(1, 5)), held(&items, &Fold { seed: 1, ..fold(1, 5) }));
    // Of the 30 images of the first class, listed by number, no run of neighbours is held out.
    let numbers = held(&items, &fold(0, 5)).into_iter().filter_map(|name| name[..name.len() - 4].parse::<usize>().ok());
    let numbers: Vec<usize> = numbers.filter(|&number| number < 30).collect();
    assert_eq!(numbers.len(), 6);
    assert!(numbers.iter().max().unwrap() - numbers.iter().min().unwrap() > 5, "{numbers:?}");
}

#[test]
fn what_cannot_be_divided_is_told() {
    let grouped = |groups: usize| -> Vec<Item> {
        let group = |(i, item): (usize, Item)| Item { group: Some(format!("v{}", i % groups)), ..item };
        items(&[20, 20]).into_iter().enumerate().map(group).collect()
    };
    let why = |items: &[Item], fold: &Fold| cut([items, &[]], &names(2), Some(fold), None).unwrap_err().to_string();
    assert!(
        why(&items(&[3, 30]), &fold(0, 5)).contains("5 folds cannot each hold class \"class 0\", which has 3 images")
    );
    assert!(why(&items(&[30, 30]), &fold(5, 5)).contains("folds count from 0 to 4"));
    assert!(why(&grouped(3), &fold(0, 5)).contains("5 folds of 3 groups"));
    let mut half = grouped(10);
    half[0].group = None;
    assert!(why(&half, &fold(0, 5)).contains("only 39 of the 40 images"));
}

/// Images whose colour says which they are: `VIDEO_FRAME.png`, of a video of either class.
fn videos(videos: usize, mut write: impl FnMut(&str, usize, image::RgbImage)) {
    for video in 0..videos {
        for frame in 0..1 + video % 4 {
            let colour = image::Rgb([video as u8 * 8, frame as u8 * 60, 40]);
            write(&format!("id{video:02}_{frame}.png"), video % 2, image::RgbImage::from_pixel(8, 8, colour));
        }
    }
}

fn ffdi(root: &Path, splits: &[(&str, usize)]) {
    for (split, count) in splits {
        let mut labels = String::from("img_name,target,video\n");
        fs::create_dir_all(root.join(split)).unwrap();
        videos(*count, |name, target, image| {
            image.save(root.join(split).join(name)).unwrap();
            labels += &format!("{name},{target},{}\n", &name[..4]);
        });
        fs::write(root.join(format!("{split}_label.txt")), labels).unwrap();
    }
}

fn groups(items: &[Item]) -> BTreeSet<&str> {
    items.iter().map(|item| item.group.as_deref().unwrap()).collect()
}

/// No video on both sides of any fold, every image validated once, and every image still itself.
fn no_leak(whole: &Dataset, folds: u32, over: Over) {
    let pool = whole.train.items.len() + if over == Over::All { whole.val.items.len() } else { 0 };
    let own: BTreeMap<&str, &[u8]> =
        whole.train.items.iter().enumerate().map(|(i, item)| (item.name.as_str(), whole.train.image(i))).collect();
    let mut held = BTreeSet::new();
    for index in 0..folds {
        let part = whole.cut(Some(&Fold { over, ..fold(index, folds) }), None).unwrap();
        assert!(groups(&part.train.items).is_disjoint(&groups(&part.val.items)), "fold {index}");
        assert_eq!(part.train.items.len() + part.val.items.len(), pool);
        for split in [&part.train, &part.val] {
            for (place, item) in split.items.iter().enumerate() {
                assert_eq!(split.image(place), own[item.name.trim_start_matches("val/")], "{}", item.name);
            }
        }
        held.extend(part.val.items.into_iter().map(|item| item.name));
    }
    assert_eq!(held.len(), pool, "every image is held out once");
}

#[test]
fn no_video_stands_on_both_sides_of_a_fold() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    ffdi(&root, &[("trainset", 24), ("valset", 6)]);
    let open = |group: Option<&str>| {
        let source = DataSpec::ffdi(Ffdi { root: root.clone(), group: group.map(String::from), ..Ffdi::default() });
        data::open(&source, DECODE, &folder.path().join("cache"), &|_| ()).unwrap()
    };
    let (with, without) = (open(Some("video")), open(None));
    no_leak(&with, 4, Over::Train);
    // Videos and names of both splits are the same here: together they are one pool.
    no_leak(&with, 4, Over::All);
    assert_ne!(with.fingerprint, without.fingerprint, "groups decide which images a fold has");
    let leaks = |index| {
        let part = without.cut(Some(&fold(index, 4)), None).unwrap();
        let video = |item: &Item| item.name[..4].to_string();
        let train: BTreeSet<String> = part.train.items.iter().map(video).collect();
        part.val.items.iter().any(|item| train.contains(&video(item)))
    };
    assert!((0..4).any(leaks), "without groups videos leak: the test above can fail");
}

#[test]
fn a_folder_keeps_its_groups_together() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    ["real", "fake"].iter().for_each(|class| fs::create_dir_all(root.join(class)).unwrap());
    videos(24, |name, target, image| image.save(root.join(["real", "fake"][target]).join(name)).unwrap());
    let source = |until: &str| Folder { root: root.clone(), group_until: Some(until.into()), ..Folder::default() };
    let open = |source: Folder| data::open(&DataSpec::folder(source), DECODE, &folder.path().join("cache"), &|_| ());
    let whole = open(source("_")).unwrap();
    assert!(groups(&whole.train.items).is_disjoint(&groups(&whole.val.items)), "the source's own split");
    let share = whole.val.items.len() as f64 / (whole.train.items.len() + whole.val.items.len()) as f64;
    assert!((0.13..0.27).contains(&share), "{share}");
    for index in 0..4 {
        let part = whole.cut(Some(&Fold { over: Over::All, ..fold(index, 4) }), None).unwrap();
        assert!(groups(&part.train.items).is_disjoint(&groups(&part.val.items)), "fold {index}");
    }
    let error = open(source("@")).err().unwrap().to_string();
    assert!(error.contains("no image name has the `@`"), "{error}");
}

#[test]
fn subsets_are_nested_and_keep_the_shares_of_classes() {
    let items = items(&[100, 40]);
    let part = |subset: &Subset| cut([&items, &[]], &names(2), Some(&fold(0, 5)), Some(subset)).unwrap();
    let share = |fraction| Subset { fraction: Some(fraction), ..Subset::default() };
    let mut before = BTreeSet::new();
    for fraction in [0.0, 0.1, 0.25, 0.5, 1.0] {
        let cut = part(&share(fraction));
        let expected = [80.0, 32.0].map(|count: f64| ((count * fraction).round() as usize).max(1));
        assert_eq!(counts(&items, &cut.train, 2), expected);
        assert_eq!(counts(&items, &cut.val, 2), [20, 8], "validation images stay");
        let now: BTreeSet<usize> = cut.train.into_iter().collect();
        assert!(before.is_subset(&now), "{fraction}");
        before = now;
    }
    let few = Subset { per_class: Some(40), ..Subset::default() };
    assert_eq!(counts(&items, &part(&few).train, 2), [40, 32]);
    assert_ne!(part(&share(0.5)), part(&Subset { seed: 1, ..share(0.5) }));
}

/// How often each image is drawn over many epochs, against what torch's `WeightedRandomSampler` gives: independent draws
/// with probability weight / sum of weights. Pearson's statistic of so many images stays below its 99.99 % quantile
/// (about n + 3.7 sqrt(2 n) + 9 for n degrees of freedom, after Laurent & Massart 2000).
#[test]
fn draws_follow_their_weights() {
    let items = items(&[90, 9, 30]);
    let targets: Vec<u32> = items.iter().map(|item| item.target).collect();
    let case = |spec: Value, weights: [f64; 3]| {
        let spec: SamplerSpec = serde_json::from_value(spec).unwrap();
        let (epochs, mut drawn) = (2000, vec![0.0; targets.len()]);
        let mut total = 0.0;
        for epoch in 0..epochs {
            for image in draw(spec.as_dyn(), &targets, 3, Key::new(1).with(epoch)) {
                drawn[image] += 1.0;
                total += 1.0;
            }
        }
        let mass: f64 = targets.iter().map(|&class| weights[class as usize]).sum();
        let mut statistic = 0.0;
        for (&class, &drawn) in targets.iter().zip(&drawn) {
            let expected = total * weights[class as usize] / mass;
            match expected == 0.0 {
                true => assert_eq!(drawn, 0.0, "a weight of 0 is never drawn"),
                false => statistic += (drawn - expected) * (drawn - expected) / expected,
            }
        }
        let n = targets.iter().filter(|&&class| weights[class as usize] > 0.0).count() as f64 - 1.0;
        assert!(statistic < n + 3.7 * (2.0 * n).sqrt() + 9.0, "{}: {statistic} of {n}", spec.name());
        // Independent draws are uneven: what is dealt out evenly would be far below.
        assert!(statistic > n - 3.7 * (2.0 * n).sqrt(), "{}: {statistic} of {n}", spec.name());
    };
    case(json!({ "balanced": {} }), [1.0 / 90.0, 1.0 / 9.0, 1.0 / 30.0]);
    case(json!({ "balanced": { "q": 0.5 } }), [90f64.powf(-0.5), 9f64.powf(-0.5), 30f64.powf(-0.5)]);
    case(json!({ "balanced": { "q": 1.0 } }), [1.0; 3]);
    case(json!({ "weighted": { "weights": [1.0, 5.0, 0.0] } }), [1.0, 5.0, 0.0]);
    case(json!({ "weighted": { "weights": [0.0, 1.0, 2.0], "num_samples": 300 } }), [0.0, 1.0, 2.0]);
}

#[test]
fn draws_depend_on_their_key_and_number_alone() {
    let targets: Vec<u32> = items(&[20, 5]).iter().map(|item| item.target).collect();
    let epoch = |spec: Value, key| {
        let spec: SamplerSpec = serde_json::from_value(spec).unwrap();
        draw(spec.as_dyn(), &targets, 2, Key::new(key))
    };
    let balanced = || json!({ "balanced": {} });
    assert_eq!(epoch(balanced(), 1), epoch(balanced(), 1));
    assert_ne!(epoch(balanced(), 1), epoch(balanced(), 2));
    assert_eq!(epoch(balanced(), 1).len(), 25);
    assert_eq!(epoch(json!({ "weighted": { "weights": [1, 1], "num_samples": 7 } }), 1).len(), 7);
}
