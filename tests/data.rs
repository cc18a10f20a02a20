//! Sources, the decoded cache and the audit.

use runner::data::{
    self, DataSpec, Dataset, Decode, Interpolation, OnBadImage, Progress, Source, ffdi::Ffdi, folder::Folder,
    synth::write_ffdi, synthetic::Synthetic,
};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};
use tempfile::{TempDir, tempdir};

const DECODE: Decode = Decode { size: 24, interpolation: Interpolation::Bilinear };

fn synthetic(train: usize, val: usize) -> Synthetic {
    Synthetic { train, val, size: 32, ..Synthetic::default() }
}

fn open(source: &DataSpec, cache: &Path) -> Dataset {
    data::open(source, DECODE, cache, &|_| ()).unwrap()
}

fn refusal(source: &DataSpec, cache: &Path) -> String {
    data::open(source, DECODE, cache, &|_| ()).err().expect("an error").to_string()
}

/// A small set on disk.
fn on_disk() -> (TempDir, Ffdi) {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    write_ffdi(&synthetic(8, 4), &root).unwrap();
    (folder, Ffdi { root, ..Ffdi::default() })
}

#[test]
fn a_synthetic_set_opens_balanced_and_repeats() {
    let cache = tempdir().unwrap();
    let source = DataSpec::synthetic(synthetic(10, 6));
    let (first, second) = (open(&source, cache.path()), open(&source, cache.path()));
    assert_eq!(first.classes, ["real", "fake"]);
    assert_eq!((first.train.items.len(), first.val.items.len()), (10, 6));
    assert_eq!(first.train.items.iter().filter(|item| item.target == 1).count(), 5);
    assert_eq!(first.fingerprint, second.fingerprint);
    for index in 0..10 {
        assert_eq!(first.train.image(index).len(), 24 * 24 * 3);
        assert_eq!(first.train.image(index), second.train.image(index));
    }
    assert_ne!(first.train.image(0), first.train.image(1));
    assert!(first.train.image(10).is_empty());
    let other = DataSpec::synthetic(Synthetic { seed: 1, ..synthetic(10, 6) });
    assert_ne!(data::fingerprint(&other, cache.path()).unwrap(), first.fingerprint);
}

#[test]
fn a_written_set_is_the_same_set() {
    let (folder, ffdi) = on_disk();
    let cache = folder.path().join("cache");
    let read = open(&DataSpec::ffdi(ffdi.clone()), &cache);
    let made = open(&DataSpec::synthetic(synthetic(8, 4)), &cache);
    assert_eq!(read.classes, made.classes);
    assert_eq!(read.train.items, made.train.items);
    (0..8).for_each(|index| assert_eq!(read.train.image(index), made.train.image(index)));
    (0..4).for_each(|index| assert_eq!(read.val.image(index), made.val.image(index)));
    assert!(write_ffdi(&synthetic(8, 4), &ffdi.root).unwrap_err().to_string().contains("not empty"));
}

#[test]
fn neither_size_nor_mean_colour_tells_real_from_fake() {
    let set = Synthetic { train: 400, ..Synthetic::default() };
    let listing = set.list().unwrap();
    let features: Vec<(bool, [f64; 5])> = listing
        .train
        .iter()
        .map(|item| {
            let bytes = set.bytes(item, runner::event::Split::Train).unwrap();
            let image = data::decode::decode(&bytes).unwrap();
            let count = (image.width * image.height) as f64;
            let sum = |channel: usize, power: i32| -> f64 {
                image.pixels.iter().skip(channel).step_by(3).map(|&v| f64::from(v).powi(power)).sum::<f64>() / count
            };
            let spread = (0..3).map(|c| sum(c, 2) - sum(c, 1).powi(2)).sum::<f64>();
            (item.target == 1, [bytes.len() as f64, sum(0, 1), sum(1, 1), sum(2, 1), spread])
        })
        .collect();
    for feature in 0..5 {
        let (mut wins, mut pairs) = (0.0, 0.0);
        for (_, fake) in features.iter().filter(|(fake, _)| *fake) {
            for (_, real) in features.iter().filter(|(fake, _)| !fake) {
                pairs += 1.0;
                wins += if fake[feature] > real[feature] { 1.0 } else { 0.0 };
            }
        }
        let auc: f64 = wins / pairs;
        assert!(auc.max(1.0 - auc) < 0.62, "feature {feature}: AUC {auc}");
    }
}

#[test]
fn fingerprints_follow_contents_names_and_targets() {
    let (folder, ffdi) = on_disk();
    let cache = folder.path().join("cache");
    let print = |ffdi: &Ffdi| data::fingerprint(&DataSpec::ffdi(ffdi.clone()), &cache).unwrap();
    let first = print(&ffdi);
    assert_eq!(first, print(&ffdi));
    assert_ne!(first, print(&Ffdi { limit: Some(7), ..ffdi.clone() }));
    let labels = ffdi.root.join("trainset_label.txt");
    let text = fs::read_to_string(&labels).unwrap();
    fs::write(&labels, text.replace(",0", ",9").replace(",1", ",0").replace(",9", ",1")).unwrap();
    assert_ne!(first, print(&ffdi));
    fs::write(&labels, text).unwrap();
    assert_eq!(first, print(&ffdi));
    fs::copy(ffdi.root.join("trainset/train_000001.jpg"), ffdi.root.join("trainset/train_000000.jpg")).unwrap();
    assert_ne!(first, print(&ffdi));
}

#[test]
fn wrong_label_files_are_refused_with_their_place() {
    let (folder, ffdi) = on_disk();
    let cache = folder.path().join("cache");
    let labels = ffdi.root.join("trainset_label.txt");
    let good = fs::read_to_string(&labels).unwrap();
    let message = |text: &str| {
        fs::write(&labels, text).unwrap();
        refusal(&DataSpec::ffdi(ffdi.clone()), &cache)
    };
    let with = |row: &str| format!("{good}{row}\n");
    for (row, expected) in [
        ("../valset/val_000000.jpg,0", "trainset_label.txt:10: `../valset/val_000000.jpg` leaves the image folder"),
        ("/etc/passwd,0", "leaves the image folder"),
        ("train_000000.jpg,0", "stands in line 2 already"),
        ("train_000000.jpg,real", "trainset_label.txt:10: the target `real`"),
        ("x.jpg,4000000000", "class 4000000000"),
        ("gone.jpg,1", "1 missing image:\n  gone.jpg"),
    ] {
        let found = message(&with(row));
        assert!(found.contains(expected), "{row}: {found}");
    }
    assert!(message("img_name,target\n").contains("no images"));
    assert!(message(&good.replace(",1\n", ",2\n")).contains("have no image of class 1"));
    fs::remove_file(&labels).unwrap();
    let found = refusal(&DataSpec::ffdi(ffdi.clone()), &cache);
    assert!(
        found.contains("trainset_label.txt") && found.contains("holds trainset, valset, valset_label.txt"),
        "{found}"
    );
    fs::write(ffdi.root.join("train_label.txt"), good.replace("img_name", "img_path")).unwrap();
    assert_eq!(open(&DataSpec::ffdi(ffdi), &cache).train.items.len(), 8);
}

#[cfg(unix)]
#[test]
fn links_to_images_are_images() {
    let (folder, ffdi) = on_disk();
    let image = ffdi.root.join("trainset/train_000000.jpg");
    let elsewhere = folder.path().join("pool.jpg");
    fs::rename(&image, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &image).unwrap();
    assert_eq!(open(&DataSpec::ffdi(ffdi.clone()), folder.path()).train.items.len(), 8);
    fs::remove_file(&elsewhere).unwrap();
    assert!(refusal(&DataSpec::ffdi(ffdi), folder.path()).contains("1 missing image:\n  train_000000.jpg"));
}

#[test]
fn images_on_both_sides_are_told() {
    let (folder, ffdi) = on_disk();
    let cache = folder.path().join("cache");
    let source = DataSpec::ffdi(ffdi.clone());
    assert!(open(&source, &cache).notices().is_empty());
    fs::copy(ffdi.root.join("trainset/train_000003.jpg"), ffdi.root.join("valset/val_000001.jpg")).unwrap();
    let set = open(&source, &cache);
    let told = set.notices().join("");
    assert!(told.starts_with("1 of 4 validation images are training images as well"), "{told}");
    assert!(told.contains("val_000001.jpg = train_000003.jpg"), "{told}");
    // A fold of the training images validates on none of the others.
    let fold = data::Fold { of: 2, ..Default::default() };
    assert!(set.cut(Some(&fold), None).unwrap().notices().is_empty());
    let all = data::Fold { over: data::Over::All, ..fold };
    let both = [0, 1].map(|index| set.cut(Some(&data::Fold { index, ..all.clone() }), None).unwrap().notices().len());
    assert!(both[0] == both[1], "{both:?}");
}

#[test]
fn bad_images_are_reported_together_or_left_out() {
    let (folder, ffdi) = on_disk();
    let cache = folder.path().join("cache");
    fs::write(ffdi.root.join("trainset/train_000002.jpg"), b"no image").unwrap();
    fs::write(ffdi.root.join("valset/val_000001.jpg"), b"").unwrap();
    fs::remove_file(ffdi.root.join("trainset/train_000005.jpg")).unwrap();
    assert!(refusal(&DataSpec::ffdi(ffdi.clone()), &cache).contains("1 missing image:\n  train_000005.jpg"));
    fs::copy(ffdi.root.join("trainset/train_000001.jpg"), ffdi.root.join("trainset/train_000005.jpg")).unwrap();
    let found = refusal(&DataSpec::ffdi(ffdi.clone()), &cache);
    assert!(found.contains("2 unusable images:"), "{found}");
    assert!(found.contains("train_000002.jpg") && found.contains("val_000001.jpg"), "{found}");
    assert!(!fs::read_dir(&cache).unwrap().flatten().any(|entry| entry.file_name().to_string_lossy().contains("tmp")));
    let skip = DataSpec::ffdi(Ffdi { on_bad_image: OnBadImage::Skip, ..ffdi.clone() });
    for _ in 0..2 {
        let set = open(&skip, &cache);
        assert_eq!((set.train.items.len(), set.val.items.len()), (7, 3));
        assert!(set.warnings.join("\n").contains("2 unusable images"), "{:?}", set.warnings);
        let whole = open(&DataSpec::synthetic(synthetic(8, 4)), &cache);
        assert_eq!(set.train.items[2].name, "train_000003.jpg");
        assert_eq!(set.train.image(2), whole.train.image(3));
        assert_eq!(set.val.image(2), whole.val.image(3));
        assert!(set.val.image(3).is_empty());
    }
}

/// The one cache file of a folder.
fn cache_file(cache: &Path) -> std::path::PathBuf {
    let all = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_none()).find(|path| path.metadata().unwrap().len() > 4096).unwrap()
}

#[test]
fn a_damaged_cache_is_built_again_and_told() {
    let cache = tempdir().unwrap();
    let source = DataSpec::synthetic(synthetic(6, 2));
    let pixels = open(&source, cache.path()).train.image(3).to_vec();
    let path = cache_file(cache.path());
    let whole = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    for damaged in [whole[..whole.len() - 1].to_vec(), whole[..100].to_vec(), vec![], flipped(9), flipped(5000)] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, damaged).unwrap();
        let set = open(&source, cache.path());
        assert!(set.warnings.join("").contains("built again"), "{:?}", set.warnings);
        assert_eq!(set.train.image(3), pixels);
    }
    assert!(open(&source, cache.path()).warnings.is_empty());
}

#[test]
fn of_two_that_need_a_cache_one_builds_it() {
    let cache = tempdir().unwrap();
    let source = DataSpec::synthetic(synthetic(30, 10));
    let decoded = AtomicUsize::new(0);
    let count = |news: Progress| {
        if matches!(news, Progress::Decoding { .. }) {
            decoded.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope
                .spawn(|| assert_eq!(data::open(&source, DECODE, cache.path(), &count).unwrap().train.items.len(), 30));
        }
    });
    assert_eq!(decoded.load(Ordering::Relaxed), 40);
}

#[test]
fn what_a_killed_build_left_is_removed() {
    let cache = tempdir().unwrap();
    let source = DataSpec::synthetic(synthetic(4, 2));
    open(&source, cache.path());
    let path = cache_file(cache.path());
    let left = path.with_file_name(format!("{}.tmp-abc", path.file_name().unwrap().to_string_lossy()));
    fs::remove_file(&path).unwrap();
    fs::write(&left, b"half").unwrap();
    open(&source, cache.path());
    assert!(path.exists() && !left.exists());
}

/// `root/CLASS/name` for each name.
fn folders(root: &Path, images: &[&str]) {
    let set = synthetic(2, 2);
    let listing = set.list().unwrap();
    for (index, name) in images.iter().enumerate() {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let item = &listing.train[index % 2];
        fs::write(path, set.bytes(item, runner::event::Split::Train).unwrap()).unwrap();
    }
}

#[test]
fn folders_of_classes_are_walked_and_split_by_class() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    let names: Vec<String> = (0..30).map(|n| format!("{}/{n}.jpg", ["cat", "dog", "emu"][n % 3])).collect();
    folders(&root, &names.iter().map(String::as_str).collect::<Vec<_>>());
    folders(&root, &["cat/deep/x.PNG", "dog/.hidden.jpg", "dog/readme.txt", ".git/y.jpg"]);
    let source = Folder { root: root.clone(), val_fraction: Some(0.3), ..Folder::default() };
    let listing = source.list().unwrap();
    assert_eq!(listing.classes, ["cat", "dog", "emu"]);
    let val: Vec<usize> = (0..3).map(|c| listing.val.iter().filter(|item| item.target == c).count()).collect();
    assert_eq!((val, listing.train.len()), (vec![3, 3, 3], 22));
    assert!(listing.train.iter().chain(&listing.val).any(|item| item.name == "cat/deep/x.PNG"));
    let chosen = |source: &Folder| -> BTreeSet<String> {
        source.list().unwrap().val.into_iter().map(|item| item.name).collect()
    };
    assert_ne!(chosen(&source), chosen(&Folder { split_seed: 1, ..source.clone() }));
    folders(&root, &["cat/new.jpg"]);
    assert!(chosen(&source).symmetric_difference(&listing.val.iter().map(|i| i.name.clone()).collect()).count() <= 2);
    assert_eq!(open(&DataSpec::folder(source), folder.path()).classes.len(), 3);
}

#[test]
fn folders_for_training_and_validation_are_found() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    folders(&root, &["train/a/1.jpg", "train/b/2.jpg", "val/a/1.jpg", "val/b/3.jpg"]);
    let source = Folder { root: root.clone(), ..Folder::default() };
    let set = open(&DataSpec::folder(source.clone()), folder.path());
    assert_eq!((set.train.items.len(), set.val.items.len()), (2, 2));
    let both = Folder { val_fraction: Some(0.5), ..source.clone() };
    assert!(both.list().unwrap_err().to_string().contains("leave out `val_fraction`"));
    folders(&root, &["val/c/4.jpg"]);
    assert!(source.list().unwrap_err().to_string().contains("no class c"));
    fs::remove_dir_all(root.join("val/c")).unwrap();
    fs::rename(root.join("val"), root.join("valid")).unwrap();
    assert_eq!(source.list().unwrap().classes, ["a", "b"]);
}

#[test]
fn a_split_is_never_taken_for_classes() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    folders(&root, &["train/a/1.jpg", "train/b/2.jpg", "test/a/1.jpg", "test/b/3.jpg"]);
    let source = Folder { root: root.clone(), ..Folder::default() };
    let found = source.list().unwrap_err().to_string();
    assert!(found.contains("no `val` beside it") && found.contains("val = \"test\""), "{found}");
    let named = Folder { val: Some("test".into()), ..source.clone() };
    assert_eq!(named.list().unwrap().classes, ["a", "b"]);
    fs::remove_dir_all(root.join("test")).unwrap();
    assert!(source.list().unwrap_err().to_string().contains("holds `train` alone: write root = "));
    // A class may be called so.
    let vehicles = folder.path().join("vehicles");
    folders(&vehicles, &["train/1.jpg", "train/2.jpg", "tram/3.jpg", "tram/4.jpg"]);
    let source = Folder { root: vehicles, val_fraction: Some(0.5), ..Folder::default() };
    assert_eq!(source.list().unwrap().classes, ["train", "tram"]);
}

#[test]
fn pictures_of_other_kinds_are_passed_over_with_a_warning() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    folders(&root, &["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "a/3.tif", "b/deep/4.TIF", "b/5.gif", "b/notes.txt"]);
    let listing = Folder { root, val_fraction: Some(0.5), ..Folder::default() }.list().unwrap();
    assert_eq!(listing.warnings, ["left out: 1 .gif, 2 .tif; JPEG, PNG, WebP and BMP can be read"]);
}
