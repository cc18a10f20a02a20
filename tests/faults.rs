//! What goes wrong around a sweep: each case ends in a message and a state the same command can go on from.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod sweeps;

use std::{fs, io::Write, time::Duration};
use sweeps::{Bench, TWO_EXPERIMENTS, end, journalled, signal, text, wait_until, workers};

#[test]
fn two_sweeps_at_once_do_everything_once() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    let first = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
    let (holder, lock) = (first.id(), bench.out("out").join(".lock"));
    assert!(wait_until(Duration::from_secs(30), || fs::read_to_string(&lock).is_ok_and(|who| !who.is_empty())));
    let second = bench.run("out", &["--jobs", "2"]);
    let first = first.wait_with_output().unwrap();
    assert_eq!((first.status.code(), second.status.code()), (Some(0), Some(0)), "{}{}", text(&first), text(&second));
    let holder = format!("is in use by the sweep `tiny`, process {holder} on");
    assert!(text(&second).contains(&holder), "{}", text(&second));
    assert_eq!(bench.count("out", "SELECT count(*) FROM attempts"), 4);
    bench.assert_clean("out");
}

#[test]
fn a_torn_journal_line_is_cut_off() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    bench.complete("undisturbed", &[]);
    stop_after(&bench, "\"event\":\"step\"");
    let run = bench.runs("out").into_iter().find(|run| run.join("journal.jsonl").exists()).unwrap();
    let mut journal = fs::OpenOptions::new().append(true).open(run.join("journal.jsonl")).unwrap();
    journal.write_all(b"{\"time\":1.0,\"attempt\":1,\"event\":\"epo").unwrap();
    bench.complete("out", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    let journal = fs::read_to_string(run.join("journal.jsonl")).unwrap();
    assert!(journal.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{journal}");
}

#[test]
fn a_truncated_checkpoint_costs_time_but_no_bit() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    bench.complete("undisturbed", &[]);
    stop_after(&bench, "\"event\":\"checkpoint\"");
    let checkpoint = |run: &std::path::PathBuf| run.join("checkpoints/last.safetensors");
    let checkpoint = bench.runs("out").iter().map(checkpoint).find(|path| path.exists()).unwrap();
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    bench.complete("out", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    assert!(bench.count("out", "SELECT count(*) FROM warnings WHERE message LIKE '%checkpoint%'") > 0);
}

/// Starts a sweep and stops it by Ctrl-C once its journals have `what`.
fn stop_after(bench: &Bench, what: &str) {
    let child = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), what)));
    signal(child.id(), libc::SIGINT);
    end(child, Duration::from_secs(30));
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
