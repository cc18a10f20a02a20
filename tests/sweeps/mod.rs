//! Whole sweeps as a user runs them: real processes in a temporary folder.

use rusqlite::{Connection, OpenFlags, types::Value};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Two experiments of two epochs on a handful of small procedural images.
pub const TWO_EXPERIMENTS: &str = r#"
name = "tiny"

[data.synthetic]
train = 24
val = 16
size = 32

[defaults]
epochs = 2
batch_size = 8
log_every = 1
input = { size = 16, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
backbone = { name = "resnet18" }
optimizer.adam = { lr = 0.001 }
select = { metric = "accuracy", mode = "max" }
augment = [{ random_horizontal_flip = {} }]

[[experiment]]
name = "baseline"

[[experiment]]
name = "other"
optimizer.adam = { lr = 0.002 }

[sweep]
seeds = [0, 1]
"#;

/// Two experiments of one run each, of a second or two together.
pub const TINY: &str = r#"
name = "tiny"

[data.synthetic]
train = 16
val = 8
size = 16

[defaults]
epochs = 2
batch_size = 8
log_every = 1
input = { size = 16, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
backbone = { name = "mobilenetv3_small_100" }
optimizer.sgd = { lr = 0.01, momentum = 0.9 }
select = { metric = "accuracy", mode = "max" }
augment = [{ random_horizontal_flip = {} }]

[[experiment]]
name = "baseline"

[[experiment]]
name = "other"
optimizer.sgd = { lr = 0.02, momentum = 0.9 }

[sweep]
seeds = [0]
"#;

/// A folder with an experiment file, and the sweeps run in it.
pub struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    pub fn new(file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tiny.toml"), file).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `runner sweep tiny.toml --out OUT ..`, not yet started.
    pub fn sweep(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command.current_dir(self.path()).args(["sweep", "tiny.toml", "--device", "cpu", "--out", out]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a sweep to its end.
    pub fn run(&self, out: &str, arguments: &[&str]) -> Output {
        self.sweep(out, arguments).output().unwrap()
    }

    /// Runs a sweep that has to succeed.
    pub fn complete(&self, out: &str, arguments: &[&str]) {
        let output = self.run(out, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }

    /// Starts a sweep and stops it by Ctrl-C once its journals have `what`.
    pub fn stop_after(&self, out: &str, what: &str) {
        let child = self.sweep(out, &["--jobs", "1"]).spawn().unwrap();
        assert!(wait_until(Duration::from_secs(60), || journalled(&self.out(out), what)));
        signal(child.id(), libc::SIGINT);
        end(child, Duration::from_secs(30));
    }

    pub fn out(&self, out: &str) -> PathBuf {
        self.path().join(out)
    }

    /// The folders of the runs, by id.
    pub fn runs(&self, out: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.out(out).join("tiny/runs")).into_iter().flatten().flatten();
        let mut runs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        runs.sort();
        runs
    }

    pub fn query(&self, out: &str, sql: &str) -> Vec<Vec<Value>> {
        let db = Connection::open_with_flags(self.out(out).join("runner.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let db = db.unwrap();
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    pub fn count(&self, out: &str, sql: &str) -> i64 {
        match self.query(out, sql)[0][0] {
            Value::Integer(count) => count,
            ref other => panic!("{other:?} is no count"),
        }
    }

    /// Every number the runs came to, as text: bit for bit what is in the store. Only times are left out.
    pub fn numbers(&self, out: &str) -> Vec<String> {
        let metrics = "SELECT run_id, split, name, epoch, step, value FROM metrics";
        let summaries = "SELECT run_id, name, value FROM summaries WHERE name NOT IN ('seconds', 'images_per_second')";
        let predictions = "SELECT run_id, split, image, target, class, score FROM predictions";
        let runs = "SELECT id, status, best_epoch, epoch FROM runs";
        let rows = [metrics, summaries, predictions, runs].into_iter().flat_map(|sql| self.query(out, sql));
        let mut numbers: Vec<String> = rows.map(|row| exact(&row)).collect();
        numbers.retain(|row| !row.contains("images_per_second") && !row.contains("\"seconds\""));
        numbers.sort();
        numbers
    }

    /// No row twice, no process left over, no temporary file left over.
    pub fn assert_clean(&self, out: &str) {
        let keys = "SELECT count(*) FROM metrics GROUP BY run_id, split, name, epoch, step HAVING count(*) > 1";
        assert_eq!(self.query(out, keys).len(), 0, "rows stand twice");
        let gone = wait_until(Duration::from_secs(30), || processes(self.path()).is_empty());
        assert!(gone, "processes left over: {:?}", processes(self.path()));
        let left: Vec<PathBuf> = files(self.path()).into_iter().filter(|path| is_temporary(path)).collect();
        assert!(left.is_empty(), "temporary files left over: {left:?}");
    }
}

fn exact(row: &[Value]) -> String {
    let cell = |value: &Value| match value {
        Value::Real(number) => format!("{:016x}", number.to_bits()),
        other => format!("{other:?}"),
    };
    row.iter().map(cell).collect::<Vec<_>>().join(" ")
}

fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let beside_the_store = ["-wal", "-shm", "-journal"].iter().any(|suffix| name.ends_with(suffix));
    name.starts_with(".unfinished") || name.contains(".tmp") || beside_the_store
}

pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// A seeded generator of small numbers: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit
    }
}

/// What a process said.
pub fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{:?}\n{out}\n{err}", output.status)
}

/// The processes that work in a folder: coordinators and workers inherit it.
pub fn processes(dir: &Path) -> Vec<u32> {
    let dir = dir.canonicalize().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == dir)).collect()
}

/// The workers among them.
pub fn workers(dir: &Path) -> Vec<u32> {
    let is_worker = |id: &u32| {
        fs::read(format!("/proc/{id}/cmdline"))
            .is_ok_and(|line| line.split(|&byte| byte == 0).any(|word| word == b"exec"))
    };
    processes(dir).into_iter().filter(is_worker).collect()
}

pub fn signal(process: u32, signal: i32) {
    // SAFETY: sends a signal to a process this test started.
    unsafe { libc::kill(process as i32, signal) };
}

/// Waits until something holds; false when it never did.
pub fn wait_until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < patience {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Whether any journal of a results folder has this in it.
pub fn journalled(out: &Path, what: &str) -> bool {
    let journals = files(out).into_iter().filter(|path| path.ends_with("journal.jsonl"));
    journals.into_iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(what)))
}

/// Waits until a process says something on standard error; false when it ends without. Returns all that it said so far.
pub fn hear(child: &mut Child, what: &str) -> (bool, String) {
    let mut heard = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    let mut letter = [0];
    while stderr.read(&mut letter).unwrap() > 0 {
        heard.push(letter[0] as char);
        if letter[0] == b'\n' && heard.contains(what) {
            return (true, heard);
        }
    }
    (false, heard)
}

/// Waits for a process that should end soon, and kills it when it does not.
pub fn end(mut child: Child, patience: Duration) -> Output {
    let ended = wait_until(patience, || child.try_wait().unwrap().is_some());
    if !ended {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended, "still running after {patience:?}: {}", text(&output));
    output
}
