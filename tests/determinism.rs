//! The same specification comes to the same numbers, bit for bit, whatever runs beside it.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod sweeps;

use sweeps::{Bench, TWO_EXPERIMENTS};

#[test]
fn jobs_and_repetition_change_no_bit() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    bench.complete("alone", &["--jobs", "1"]);
    bench.complete("pairs", &["--jobs", "2"]);
    bench.complete("again", &["--jobs", "1"]);
    let alone = bench.numbers("alone");
    assert_eq!(bench.count("alone", "SELECT count(*) FROM runs WHERE status = 'finished'"), 4);
    assert!(alone.len() > 100, "{alone:#?}");
    assert_eq!(alone, bench.numbers("again"), "repeating it changed something");
    assert_eq!(alone, bench.numbers("pairs"), "--jobs changed something");
    ["alone", "pairs", "again"].iter().for_each(|out| bench.assert_clean(out));
}

#[test]
fn the_second_time_there_is_nothing_to_do() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    bench.complete("out", &[]);
    bench.complete("out", &[]);
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 4);
}

#[test]
fn every_fold_is_a_run_and_the_report_takes_them_together() {
    let file = TWO_EXPERIMENTS.replace("seeds = [0, 1]", "seeds = [0]\nfolds = 3").replace("epochs = 2", "epochs = 1");
    let bench = Bench::new(&file);
    bench.complete("out", &[]);
    bench.complete("out", &[]);
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 6, "every fold runs, and runs once");
    assert_eq!(bench.count("out", "SELECT count(DISTINCT fold) FROM runs"), 3);
    let twice = "SELECT image FROM predictions JOIN sweep_runs USING (run_id) WHERE class = 0 AND split = 'val'
                 GROUP BY experiment, image HAVING count(*) <> 1";
    assert_eq!(bench.query("out", twice).len(), 0, "each image is validated once");
    let validated = "SELECT count(DISTINCT image) FROM predictions WHERE split = 'val' AND image LIKE 'train%'";
    assert_eq!(bench.count("out", validated), 24, "all training images, and no others");
    let report = std::fs::read_to_string(bench.out("out").join("tiny/report.md")).unwrap();
    for text in ["1 × 3", "paired over 3 folds", "Nadeau"] {
        assert!(report.contains(text), "{text} is not in\n{report}");
    }
    let plan = std::process::Command::new(env!("CARGO_BIN_EXE_runner"))
        .current_dir(bench.path())
        .args(["plan", "tiny.toml", "--out", "out", "--brief"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&plan.stdout).contains("fold 2"), "{}", sweeps::text(&plan));
    let export = std::process::Command::new(env!("CARGO_BIN_EXE_runner"))
        .current_dir(bench.path())
        .args(["export", "tiny", "--out", "out"])
        .output()
        .unwrap();
    assert!(export.status.success(), "{}", sweeps::text(&export));
    let lines = |name: &str| {
        let text = std::fs::read_to_string(bench.out("out").join("tiny/export").join(name)).unwrap();
        text.lines().map(|line| line.split(',').count()).collect::<Vec<_>>()
    };
    assert_eq!(lines("runs.csv").len(), 1 + 6);
    assert_eq!(lines("predictions.csv").len(), 1 + 2 * 24 * 2, "experiments x images x classes");
    assert!(lines("metrics.csv").iter().all(|&fields| fields == 10));
}

#[test]
fn a_run_another_sweep_finished_is_not_repeated() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    bench.complete("out", &["--only", "baseline"]);
    let file = TWO_EXPERIMENTS.replace("name = \"tiny\"", "name = \"wider\"").replace("[0, 1]", "[0, 1, 2]");
    std::fs::write(bench.path().join("tiny.toml"), file).unwrap();
    bench.complete("out", &["--only", "baseline"]);
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 3);
    assert_eq!(bench.count("out", "SELECT count(*) FROM sweep_runs WHERE sweep = 'wider'"), 3);
}
