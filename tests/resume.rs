//! Whatever is killed, and whenever: the same command ends on the numbers of an undisturbed sweep, bit for bit.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod sweeps;

use std::time::{Duration, Instant};
use sweeps::{Bench, TWO_EXPERIMENTS, end, journalled, signal, text, wait_until, workers};

/// A seeded generator of small numbers: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit
    }
}

/// Kills the coordinator, a worker or both, at `RUNNER_KILLS` random moments (6 unless set).
#[test]
fn killed_at_random_moments() {
    let kills: u32 = std::env::var("RUNNER_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(6);
    let bench = Bench::new(TWO_EXPERIMENTS);
    let start = Instant::now();
    bench.complete("undisturbed", &["--jobs", "2"]);
    let length = start.elapsed().as_millis() as u64;
    let expected = bench.numbers("undisturbed");
    let mut random = Random(7);
    let (mut done, mut folder) = (0, 0);
    while done < kills {
        let out = format!("out{folder}");
        let child = bench.sweep(&out, &["--jobs", "2"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(length * 3 / 4)));
        if disturb(&bench, child, random.below(3), &mut random) {
            done += 1;
        } else {
            // It was through already: its numbers count, and the next kills get a fresh folder.
            assert_eq!(bench.numbers(&out), expected);
            folder += 1;
        }
    }
    let out = format!("out{folder}");
    bench.complete(&out, &["--jobs", "2"]);
    assert_eq!(bench.numbers(&out), expected);
    bench.assert_clean(&out);
}

/// Kills what `target` says; false when the sweep had ended before.
fn disturb(bench: &Bench, mut child: std::process::Child, target: u64, random: &mut Random) -> bool {
    if child.try_wait().unwrap().is_some() {
        return false;
    }
    let workers = workers(bench.path());
    let worker = workers.get(random.below(workers.len().max(1) as u64) as usize);
    if let (Some(&worker), 1..) = (worker, target) {
        signal(worker, libc::SIGKILL);
    }
    if target != 1 {
        signal(child.id(), libc::SIGKILL);
        child.wait().unwrap();
        return true;
    }
    // Only a worker died: the sweep gets over it by itself.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    worker.is_some()
}

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
