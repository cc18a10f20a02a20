//! What goes wrong around a sweep: each case ends in a message and a state the same command can go on from, to the
//! numbers of an undisturbed sweep, bit for bit. `RUNNER_FAULTS=200` tries each seeded fault so often.
#![cfg(target_os = "linux")]

mod clock;
mod damage;
mod disk;
mod images;
mod kills;
mod locked;
mod memory;
#[allow(dead_code)]
#[path = "../sweeps/mod.rs"]
mod sweeps;

use std::{fs, io::Write, time::Duration};
use sweeps::{Bench, TWO_EXPERIMENTS, end, signal, text, wait_until, workers};

/// Says what is not tested here, past the capture of a test's output.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// How often a seeded fault is tried: `RUNNER_FAULTS` times where that is set.
fn trials(usual: u32) -> u32 {
    std::env::var("RUNNER_FAULTS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

#[test]
fn a_worker_killed_three_times_fails_its_run() {
    let file = TWO_EXPERIMENTS.replace("seeds = [0, 1]", "seeds = [0]").replace("epochs = 2", "epochs = 50");
    let bench = Bench::new(&file);
    let child = bench.sweep("out", &["--only", "baseline"]).spawn().unwrap();
    let mut killed = Vec::new();
    let done = wait_until(Duration::from_secs(60), || {
        for worker in workers(bench.path()).into_iter().filter(|worker| !killed.contains(worker)).collect::<Vec<_>>() {
            signal(worker, libc::SIGKILL);
            killed.push(worker);
        }
        killed.len() == 3
    });
    assert!(done, "{killed:?}");
    let output = end(child, Duration::from_secs(30));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("SIGKILL") && said.contains("3 attempts") && said.contains("log.txt"), "{said}");
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE status = 'failed'"), 1);

    bench.complete("out", &["--only", "baseline", "--set", "epochs=1"]);
}

#[test]
fn a_results_folder_that_cannot_be_written_is_told_before_anything_starts() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    fs::write(bench.path().join("file"), "").unwrap();
    for out in ["file", "file/below", "/proc/results"] {
        let output = bench.run(out, &[]);
        let said = text(&output);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
        assert!(said.contains(out) && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_diverged_run_fails_alone_and_once() {
    let file = TWO_EXPERIMENTS.replace("lr = 0.002", "lr = 1e30");
    let bench = Bench::new(&file);
    let output = bench.run("out", &["--jobs", "2"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED") && said.contains("step") && said.contains("log.txt"), "{said}");
    let status = |status| bench.count("out", &format!("SELECT count(*) FROM runs WHERE status = '{status}'"));
    assert_eq!((status("finished"), status("failed")), (2, 2));
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE cause = 'non_finite' AND attempts = 1"), 2);
    bench.assert_clean("out");
}

#[test]
fn three_runs_that_fail_alike_stop_the_sweep() {
    let file = TWO_EXPERIMENTS
        .replace("seeds = [0, 1]", "seeds = [0, 1, 2, 3, 4, 5]")
        .replace("\"resnet18\" }", "\"resnet18\", weights = \"damaged.safetensors\" }");
    let bench = Bench::new(&file);
    fs::write(bench.path().join("damaged.safetensors"), "nothing of the kind").unwrap();
    let output = bench.run("out", &["--jobs", "1"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("three runs failed alike") && said.contains("damaged.safetensors"), "{said}");
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE status = 'failed'"), 3);
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE status = 'pending'"), 9);
}
