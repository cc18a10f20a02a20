//! What a results folder costs and how it is kept in order: prices, budgets, checkpoints that stay, and what may go.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod sweeps;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use sweeps::{Bench, TWO_EXPERIMENTS, text};

fn one_seed() -> String {
    TWO_EXPERIMENTS.replace("seeds = [0, 1]", "seeds = [0]")
}

/// What `runner WORDS --out out` said; has to succeed.
fn tell(bench: &Bench, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    let output = command.current_dir(bench.path()).args(words).args(["--out", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    text(&output)
}

/// Names of a run's checkpoints.
fn checkpoints(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_to_be_kept_is_kept() {
    let kept = |keep: &str| {
        let bench = Bench::new(&one_seed().replace("epochs = 2", &format!("epochs = 3\n{keep}")));
        bench.complete("out", &["--only", "baseline"]);
        checkpoints(&bench.runs("out")[0])
    };
    assert_eq!(kept("keep = \"last\""), ["last.safetensors"]);
    let names = kept("keep = \"all\"\nkeep_best = 2");
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("epoch-")).count(), 2, "{names:?}");
}

#[test]
fn a_budget_takes_the_worst_checkpoints_and_leaves_the_best_of_each_experiment() {
    let bench = Bench::new(&TWO_EXPERIMENTS.replace("[sweep]", "[sweep]\ndisk = \"1 kB\""));
    let output = bench.run("out", &["--jobs", "1"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("removed the checkpoints of run").count(), 2, "{said}");
    assert!(said.contains("more than `[sweep] disk` allows (1 kB)"), "{said}");
    let left: Vec<PathBuf> = bench.runs("out").into_iter().filter(|run| !checkpoints(run).is_empty()).collect();
    assert_eq!(left.len(), 2);
    for run in left {
        let id = run.file_name().unwrap().to_str().unwrap();
        let better = format!(
            "SELECT count(*) FROM summaries s JOIN sweep_runs m ON m.run_id = s.run_id WHERE s.name = 'accuracy'
             AND m.experiment = (SELECT experiment FROM sweep_runs WHERE run_id = '{id}')
             AND s.value > (SELECT value FROM summaries WHERE run_id = '{id}' AND name = 'accuracy')"
        );
        assert_eq!(bench.count("out", &better), 0, "{id} is not the best of its experiment");
    }
    assert_eq!(bench.count("out", "SELECT count(DISTINCT run_id) FROM predictions"), 4);
}

#[test]
fn a_budget_that_is_no_size_is_a_mistake_with_its_place() {
    let bench = Bench::new(&TWO_EXPERIMENTS.replace("[sweep]", "[sweep]\ndisk = \"plenty\""));
    let output = bench.run("out", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("`disk` is no size: \"plenty\"") && text(&output).contains("20 GB"));
}

#[test]
fn cleaning_takes_what_nothing_needs_and_nothing_else() {
    let bench = Bench::new(&one_seed());
    bench.complete("out", &[]);
    bench.complete("out", &["--set", "epochs=1"]);
    let out = bench.out("out");
    let removed: Vec<PathBuf> = bench.runs("out").into_iter().filter(|run| removed(&bench, run)).collect();
    assert_eq!(removed.len(), 2);
    let orphans = [out.join("cache/0123456789abcdef-16-bilinear-v1"), out.join("tiny/.unfinished-abc")];
    orphans.iter().for_each(|path| fs::write(path, [0; 1000]).unwrap());
    fs::create_dir_all(out.join(".scratch-abc/runs")).unwrap();
    let cache = fs::read_dir(out.join("cache")).unwrap().count();

    let said = tell(&bench, &["clean", "--dry-run"]);
    assert!(said.contains("would remove decoded images") && said.contains(".scratch-abc"), "{said}");
    assert!(orphans.iter().all(|path| path.exists()));
    let said = tell(&bench, &["clean"]);
    assert!(said.contains("removed temporary files that were left behind: 2"), "{said}");
    assert!(!orphans.iter().any(|path| path.exists()) && !out.join(".scratch-abc").exists());
    assert_eq!(fs::read_dir(out.join("cache")).unwrap().count(), cache - 1);
    for run in bench.runs("out") {
        assert_eq!(checkpoints(&run).is_empty(), removed.contains(&run), "{}", run.display());
    }
    assert!(tell(&bench, &["clean"]).contains("nothing to remove"));
}

fn removed(bench: &Bench, run: &Path) -> bool {
    let id = run.file_name().unwrap().to_str().unwrap();
    bench.count("out", &format!("SELECT count(*) FROM removed_runs WHERE run_id = '{id}'")) == 1
}

#[test]
fn a_plan_has_a_price_once_something_is_known() {
    let bench = Bench::new(&TWO_EXPERIMENTS.replace("seeds = [0, 1]", "seeds = [0, 1, 2]"));
    let said = tell(&bench, &["plan", "tiny.toml", "--brief"]);
    assert!(said.contains("6 runs to do") && said.contains("how long is unknown"), "{said}");
    let said = tell(&bench, &["plan", "tiny.toml", "--brief", "--probe", "--jobs", "1"]);
    assert!(said.contains("probing") && said.contains("6 runs to do, 1 at once: about"), "{said}");
    assert!(said.contains("memory about"), "{said}");
    bench.complete("out", &["--only", "baseline"]);
    let said = tell(&bench, &["plan", "tiny.toml", "--brief", "--jobs", "1"]);
    assert!(said.contains("3 runs to do, 1 at once: about") && said.contains("disk about"), "{said}");
    let output = bench.run("out", &[]);
    assert!(text(&output).contains("3 runs to do"), "{}", text(&output));
    let page = fs::read_to_string(bench.out("out/tiny/report.md")).unwrap();
    assert!(page.contains("Predicted and actual"), "{page}");
    assert!(tell(&bench, &["plan", "tiny.toml", "--brief"]).contains("nothing is left to do"));
    bench.assert_clean("out");
}

#[test]
fn a_sweep_is_watched_from_the_store() {
    let bench = Bench::new(&one_seed());
    bench.complete("out", &[]);
    let said = tell(&bench, &["watch", "--once"]);
    for part in ["tiny: nobody is at work on it", "2 of 2 runs finished", "baseline seed 0  accuracy", "waiting: 0"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

/// Runs that begin alike: epochs, a late milestone, averaging that starts late; and one with another rate from the start.
const ALIKE: &str = r#"
[[experiment]]
name = "longer"
epochs = 5

[[experiment]]
name = "late"
scheduler.multistep = { milestones = [3], gamma = 0.1 }

[[experiment]]
name = "averaged"
swa = { start = 4 }

[[experiment]]
name = "otherwise"
optimizer.adam = { lr = 0.01 }

[sweep]
share_prefix = true
"#;

#[test]
fn runs_that_begin_alike_share_it_and_end_on_the_same_numbers() {
    let (head, _) = TWO_EXPERIMENTS.split_once("[[experiment]]\nname = \"other\"").unwrap();
    let file = head.replace("epochs = 2", "epochs = 4") + ALIKE;
    let bench = Bench::new(&file);
    bench.complete("out", &["--jobs", "2"]);
    let shared = "SELECT count(*) FROM warnings WHERE message LIKE 'up to epoch % its numbers are those of run %'";
    assert_eq!(bench.count("out", shared), 3);
    let page = fs::read_to_string(bench.out("out/tiny/report.md")).unwrap();
    assert!(page.contains("its numbers are those of run"), "{page}");
    bench.complete("alone", &["--set", "sweep.share_prefix=false"]);
    assert_eq!(bench.count("alone", shared), 0);
    assert_eq!(bench.numbers("out"), bench.numbers("alone"));
    bench.assert_clean("out");
}

#[test]
fn other_tools_get_their_files() {
    let bench = Bench::new(&one_seed());
    bench.complete("out", &["--only", "base*"]);
    let run = tell(&bench, &["list", "tiny"]).lines().nth(2).unwrap().split_whitespace().next().unwrap().to_string();
    tell(&bench, &["export", "tiny", "--to", "tensorboard", "--dir", "board"]);
    let board = bench.path().join("board/baseline/seed-0");
    let events: Vec<PathBuf> = fs::read_dir(board).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(events.len() == 1 && events[0].to_str().unwrap().contains(&run), "{events:?}");
    tell(&bench, &["export", "tiny", "--to", "mlflow", "--dir", "mlruns"]);
    let experiment = fs::read_dir(bench.path().join("mlruns")).unwrap().next().unwrap().unwrap().path();
    let read = |name: &str| fs::read_to_string(experiment.join(name)).unwrap();
    assert!(read("meta.yaml").contains("name: 'tiny'"));
    assert!(read(&format!("{run}/meta.yaml")).contains("status: 3"));
    assert!(experiment.join(&run).join("artifacts").is_dir());
    assert_eq!(read(&format!("{run}/metrics/val/accuracy")).lines().count(), 2);
    assert_eq!(read(&format!("{run}/params/batch_size")), "8");
}

#[test]
fn a_plan_says_what_the_data_holds_and_which_experiments_are_the_same() {
    let twins = one_seed() + "\n[[experiment]]\nname = \"twin\"\nextends = \"baseline\"\n";
    let bench = Bench::new(&twins);
    let said = tell(&bench, &["plan", "tiny.toml", "--brief"]);
    assert!(said.contains("note: `twin` describes the very runs of `baseline`: nothing differs"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("data: ") && line.contains("training images (")), "{said}");
}
