//! A clock that is set back, as a machine's is by its first contact with the time server: a day, between two commands and
//! in the middle of a run. A small library, compiled for the test, stands between the program and the clock.

use crate::{
    skipped,
    sweeps::{Bench, TINY, end, journalled, signal, text, wait_until},
};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

/// A day ahead, until the file `clock-is-right` appears in the working directory.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    if (!failed && id == CLOCK_REALTIME && access("clock-is-right", F_OK)) now->tv_sec += 86400;
    return failed;
}
"#;

/// `None`, said aloud, where there is no C compiler.
fn clock(bench: &Bench) -> Option<PathBuf> {
    let (source, library) = (bench.path().join("clock.c"), bench.path().join("clock.so"));
    fs::write(&source, CLOCK).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    if compiled.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    skipped("there is no C compiler, so nothing is tested of a clock that is set back");
    None
}

fn set_right(bench: &Bench) {
    fs::write(bench.path().join("clock-is-right"), "").unwrap();
}

fn assert_undisturbed(bench: &Bench, output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", text(output));
    let times = |record: &serde_json::Value| record["time"].as_f64().unwrap();
    let back = bench.runs("out").iter().any(|run| {
        let journal = fs::read_to_string(run.join("journal.jsonl")).unwrap();
        let times: Vec<f64> = journal.lines().map(|line| times(&serde_json::from_str(line).unwrap())).collect();
        times.windows(2).any(|pair| pair[1] < pair[0] - 80_000.0)
    });
    assert!(back, "the clock was not set back within a run");
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts WHERE seen_at < started_at"), 0);
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE finished_at < started_at"), 0);
    assert_eq!(bench.count("out", "SELECT count(*) FROM summaries WHERE name = 'seconds' AND value > 3600"), 0);
    bench.assert_clean("out");
}

#[test]
fn set_back_in_the_middle_of_a_run() {
    let bench = Bench::new(&TINY.replace("epochs = 2", "epochs = 20"));
    let Some(library) = clock(&bench) else { return };
    bench.complete("undisturbed", &[]);
    let child = bench.sweep("out", &["--jobs", "1"]).env("LD_PRELOAD", &library).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), "\"event\":\"step\"")));
    set_right(&bench);
    assert_undisturbed(&bench, &end(child, Duration::from_secs(60)));
}

#[test]
fn set_back_between_two_commands() {
    let bench = Bench::new(&TINY.replace("epochs = 2", "epochs = 20"));
    let Some(library) = clock(&bench) else { return };
    bench.complete("undisturbed", &[]);
    let child = bench.sweep("out", &["--jobs", "1"]).env("LD_PRELOAD", &library).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), "\"event\":\"step\"")));
    signal(child.id(), libc::SIGINT);
    end(child, Duration::from_secs(30));
    set_right(&bench);
    assert_undisturbed(&bench, &bench.run("out", &[]));
}
