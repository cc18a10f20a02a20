//! The audit of data sets: `data check`.

use runner::{
    data::{
        DataSpec, OnBadImage, Source,
        check::{Audit, Look, Shortcut, audit},
        ffdi::Ffdi,
        synth::write_ffdi,
        synthetic::Synthetic,
    },
    tensor::Image,
};
use serde::Deserialize;
use std::{fs, path::PathBuf, process::Command};
use tempfile::{TempDir, tempdir};

/// A small set on disk.
fn on_disk(train: usize, val: usize) -> (TempDir, Ffdi) {
    let folder = tempdir().unwrap();
    let root = folder.path().join("set");
    write_ffdi(&Synthetic { train, val, size: 32, ..Synthetic::default() }, &root).unwrap();
    (folder, Ffdi { root, ..Ffdi::default() })
}

fn of(ffdi: &Ffdi) -> Audit {
    audit(&DataSpec::ffdi(ffdi.clone())).unwrap()
}

fn shortcut<'a>(audit: &'a Audit, feature: &str) -> &'a Shortcut {
    audit.shortcuts.iter().find(|shortcut| shortcut.feature == feature).expect(feature)
}

/// Rewrites the files of the fakes of both splits.
fn change_fakes(ffdi: &Ffdi, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let listing = ffdi.list().unwrap();
    for (folder, items) in [("trainset", &listing.train), ("valset", &listing.val)] {
        for item in items.iter().filter(|item| item.target == 1) {
            let path = ffdi.root.join(folder).join(&item.name);
            fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
        }
    }
}

fn png_of(jpeg: &[u8], brighter: u8) -> Vec<u8> {
    let image = runner::data::decode::decode(jpeg).unwrap();
    let pixels: Vec<u8> = image.pixels.iter().map(|value| value.saturating_add(brighter)).collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_raw(image.width as u32, image.height as u32, pixels)
        .unwrap()
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    width: usize,
    height: usize,
    seed: usize,
    gradient: String,
    frequencies: String,
}

#[test]
fn looks_are_those_of_imagehash() {
    let golden: Golden = serde_json::from_str(include_str!("golden/looks.json")).unwrap();
    for Case { width, height, seed, gradient, frequencies } in golden.cases {
        let mut image = Image::new(width, height);
        for y in 0..height {
            for x in 0..width {
                let channels =
                    [(x * x + seed * y) / 7 % 256, (x * y + 31 * seed) / 5 % 256, (x * 3 + y * y * seed) / 11 % 256];
                image.set_pixel(x, y, channels.map(|value| value as u8));
            }
        }
        let look = Look::of(&image).unwrap();
        let ours = [look.gradient, look.frequencies].map(|hash| format!("{hash:016x}"));
        assert_eq!(ours, [gradient, frequencies], "{width} x {height}, seed {seed}");
    }
}

#[test]
fn a_clean_set_has_nothing_to_warn_of() {
    let (_folder, ffdi) = on_disk(200, 100);
    let audit = of(&ffdi);
    assert_eq!(audit.splits[0].counts, [100, 100]);
    assert!(audit.duplicates.is_empty() && !audit.has_unreadable() && !audit.unusable);
    assert_eq!(audit.near_duplicates, []);
    assert_eq!(audit.warnings, Vec::<String>::new());
    assert_eq!(shortcut(&audit, "JPEG quality").auc, 0.5);
    assert_eq!(audit.shortcuts.len(), 7);
}

#[test]
fn what_gives_the_class_away_is_found() {
    let (_folder, ffdi) = on_disk(60, 40);
    change_fakes(&ffdi, |bytes| png_of(&bytes, 0));
    let audit = of(&ffdi);
    for feature in ["format", "file size", "bytes per pixel", "JPEG quality"] {
        assert!(shortcut(&audit, feature).is_suspicious(), "{feature}");
    }
    assert_eq!(shortcut(&audit, "format").auc, 1.0);
    assert_eq!(shortcut(&audit, "width").auc, 0.5);
    assert!(!shortcut(&audit, "mean colour").is_suspicious());
    let text = audit.to_string();
    for part in ["format alone tells `fake` with an AUC of 1.000", "JPEG 30, PNG 30", "<- yes", "32 to 32"] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }

    let (_folder, ffdi) = on_disk(60, 40);
    change_fakes(&ffdi, |bytes| png_of(&bytes, 120));
    assert!(shortcut(&of(&ffdi), "mean colour").auc > 0.95);
}

#[test]
fn duplicates_near_and_exact_are_found_across_splits() {
    let (_folder, ffdi) = on_disk(8, 4);
    let listing = ffdi.list().unwrap();
    let copied = listing.train.iter().find(|item| item.target != listing.val[1].target).unwrap();
    let source = ffdi.root.join("trainset").join(&copied.name);
    fs::copy(&source, ffdi.root.join("valset").join(&listing.val[1].name)).unwrap();
    fs::write(ffdi.root.join("valset").join(&listing.val[2].name), png_of(&fs::read(&source).unwrap(), 6)).unwrap();
    let audit = of(&ffdi);
    assert_eq!(audit.duplicates.len(), 1);
    assert_eq!((&audit.duplicates[0].first.1, &audit.duplicates[0].second.1), (&copied.name, &listing.val[1].name));
    assert!(audit.duplicates[0].contradiction);
    let near: Vec<&str> = audit.near_duplicates.iter().map(|twin| twin.second.1.as_str()).collect();
    assert_eq!(near, [&listing.val[2].name]);
    let text = audit.warnings.join("\n");
    assert!(text.contains("2 images stand in both splits") && text.contains("different classes"), "{text}");
}

/// `runner data check`, told what to do about unreadable images: the exit code and standard output.
fn check(ffdi: &Ffdi, on_bad: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let file: PathBuf = ffdi.root.join("file.toml");
    let root = ffdi.root.display();
    let text = format!("[data.ffdi]\nroot = \"{root}\"\non_bad_image = \"{on_bad}\"\n[[experiment]]\nname = \"a\"\n");
    fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_runner")).args(["data", "check"]).arg(&file).args(arguments).output();
    let output = output.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_exit_code_tells_whether_anything_would_start() {
    let (_folder, ffdi) = on_disk(8, 4);
    assert_eq!(check(&ffdi, "error", &[]).0, Some(0));
    fs::write(ffdi.root.join("valset/val_000000.jpg"), b"broken").unwrap();
    let (code, text) = check(&ffdi, "error", &[]);
    assert_eq!(code, Some(2));
    assert!(text.contains("val_000000.jpg: ") && text.contains("nothing starts on 1 unreadable"), "{text}");
    assert_eq!(check(&ffdi, "skip", &[]).0, Some(0));
    let (_, json) = check(&ffdi, "skip", &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["experiments"][0], "a");
    assert_eq!(json[0]["audit"]["splits"][1]["unreadable"][0][0], "val_000000.jpg");
    assert_eq!(OnBadImage::default(), OnBadImage::Error);
}
