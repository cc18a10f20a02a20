//! Sweeps whose results decide what runs next, as a user runs them: real processes, killed and started again.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod sweeps;

use std::time::{Duration, Instant};
use sweeps::{Bench, TWO_EXPERIMENTS, end, signal, text, wait_until, workers};

/// Six learning rates of one experiment over four epochs, pruned after the first and the second.
fn pruned() -> String {
    let file = TWO_EXPERIMENTS.replace("epochs = 2", "epochs = 4").replace("seeds = [0, 1]", "seeds = [0]");
    let (head, _) = file.split_once("[[experiment]]\nname = \"other\"").unwrap();
    format!(
        "{head}[sweep]\nseeds = [0]\npruning.asha = {{ reduction = 2 }}\n\
         grid = {{ \"optimizer.adam.lr\" = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03] }}\n"
    )
}

#[test]
fn paused_runs_go_on_from_their_checkpoints_and_pruned_ones_stay() {
    let bench = Bench::new(&pruned());
    bench.complete("out", &["--jobs", "1"]);
    let status = |status: &str| bench.count("out", &format!("SELECT count(*) FROM runs WHERE status = '{status}'"));
    assert_eq!((status("finished"), status("pruned")), (1, 5));
    let epochs = "SELECT count(*) FROM metrics WHERE split = 'val' AND name = 'loss' AND step IS NULL";
    assert_eq!(bench.count("out", epochs), 6 + 3 + 2, "six after one epoch, three after two, one to the end");
    let again = "SELECT count(*) FROM attempts WHERE epoch > 0";
    assert_eq!(bench.count("out", again), 4, "promoted runs began where they had paused");
    let report = std::fs::read_to_string(bench.path().join("out/tiny/report.md")).unwrap();
    assert!(report.contains("pruned") && report.contains("at 1 of 4"), "{report}");
    bench.assert_clean("out");

    let said = text(&bench.run("out", &["--jobs", "1"]));
    assert!(said.contains("0 runs finished"), "{said}");
    bench.complete("out", &["--jobs", "2", "--set", "sweep.pruning=false"]);
    assert_eq!((status("finished"), status("pruned")), (6, 0), "without pruning all go on");
    assert_eq!(bench.count("out", epochs), 6 * 4);
}

#[test]
fn a_pruned_sweep_that_was_killed_comes_to_the_same() {
    let bench = Bench::new(&pruned());
    let start = Instant::now();
    bench.complete("whole", &["--jobs", "1"]);
    let length = start.elapsed().as_millis() as u64;
    let expected = bench.numbers("whole");
    for kill in 1..4 {
        let mut child = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(length * kill / 5));
        let _ = child.kill();
        let _ = child.wait();
        workers(bench.path()).into_iter().for_each(|worker| signal(worker, libc::SIGKILL));
        assert!(wait_until(Duration::from_secs(30), || workers(bench.path()).is_empty()));
    }
    let child = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
    let output = end(child, Duration::from_secs(300));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let numbers = bench.numbers("out");
    let differ: Vec<&String> = numbers
        .iter()
        .filter(|n| !expected.contains(n))
        .chain(expected.iter().filter(|n| !numbers.contains(n)))
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
    bench.assert_clean("out");
}
