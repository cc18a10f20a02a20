//! Whatever is killed, and whenever: the same command ends on the numbers of an undisturbed sweep, bit for bit.

use crate::{
    sweeps::{Bench, Random, TINY, signal, text, workers},
    trials,
};
use std::time::{Duration, Instant};

/// Kills the coordinator, a worker or both, at random moments.
#[test]
fn killed_at_random_moments() {
    let kills = trials(12);
    let bench = Bench::new(&TINY.replace("seeds = [0]", "seeds = [0, 1]"));
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
