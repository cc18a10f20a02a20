//! Files that are not what was written: torn, cut short, bits flipped.

use crate::{
    sweeps::{Bench, Random, TINY, copy, end, files, journalled, signal, text, wait_until, workers},
    trials,
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// How a file comes to harm.
fn damage(path: &Path, random: &mut Random) {
    let mut bytes = fs::read(path).unwrap();
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(3) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        _ => bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
    }
    fs::write(path, bytes).unwrap();
}

fn checkpoint(bench: &Bench, out: &str, name: &str) -> Option<PathBuf> {
    bench.runs(out).into_iter().map(|run| run.join("checkpoints").join(name)).find(|path| path.exists())
}

#[test]
fn a_torn_journal_line_is_cut_off() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &[]);
    bench.stop_after("out", "\"event\":\"step\"");
    let run = bench.runs("out").into_iter().find(|run| run.join("journal.jsonl").exists()).unwrap();
    let mut journal = OpenOptions::new().append(true).open(run.join("journal.jsonl")).unwrap();
    journal.write_all(b"{\"time\":1.0,\"attempt\":1,\"event\":\"epo").unwrap();
    bench.complete("out", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
    let journal = fs::read_to_string(run.join("journal.jsonl")).unwrap();
    assert!(journal.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{journal}");
}

/// The checkpoint a run goes on from, its best weights, or both.
#[test]
fn damaged_checkpoints_cost_time_but_no_bit() {
    let bench = Bench::new(&TINY.replace("epochs = 2", "epochs = 8"));
    bench.complete("undisturbed", &[]);
    bench.stop_after("stopped", "\"event\":\"checkpoint\"");
    let (mut random, expected) = (Random(11), bench.numbers("undisturbed"));
    for trial in 0..trials(6) {
        let out = format!("out{trial}");
        copy(&bench.out("stopped"), &bench.out(&out));
        let damaged: &[&str] = match trial % 3 {
            0 => &["last.safetensors"],
            1 => &["best.safetensors"],
            _ => &["last.safetensors", "best.safetensors"],
        };
        for name in damaged {
            damage(&checkpoint(&bench, &out, name).expect("a run with a checkpoint"), &mut random);
        }
        bench.complete(&out, &[]);
        assert_eq!(bench.numbers(&out), expected, "trial {trial}");
        let warned = "SELECT count(*) FROM warnings WHERE message LIKE '%the checkpoint cannot be read%'";
        // Zeros in place of zeros are no damage.
        assert!(bench.count(&out, warned) > 0 || trial > 2, "trial {trial}: nobody said so");
        bench.assert_clean(&out);
        fs::remove_dir_all(bench.out(&out)).unwrap();
    }
}

fn decoded(bench: &Bench, out: &str) -> PathBuf {
    let is_images = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"RUNNERPX"));
    files(&bench.out(out).join("cache")).into_iter().find(is_images).expect("decoded images")
}

#[test]
fn a_damaged_cache_is_built_again() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &[]);
    bench.stop_after("stopped", "\"event\":\"step\"");
    let (mut random, expected) = (Random(12), bench.numbers("undisturbed"));
    for trial in 0..trials(4) {
        let out = format!("out{trial}");
        copy(&bench.out("stopped"), &bench.out(&out));
        damage(&decoded(&bench, &out), &mut random);
        bench.complete(&out, &[]);
        assert_eq!(bench.numbers(&out), expected, "trial {trial}");
        assert_eq!(fs::read(decoded(&bench, &out)).unwrap(), fs::read(decoded(&bench, "undisturbed")).unwrap());
        bench.assert_clean(&out);
        fs::remove_dir_all(bench.out(&out)).unwrap();
    }
}

/// A cache that is cut short under a worker's hands kills it; the next one builds a new cache.
#[test]
fn a_cache_cut_short_in_use_is_built_again() {
    let file = TINY.replace("epochs = 2", "epochs = 12");
    let bench = Bench::new(&file);
    bench.complete("undisturbed", &[]);
    let child = bench.sweep("out", &["--jobs", "2"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), "\"event\":\"checkpoint\"")));
    OpenOptions::new().write(true).open(decoded(&bench, "out")).unwrap().set_len(0).unwrap();
    let output = end(child, Duration::from_secs(120));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}

#[test]
fn what_only_saves_time_may_be_damaged() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &[]);
    bench.stop_after("out", "\"event\":\"step\"");
    let run = bench.runs("out").remove(0);
    for path in [bench.out("out").join("cache/memory.json"), run.join("spec.toml"), run.join("log.txt")] {
        fs::write(path, b"\xff\0nonsense").unwrap();
    }
    bench.complete("out", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
}

/// Nothing is lost with the results file: the journals hold it all.
#[test]
fn a_damaged_store_is_told_and_made_again() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &[]);
    bench.stop_after("out", "\"event\":\"checkpoint\"");
    let store = bench.out("out").join("runner.sqlite");
    fs::write(
        &store,
        "not a database, but as long as one needs a header to be, at the very least: 100 bytes.............",
    )
    .unwrap();
    let said = text(&bench.run("out", &[]));
    assert!(said.contains("runner.sqlite") && said.contains("move it away"), "{said}");
    fs::rename(&store, bench.path().join("moved")).unwrap();
    bench.complete("out", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}

/// Whoever stops a worker for good, its run goes on in another.
#[test]
fn a_worker_of_a_killed_sweep_does_not_write_into_the_next() {
    let bench = Bench::new(&TINY.replace("epochs = 2", "epochs = 6"));
    bench.complete("undisturbed", &[]);
    let mut child = bench.sweep("out", &["--jobs", "2"]).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(60), || journalled(&bench.out("out"), "\"event\":\"step\"")));
    // Frozen, they cannot leave with their coordinator.
    let frozen = workers(bench.path());
    frozen.iter().for_each(|worker| signal(*worker, libc::SIGSTOP));
    signal(child.id(), libc::SIGKILL);
    child.wait().unwrap();
    let child = bench.sweep("out", &["--jobs", "2"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    frozen.iter().for_each(|worker| signal(*worker, libc::SIGCONT));
    let output = end(child, Duration::from_secs(120));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}
