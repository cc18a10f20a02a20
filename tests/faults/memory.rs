//! Memory that runs out, at a real limit: the batch is computed in parts, and the sweep remembers.

use crate::{
    skipped,
    sweeps::{Bench, text},
};
use rusqlite::types::Value;
use std::{fs, io::Write, os::unix::process::CommandExt, path::PathBuf};

/// No batch norm: a batch in parts comes to the same gradients up to rounding.
const LARGE: &str = r#"
name = "tiny"

[data.synthetic]
train = 64
val = 8
size = 32

[defaults]
epochs = 1
batch_size = 64
log_every = 1
input = { size = 96, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
backbone = { name = "convnext_atto" }
optimizer.sgd = { lr = 0.001 }
select = { metric = "accuracy", mode = "max" }
augment = []

[[experiment]]
name = "baseline"

[sweep]
seeds = [0, 1]
"#;

/// Enough for half of the batch and not for all of it, with 60 MB to spare either way: of memory that a process has for
/// itself.
const DATA: u64 = 390 << 20;

/// The same, of all memory that a sweep touches, coordinator included.
const TOUCHED: u64 = 450 << 20;

/// One run after the other: the second begins with what the first has learnt.
fn assert_learnt(bench: &Bench, output: &std::process::Output) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("memory ran out") && said.contains("images at a time"), "{said}");
    assert_eq!(bench.count("out", "SELECT count(*) FROM runs WHERE attempts = 1"), 1, "{said}");
    let warned = "SELECT count(DISTINCT run_id) FROM warnings WHERE message LIKE 'memory holds%of the 64 images%'";
    assert_eq!(bench.count("out", warned), 2, "{said}");
    assert_eq!(
        bench.count("out", "SELECT count(*) FROM runs WHERE steps_per_epoch = 1"),
        2,
        "the same effective batch"
    );
    let expected = losses(bench, "undisturbed");
    for (run, loss) in losses(bench, "out").iter().enumerate() {
        assert!((loss - expected[run]).abs() < 1e-4, "{loss} and {}", expected[run]);
    }
    bench.complete("out", &[]);
    bench.assert_clean("out");
}

fn losses(bench: &Bench, out: &str) -> Vec<f64> {
    let rows = bench.query(out, "SELECT value FROM metrics WHERE name = 'loss' ORDER BY run_id, split, step");
    let number = |row: &Vec<Value>| if let Value::Real(number) = row[0] { number } else { panic!("{row:?}") };
    rows.iter().map(number).collect()
}

/// The limit of the address space, under which an allocation fails and ends the worker.
#[test]
fn a_failed_allocation_leads_to_a_smaller_batch() {
    let bench = Bench::new(LARGE);
    bench.complete("undisturbed", &["--jobs", "1"]);
    let mut sweep = bench.sweep("out", &["--jobs", "1"]);
    // SAFETY: between fork and exec only `setrlimit` is called, which is safe there.
    unsafe {
        sweep.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: DATA, rlim_max: DATA };
            match libc::setrlimit(libc::RLIMIT_DATA, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        })
    };
    assert_learnt(&bench, &sweep.output().unwrap());
}

/// The limit of a control group, at which the kernel kills.
#[test]
fn a_kill_by_the_kernel_leads_to_a_smaller_batch() {
    let Some(group) = Group::new(TOUCHED) else { return };
    let bench = Bench::new(LARGE);
    bench.complete("undisturbed", &["--jobs", "1"]);
    let mut sweep = bench.sweep("out", &["--jobs", "1"]);
    let members = fs::OpenOptions::new().write(true).open(group.0.join("cgroup.procs")).unwrap();
    // SAFETY: between fork and exec only `write` is called, which is safe there; 0 stands for the process that writes.
    unsafe { sweep.pre_exec(move || (&members).write_all(b"0")) };
    assert_learnt(&bench, &sweep.output().unwrap());
}

/// A control group with a limit, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None`, said aloud, where this user may not make one.
    fn new(limit: u64) -> Option<Self> {
        let name = format!("runner-test-{}", std::process::id());
        let first = (PathBuf::from("/sys/fs/cgroup/memory"), "memory.limit_in_bytes");
        let second = (PathBuf::from("/sys/fs/cgroup"), "memory.max");
        for (root, file) in [first, second] {
            let group = Self(root.join(&name));
            let made = fs::create_dir(&group.0).is_ok() && group.0.join("cgroup.procs").exists();
            if made && fs::write(group.0.join(file), limit.to_string()).is_ok() {
                let _ = fs::write(group.0.join("memory.swap.max"), "0");
                return Some(group);
            }
        }
        skipped("no control group can be made here, so nothing is tested of kills by the kernel");
        None
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
