//! A sweep that was stopped goes on by the same command and ends on the numbers of an undisturbed one, bit for bit.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod sweeps;

use std::time::Duration;
use sweeps::{Bench, TWO_EXPERIMENTS, end, journalled, signal, text, wait_until, workers};

#[test]
fn ctrl_c_stops_cleanly_and_the_same_command_goes_on() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    bench.complete("undisturbed", &[]);
    let child = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), "\"event\":\"step\"")));
    signal(child.id(), libc::SIGINT);
    let output = end(child, Duration::from_secs(30));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("the same command goes on"), "{}", text(&output));
    bench.assert_clean("out");
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE status IN ('running', 'failed')"), 0);

    bench.complete("out", &["--jobs", "1"]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
}

#[test]
fn a_second_ctrl_c_stops_at_once() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    let child = bench.sweep("out", &["--jobs", "2"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || !workers(bench.path()).is_empty()));
    signal(child.id(), libc::SIGINT);
    std::thread::sleep(Duration::from_millis(50));
    signal(child.id(), libc::SIGTERM);
    end(child, Duration::from_secs(5));
    bench.assert_clean("out");
    bench.complete("out", &[]);
}

/// The coordinator dies alone: its workers write their checkpoints and leave by themselves.
#[test]
fn no_worker_outlives_its_coordinator() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    let mut child = bench.sweep("out", &["--jobs", "2"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || workers(bench.path()).len() == 2));
    signal(child.id(), libc::SIGKILL);
    child.wait().unwrap();
    assert!(wait_until(Duration::from_secs(20), || workers(bench.path()).is_empty()), "a worker is left");
}

/// Journals are enough: without its SQLite file a sweep is whole again after the same command, and nothing is repeated.
#[test]
fn a_lost_store_is_made_again_from_the_journals() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    bench.complete("out", &[]);
    let expected = bench.numbers("out");
    for name in ["runner.sqlite", "runner.sqlite-wal", "runner.sqlite-shm"] {
        let _ = std::fs::remove_file(bench.out("out").join(name));
    }
    bench.complete("out", &[]);
    assert_eq!(bench.numbers("out"), expected);
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 4);
}
