//! Images that go or change while a sweep runs on them.

use crate::sweeps::{Bench, TINY, end, files, journalled, signal, text, wait_until, workers};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

const SYNTHETIC: &str = "[data.synthetic]\ntrain = 16\nval = 8\nsize = 16\n";

/// A sweep over images in files, and one of those.
fn bench(epochs: &str) -> (Bench, PathBuf) {
    let file = TINY.replace(SYNTHETIC, "[data.ffdi]\nroot = \"faces\"\n").replace("epochs = 2", epochs);
    assert!(file.contains("ffdi"));
    let bench = Bench::new(&file);
    let mut synth = Command::new(env!("CARGO_BIN_EXE_runner"));
    synth.current_dir(bench.path()).args(["data", "synth", "faces", "--train", "16", "--val", "8", "--size", "16"]);
    assert!(synth.output().unwrap().status.success());
    let is_image = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jpg");
    let image = files(&bench.path().join("faces/trainset")).into_iter().find(is_image).expect("an image");
    (bench, image)
}

/// A sweep that has begun to train.
fn training(bench: &Bench) -> Child {
    let child = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), "\"event\":\"step\"")));
    child
}

#[test]
fn an_image_deleted_in_the_middle_is_not_missed_until_it_is_needed() {
    let (bench, image) = bench("epochs = 2");
    bench.complete("undisturbed", &[]);
    let child = training(&bench);
    let bytes = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    let output = end(child, Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));

    let output = bench.run("out", &[]);
    let name = image.file_name().unwrap().to_str().unwrap();
    assert!(output.status.code() == Some(2) && text(&output).contains(name), "{}", text(&output));

    fs::write(&image, bytes).unwrap();
    bench.complete("out", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 2);
    bench.assert_clean("out");
}

/// A worker that starts anew must not train a run on other images than its id speaks of.
#[test]
fn an_image_changed_in_the_middle_makes_other_runs() {
    let (bench, image) = bench("epochs = 30");
    let child = training(&bench);
    let old = fs::read(&image).unwrap();
    let other =
        files(&bench.path().join("faces/valset")).into_iter().find(|path| path.extension() == image.extension());
    fs::copy(other.unwrap(), &image).unwrap();
    workers(bench.path()).into_iter().for_each(|worker| signal(worker, libc::SIGKILL));
    let output = end(child, Duration::from_secs(60));
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("the images have changed"), "{said}");
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE status = 'finished'"), 0);

    fs::write(&image, old).unwrap();
    bench.complete("out", &[]);
    bench.complete("undisturbed", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}
