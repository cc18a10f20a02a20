//! `predict`, `eval` and `data preview` as a user runs them, on a finished sweep.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod sweeps;

use serde_json::Value as Json;
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, sync::OnceLock};
use sweeps::{Bench, TWO_EXPERIMENTS};

/// A sweep of four runs, and the same images as a folder.
fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let bench = Bench::new(TWO_EXPERIMENTS);
        bench.complete("results", &[]);
        ok(&bench, &["data", "synth", "set", "--train", "24", "--val", "16", "--size", "32"]);
        bench
    })
}

/// The exit code, standard output and standard error.
fn runner(bench: &Bench, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_runner")).current_dir(bench.path()).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn ok(bench: &Bench, arguments: &[&str]) -> String {
    let (code, out, error) = runner(bench, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {error}");
    out
}

const SET: [&str; 4] = ["--images", "set/valset", "--labels", "set/valset_label.txt"];

fn eval(arguments: &[&str]) -> Json {
    let out = ok(bench(), &[&["eval", "--json"], &SET[..], arguments].concat());
    serde_json::from_str(&out).unwrap()
}

/// Probabilities of class 1 by image.
fn predict(images: &str, arguments: &[&str]) -> Vec<(String, f64)> {
    let out = ok(bench(), &[&["predict", "--out", "-", "--images", images], arguments].concat());
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("img_name,y_pred"));
    lines.map(|line| line.split_once(',').unwrap()).map(|(name, p)| (name.into(), p.parse().unwrap())).collect()
}

fn ids() -> Vec<String> {
    let ids = bench().runs("results").into_iter().map(|run| run.file_name().unwrap().to_string_lossy().into_owned());
    ids.collect()
}

fn close(a: &[(String, f64)], b: &[(String, f64)], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.1 - b.1).abs() <= tolerance)
}

#[test]
fn eval_repeats_what_the_run_said_of_itself() {
    let id = &ids()[0];
    let report = eval(&["--run", id]);
    let stored = bench().query("results", &format!("SELECT name, value FROM summaries WHERE run_id = '{id}'"));
    let mut compared = 0;
    for row in stored {
        let [rusqlite::types::Value::Text(name), rusqlite::types::Value::Real(value)] = &row[..] else { continue };
        if let Some(ours) = report["metrics"][name].as_f64() {
            assert!((ours - value).abs() < 1e-6, "{name}: {ours} and not {value}");
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared} metrics compared");
    assert!(report["notes"][0].as_str().unwrap().contains("optimistic"), "{report}");
}

#[test]
fn flipped_images_score_the_same_under_flips() {
    let folder = bench().path().join("mirrored");
    fs::create_dir_all(&folder).unwrap();
    let files: Vec<PathBuf> =
        fs::read_dir(bench().path().join("set/valset")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let plain = bench().path().join("plain");
    fs::create_dir_all(&plain).unwrap();
    for file in files {
        let image = runner::data::decode::decode(&fs::read(&file).unwrap()).unwrap();
        let pixels = image::RgbImage::from_raw(image.width as u32, image.height as u32, image.pixels).unwrap();
        let name = file.with_extension("png").file_name().unwrap().to_owned();
        pixels.save(plain.join(&name)).unwrap();
        image::imageops::flip_horizontal(&pixels).save(folder.join(&name)).unwrap();
    }
    let id = &ids()[0];
    for average in ["probabilities", "logits"] {
        let arguments = ["--run", id, "--average", average, "--tta"];
        let score = |images, tta| predict(images, &[&arguments[..], &[tta]].concat());
        assert!(close(&score("plain", "2"), &score("mirrored", "hflip"), 1e-5));
        assert!(close(&score("plain", "8"), &score("mirrored", "8"), 1e-5));
        assert!(!close(&score("plain", "1"), &score("mirrored", "1"), 1e-5));
    }
}

#[test]
fn an_ensemble_is_the_weighted_mean_of_its_runs() {
    let ids = ids();
    let set = "set/valset";
    let [a, b] = [&ids[0], &ids[1]].map(|id| predict(set, &["--run", id]));
    let both = ["--run", &ids[0], "--run", &ids[1], "--run", &ids[0]];
    let mean = |share: f64| -> Vec<(String, f64)> {
        a.iter().zip(&b).map(|(a, b)| (a.0.clone(), share * a.1 + (1.0 - share) * b.1)).collect()
    };
    assert!(close(&predict(set, &both), &mean(0.5), 1e-6));
    assert!(close(&predict(set, &[&both[..], &["--ensemble-weights", "1,3"]].concat()), &mean(0.25), 1e-6));
    let logit = |p: f64| (p / (1.0 - p)).ln();
    let pooled = |(a, b): (&(String, f64), &(String, f64))| {
        (a.0.clone(), 1.0 / (1.0 + (-(logit(a.1) + logit(b.1)) / 2.0).exp()))
    };
    let logits: Vec<(String, f64)> = a.iter().zip(&b).map(pooled).collect();
    assert!(close(&predict(set, &[&both[..], &["--average", "logits"]].concat()), &logits, 1e-5));
}

#[test]
fn names_of_sweeps_and_experiments_mean_their_runs() {
    let models = |run: &str| eval(&["--run", run])["models"].as_array().unwrap().len();
    assert_eq!([models("tiny"), models("tiny/other"), models("baseline")], [4, 2, 2]);
    let report = eval(&["--run", "tiny", "--ensemble-weights", "fit", "--calibrate"]);
    let weights: Vec<f64> =
        report["models"].as_array().unwrap().iter().map(|model| model["weight"].as_f64().unwrap()).collect();
    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9 && weights.iter().all(|weight| *weight >= 0.0));
    let [before, after] = [0, 1].map(|at| report["calibration"]["log_loss"][at].as_f64().unwrap());
    assert!(after <= before && report["calibration"]["applied"] == true, "{report}");
    assert_ne!(weights[0], weights[1]);
}

#[test]
fn calibration_moves_probabilities_and_no_ranks() {
    let (plain, calibrated) = (eval(&["--run", "tiny"]), eval(&["--run", "tiny", "--calibrate"]));
    assert_eq!(plain["metrics"]["auc"], calibrated["metrics"]["auc"]);
    assert_eq!(plain["metrics"]["accuracy"], calibrated["metrics"]["accuracy"]);
    assert_ne!(plain["threshold"]["value"], calibrated["threshold"]["value"]);
    let best = |report: &Json| {
        let at = &report["threshold"]["metrics"];
        at["tpr"].as_f64().unwrap() - at["fpr"].as_f64().unwrap()
    };
    assert!((best(&plain) - best(&calibrated)).abs() < 1e-9);
    let half = plain["metrics"]["tpr"].as_f64().unwrap() - plain["metrics"]["fpr"].as_f64().unwrap();
    assert!(best(&plain) >= half - 1e-9);
}

#[test]
fn groups_and_damages_have_their_tables() {
    let labels = fs::read_to_string(bench().path().join("set/valset_label.txt")).unwrap();
    let mut text = String::from("img_name,target,generator\n");
    for (at, line) in labels.lines().skip(1).enumerate() {
        let generator = if line.ends_with('1') { ["gan", "diffusion"][at % 2] } else { "none" };
        text += &format!("{line},{generator}\n");
    }
    fs::write(bench().path().join("generators.csv"), text).unwrap();
    let base = ["eval", "--run", "baseline", "--images", "set/valset", "--labels", "generators.csv", "--robustness"];
    let with = |more: &[&str]| ok(bench(), &[&base[..], &["--groups", "generator"], more].concat());
    let report: Json = serde_json::from_str(&with(&["--json"])).unwrap();
    let groups: BTreeMap<&str, &Json> =
        report["groups"].as_array().unwrap().iter().map(|group| (group["name"].as_str().unwrap(), group)).collect();
    assert_eq!(groups.keys().copied().collect::<Vec<_>>(), ["diffusion", "gan", "none"]);
    assert!(groups.values().all(|group| group["one_class"] == true && group["metrics"]["auc"].is_number()));
    let cells = report["robustness"]["cells"].as_array().unwrap();
    assert!(cells.len() >= 8, "{}", cells.len());
    for cell in cells {
        for name in ["auc", "accuracy"] {
            let [value, drop, clean] =
                [&cell["metrics"], &cell["drop"], &report["metrics"]].map(|v| v[name].as_f64().unwrap());
            assert!((clean - value - drop).abs() < 1e-12);
        }
    }
    let text = with(&["--out", "tables.csv"]);
    for part in ["generator", "gan*", "damage", "brightness factor 0.6", "at 0.5"] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
    let csv = fs::read_to_string(bench().path().join("tables.csv")).unwrap();
    assert!(csv.starts_with("table,name,metric,value\nwhole,at 0.5,accuracy,"), "{csv}");
    assert!(csv.contains("group,gan,auc,") && csv.contains("robustness,contrast factor 0.8,auc_drop,"), "{csv}");
    assert_eq!(text, with(&[]), "repeating it changed something");
}

#[test]
fn mistakes_say_what_to_do() {
    let refused = |arguments: &[&str], part: &str| {
        let (code, _, error) = runner(bench(), &[&["eval"], &SET[..], arguments].concat());
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(error.contains(part), "{part} not in {error}");
    };
    refused(&["--run", "nothing"], "no run `nothing`");
    refused(&["--run", "tiny", "--tta", "flip"], "did you mean");
    refused(&["--run", "tiny", "--ensemble-weights", "1,2"], "2 numbers for 4 runs");
    refused(&["--run", "tiny", "--ensemble-weights", "best"], "equal, fit");
    refused(&["--run", "tiny", "--threshold", "best"], "youden, accuracy, fpr=0.01");
    refused(&["--run", "tiny", "--groups", "folder"], "no image name has a folder");
    refused(&["--run", "tiny", "--groups", "generator"], "no column `generator`");
    refused(&["--run", "tiny", "--out", "table.txt"], ".json or .csv");
    refused(&["--run", "tiny", "--device", "gpu"], "unknown device `gpu`");
    refused(&["--run", "tiny", "--device", "cpu", "--precision", "bf16"], "needs a CUDA device");
    refused(&["--run", "tiny", "--precision", "half"], "known are auto, f32");
}

#[test]
fn a_preview_shows_every_augmentation() {
    let file = TWO_EXPERIMENTS.replace(
        "augment = [{ random_horizontal_flip = {} }]",
        "augment = [{ random_horizontal_flip = {} }, { color_jitter = { hue = 0.3 } }, { mixup = { alpha = 1.0 } }]",
    );
    fs::write(bench().path().join("mixing.toml"), file).unwrap();
    let shown = ok(bench(), &["data", "preview", "mixing.toml", "--out", "sheets", "--draws", "3"]);
    let bytes = fs::read(bench().path().join("sheets/baseline.png")).unwrap();
    let sheet = runner::data::decode::decode(&bytes).unwrap();
    // Three entries and all together on two images each, and a batch of four before and after: nine rows.
    assert!(sheet.height > 9 * 96 && sheet.width >= 4 * 96, "{} x {}", sheet.width, sheet.height);
    let page = fs::read_to_string(bench().path().join("sheets/index.html")).unwrap();
    assert_eq!(page.matches("data:image/png;base64,iVBOR").count(), 2);
    assert!(page.contains("color_jitter") && page.contains("mixup"));
    assert!(shown.contains("sheets/other.png") && shown.contains("sheets/index.html"), "{shown}");
    ok(bench(), &["data", "preview", "mixing.toml", "--out", "again", "--draws", "3"]);
    assert_eq!(bytes, fs::read(bench().path().join("again/baseline.png")).unwrap());
}
