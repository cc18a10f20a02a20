//! Somebody else holds the results: another program, another sweep.

use crate::sweeps::{Bench, TINY, end, journalled, text, wait_until};
use rusqlite::Connection;
use std::{fs, time::Duration};

/// Holds a results file as a database browser with unsaved changes does.
fn hold(bench: &Bench, out: &str) -> Connection {
    let db = Connection::open(bench.out(out).join("runner.sqlite")).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    db
}

#[test]
fn a_store_locked_by_another_program_is_waited_for() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &["--jobs", "2"]);
    let child = bench.sweep("out", &["--jobs", "2"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), "\"event\":\"started\"")));
    let held = hold(&bench, "out");
    std::thread::sleep(Duration::from_secs(12));
    held.execute_batch("ROLLBACK").unwrap();
    drop(held);
    let output = end(child, Duration::from_secs(60));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("waiting") && said.contains("another program holds the results file"), "{said}");
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 2, "no run was disturbed");
    bench.complete("out", &[]);
    bench.assert_clean("out");
}

#[test]
fn a_store_that_stays_locked_is_told_before_anything_starts() {
    let bench = Bench::new(TINY);
    bench.complete("out", &["--only", "baseline"]);
    let held = hold(&bench, "out");
    let output = bench.run("out", &[]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("runner.sqlite") && said.contains("close it and run this again"), "{said}");
    held.execute_batch("ROLLBACK").unwrap();
    drop(held);
    bench.complete("out", &[]);
    bench.complete("undisturbed", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}

#[test]
fn two_sweeps_at_once_do_everything_once() {
    let bench = Bench::new(TINY);
    let first = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
    let (holder, lock) = (first.id(), bench.out("out").join(".lock"));
    assert!(wait_until(Duration::from_secs(30), || fs::read_to_string(&lock).is_ok_and(|who| !who.is_empty())));
    let second = bench.run("out", &["--jobs", "2"]);
    let first = first.wait_with_output().unwrap();
    assert_eq!((first.status.code(), second.status.code()), (Some(0), Some(0)), "{}{}", text(&first), text(&second));
    let holder = format!("is in use by the sweep `tiny`, process {holder} on");
    assert!(text(&second).contains(&holder), "{}", text(&second));
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 2);
    bench.assert_clean("out");
}

/// The second waits, the first is killed, the second does what is left.
#[test]
fn the_waiting_sweep_takes_over_from_a_killed_one() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &[]);
    let mut first = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), "\"event\":\"step\"")));
    let second = bench.sweep("out", &["--jobs", "2"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    first.kill().unwrap();
    first.wait().unwrap();
    let second = end(second, Duration::from_secs(60));
    assert_eq!(second.status.code(), Some(0), "{}", text(&second));
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}
