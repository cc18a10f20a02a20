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
fn a_run_another_sweep_finished_is_not_repeated() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    bench.complete("out", &["--only", "baseline"]);
    let file = TWO_EXPERIMENTS.replace("name = \"tiny\"", "name = \"wider\"").replace("[0, 1]", "[0, 1, 2]");
    std::fs::write(bench.path().join("tiny.toml"), file).unwrap();
    bench.complete("out", &["--only", "baseline"]);
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 3);
    assert_eq!(bench.count("out", "SELECT count(*) FROM sweep_runs WHERE sweep = 'wider'"), 3);
}
