//! A sweep at work, told from another terminal what to do: real processes on both sides.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod sweeps;

use std::{
    process::{Child, Command},
    time::Duration,
};
use sweeps::{Bench, TWO_EXPERIMENTS, end, journalled, signal, text, wait_until, workers};

const SOON: Duration = Duration::from_secs(240);

/// Two runs that take long enough to be talked to.
fn long() -> Bench {
    Bench::new(&TWO_EXPERIMENTS.replace("epochs = 2", "epochs = 8").replace("seeds = [0, 1]", "seeds = [0]"))
}

/// `runner WORDS --out out` in the folder of a sweep; has to succeed, and returns what it said.
fn tell(bench: &Bench, words: &[&str]) -> String {
    let output = command(bench, words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    text(&output)
}

fn command(bench: &Bench, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.current_dir(bench.path()).args(words).args(["--out", "out"]);
    command
}

/// Starts a sweep and waits until its runs journal steps.
fn start(bench: &Bench, jobs: &str) -> Child {
    let child = bench.sweep("out", &["--jobs", jobs]).spawn().unwrap();
    assert!(wait_until(SOON, || journalled(&bench.out("out"), "\"event\":\"step\"")));
    child
}

fn count(bench: &Bench, condition: &str) -> i64 {
    bench.count("out", &format!("SELECT count(*) FROM runs WHERE {condition}"))
}

/// The run of an experiment.
fn run_of(bench: &Bench, experiment: &str) -> String {
    let sql = format!("SELECT run_id FROM sweep_runs WHERE experiment = '{experiment}'");
    match &bench.query("out", &sql)[0][0] {
        rusqlite::types::Value::Text(id) => id.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_paused_sweep_frees_its_slots_and_resumes_to_the_same_numbers() {
    let bench = long();
    bench.complete("undisturbed", &["--jobs", "2"]);
    let child = start(&bench, "2");
    let said = tell(&bench, &["pause", "tiny"]);
    assert!(said.contains("paused: 2 runs at work"), "{said}");
    assert!(wait_until(SOON, || workers(bench.path()).is_empty()), "workers are left");
    assert!(wait_until(SOON, || count(&bench, "held AND status = 'pending'") == 2), "the store does not say so");
    let said = tell(&bench, &["resume", "tiny"]);
    assert!(said.contains("resumed: 2 runs"), "{said}");
    let output = end(child, SOON);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}

#[test]
fn a_paused_run_leaves_its_slot_to_others_and_the_sweep_waits_for_it() {
    let bench = long();
    let mut child = start(&bench, "1");
    let baseline = run_of(&bench, "baseline");
    tell(&bench, &["pause", &baseline[..8]]);
    assert!(wait_until(SOON, || count(&bench, "status = 'finished'") == 1), "the other run did not get the slot");
    assert_eq!(count(&bench, &format!("held AND id = '{baseline}'")), 1);
    assert!(child.try_wait().unwrap().is_none(), "the sweep did not wait for its paused run");
    tell(&bench, &["resume"]);
    assert_eq!(end(child, SOON).status.code(), Some(0));
    assert_eq!(count(&bench, "status = 'finished' AND NOT held"), 2);
}

#[test]
fn a_stopped_sweep_ends_and_the_same_command_goes_on() {
    let bench = long();
    bench.complete("undisturbed", &["--jobs", "2"]);
    let child = start(&bench, "1");
    let said = tell(&bench, &["stop", "tiny"]);
    assert!(said.contains("stopped: 1 run at work") && said.contains("1 run waiting"), "{said}");
    let output = end(child, SOON);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("stopped with 2 runs to go; the same command goes on"), "{}", text(&output));
    assert_eq!(count(&bench, "status = 'pending'"), 2);
    bench.complete("out", &["--jobs", "2"]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}

#[test]
fn a_failed_run_is_tried_again_while_the_sweep_goes_on() {
    let file = TWO_EXPERIMENTS.replace("epochs = 2", "epochs = 8").replace("seeds = [0, 1]", "seeds = [0]").replacen(
        "name = \"baseline\"",
        "name = \"baseline\"\nbackbone.weights = \"later.safetensors\"",
        1,
    );
    let bench = Bench::new(&file);
    std::fs::write(bench.path().join("later.safetensors"), "not yet").unwrap();
    let child = bench.sweep("out", &["--jobs", "1"]).spawn().unwrap();
    assert!(wait_until(SOON, || journalled(&bench.out("out"), "\"event\":\"failed\"")));
    assert!(wait_until(SOON, || failed(&bench) == 1));
    let said = tell(&bench, &["retry", "tiny"]);
    assert!(said.contains("tried again: 1 run"), "{said}");
    let output = end(child, SOON);
    assert_eq!(text(&output).matches("FAILED   baseline").count(), 2, "{}", text(&output));
    let said = tell(&bench, &["retry"]);
    assert!(said.contains("1 run set back") && said.contains("runner sweep tiny.toml"), "{said}");
    assert_eq!(failed(&bench), 0);
}

fn failed(bench: &Bench) -> i64 {
    count(bench, "status = 'failed'")
}

#[test]
fn without_a_sweep_at_work_requests_change_the_store() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    let child = start(&bench, "1");
    signal(child.id(), libc::SIGINT);
    end(child, SOON);
    let said = tell(&bench, &["pause", "tiny"]);
    assert!(said.contains("no sweep is at work here") && said.contains("paused"), "{said}");
    let output = bench.run("out", &[]);
    assert!(text(&output).contains("left out:") && text(&output).contains("runner resume tiny"), "{}", text(&output));
    assert_eq!(count(&bench, "held"), count(&bench, "status = 'pending'"));
    assert!(tell(&bench, &["stop"]).contains("nothing to stop"));
    assert!(tell(&bench, &["resume", "tiny"]).contains("runner sweep tiny.toml"));
    bench.complete("out", &[]);
    assert_eq!(count(&bench, "status = 'finished'"), 4);
    let output = command(&bench, &["pause", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("no sweep (there is: tiny)"), "{}", text(&output));
}

#[test]
fn an_edited_file_shows_what_comes_and_what_goes() {
    let bench = Bench::new(&TWO_EXPERIMENTS.replace("epochs = 2", "epochs = 1"));
    bench.complete("out", &[]);
    let edited = TWO_EXPERIMENTS.replace("epochs = 2", "epochs = 1").replace("lr = 0.002", "lr = 0.003");
    std::fs::write(bench.path().join("tiny.toml"), edited).unwrap();
    let shown = "- optimizer.adam = { lr = 0.002 }";
    let dry = text(&bench.run("out", &["--dry-run"]));
    let output = bench.run("out", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for said in [dry, text(&output)] {
        assert!(said.contains(shown) && said.contains("+ optimizer.adam = { lr = 0.003 }"), "{said}");
        assert!(said.contains("runs: 2 added, 2 removed, 2 as before (2 finished)"), "{said}");
    }
    assert!(text(&output).contains("2 runs finished, 2 finished before"), "{}", text(&output));
    assert_eq!(count(&bench, "status = 'finished'"), 6);
    assert_eq!(bench.count("out", "SELECT count(*) FROM sweep_runs"), 4);
    assert_eq!(bench.count("out", "SELECT count(*) FROM removed_runs"), 2);
    let page = std::fs::read_to_string(bench.out("out/tiny/report.md")).unwrap();
    assert!(page.contains("Left out of everything here: 2 runs of earlier versions of the file"), "{page}");

    // The old file again: its runs are still there.
    std::fs::write(bench.path().join("tiny.toml"), TWO_EXPERIMENTS.replace("epochs = 2", "epochs = 1")).unwrap();
    let output = bench.run("out", &[]);
    assert!(text(&output).contains("0 runs finished, 4 finished before"), "{}", text(&output));
    // A part of it: the rest stays as it is.
    let output = bench.run("out", &["--only", "other"]);
    assert!(!text(&output).contains("removed"), "{}", text(&output));
    assert_eq!(bench.count("out", "SELECT count(*) FROM sweep_runs"), 4);
}

#[test]
fn a_run_tells_what_it_was_made_with_and_comes_out_the_same_again() {
    let bench = Bench::new(&TWO_EXPERIMENTS.replace("seeds = [0, 1]", "seeds = [0]"));
    let git = |words: &[&str]| Command::new("git").current_dir(bench.path()).args(words).output().unwrap();
    git(&["init", "-q"]);
    git(&["add", "tiny.toml"]);
    let author = ["-c", "user.name=a", "-c", "user.email=a@b"];
    git(&[&author[..], &["commit", "-q", "-m", "the file"]].concat());
    let file = std::fs::read_to_string(bench.path().join("tiny.toml")).unwrap();
    std::fs::write(bench.path().join("tiny.toml"), format!("# changed since\n{file}")).unwrap();
    bench.complete("out", &[]);

    let run = run_of(&bench, "baseline");
    let said = tell(&bench, &["show", &run]);
    let commit = String::from_utf8(git(&["rev-parse", "HEAD"]).stdout).unwrap();
    assert!(said.contains(commit.trim()) && said.contains("sweep tiny.toml --device cpu"), "{said}");
    let patches: Vec<_> = std::fs::read_dir(bench.out("out/provenance")).unwrap().flatten().collect();
    assert_eq!(patches.len(), 1);
    assert!(std::fs::read_to_string(patches[0].path()).unwrap().contains("+# changed since"));

    let said = tell(&bench, &["reproduce", &run[..8]]);
    assert!(said.contains("numbers are the same, bit for bit") && !said.contains("not as it was"), "{said}");
    let db = rusqlite::Connection::open(bench.out("out/runner.sqlite")).unwrap();
    db.execute("UPDATE metrics SET value = value + 1 WHERE run_id = ? AND epoch = 2 AND name = 'loss'", [&run])
        .unwrap();
    drop(db);
    let output = command(&bench, &["reproduce", &run]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("the numbers differ") && text(&output).contains("epoch 2, train loss"));
    bench.assert_clean("out");
    assert_eq!(scratch(&bench), 0);
}

/// Folders of runs outside of any sweep.
fn scratch(bench: &Bench) -> usize {
    let entries = std::fs::read_dir(bench.out("out")).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".scratch-")).count()
}

#[test]
fn resuming_is_proved_before_anything_starts() {
    let bench = Bench::new(TWO_EXPERIMENTS);
    let output = bench.run("out", &["--prove-resume", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("resuming is proved") && said.contains("killed after step"), "{said}");
    assert!(!bench.out("out/runner.sqlite").exists());
    assert_eq!(scratch(&bench), 0);
    assert!(wait_until(SOON, || sweeps::processes(bench.path()).is_empty()));
}

#[test]
fn a_sweep_at_work_can_be_watched() {
    let bench = long();
    let child = start(&bench, "1");
    let said = tell(&bench, &["watch", "tiny", "--once"]);
    assert!(said.contains("tiny: the sweep `tiny`, process") && said.contains("at work: 1"), "{said}");
    assert!(said.contains("baseline seed 0") && said.contains("waiting: 1"), "{said}");
    signal(child.id(), libc::SIGINT);
    end(child, SOON);
}
