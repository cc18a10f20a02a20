//! A worker process as the coordinator sees it.

use super::{
    devices::Place,
    prepare::Task,
    protocol::{Assignment, Notice, Order},
    worker::LOG,
};
use crate::error::{Cause, Context, Error, Result};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::Sender,
    time::{Duration, Instant},
};

/// What a worker's thread passes on to the coordinator's loop.
#[derive(Debug)]
pub struct Message {
    pub worker: u32,
    /// `None` when the worker has closed its output: it is gone or going.
    pub notice: Option<Notice>,
}

/// A running worker. It is killed when dropped.
pub struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
}

impl Worker {
    /// Starts a worker for a place; what it says comes through `outbox`. Until it has a run, its errors go to the log in
    /// `dir`. It finds `more` in its environment.
    pub fn start(place: &Place, dir: &Path, outbox: Sender<Message>, more: &[(&str, &Path)]) -> Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(dir.join(LOG));
        let log = log.context(|| format!("cannot write {}", dir.join(LOG).display()))?;
        let mut child = Command::new(program()?)
            .arg0("runner")
            .arg("exec")
            // Candle's own thread pool is off: a run computes in its own.
            .env("CANDLE_NUM_THREADS", "1")
            .env("RAYON_NUM_THREADS", place.threads.to_string())
            .envs(more.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C on the terminal is for the coordinator, which tells its workers.
            .process_group(0)
            .spawn()
            .context(|| "cannot start a worker".into())?;
        let orders = child.stdin.take();
        if let Some(output) = child.stdout.take() {
            let worker = child.id();
            std::thread::spawn(move || pass_on(worker, output, &outbox));
        }
        Ok(Self { child, orders })
    }

    /// The process's number, which is also the worker's name in [`Message`].
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Hands over a run. A worker that cannot take it is about to be reported as gone.
    pub fn run(&mut self, assignment: Assignment) -> Result<()> {
        self.order(&Order::Run(Box::new(assignment)))
    }

    /// Hands over images to make. A worker that cannot take them is about to be reported as gone.
    pub fn prepare(&mut self, task: Task) -> Result<()> {
        self.order(&Order::Prepare(Box::new(task)))
    }

    /// Asks for a checkpoint and to leave.
    pub fn stop(&mut self) {
        let _ = self.order(&Order::Stop);
        self.orders = None;
    }

    fn order(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order).map_err(Error::bug)?;
        line.push(b'\n');
        if let Some(orders) = &mut self.orders {
            let _ = orders.write_all(&line).and_then(|()| orders.flush());
        }
        Ok(())
    }

    /// Ends it at once, whatever it is doing.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits until it is gone, kills it after `grace`, and says how it ended.
    pub fn wait(&mut self, grace: Duration) -> Option<ExitStatus> {
        self.orders = None;
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(status)) => return Some(status),
                Err(_) => return None,
            }
        }
        self.kill();
        self.child.wait().ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

/// The program that runs now, even when its file has been replaced since.
fn program() -> Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok("/proc/self/exe".into()),
        false => std::env::current_exe().context(|| "cannot find this program's file".into()),
    }
}

fn pass_on(worker: u32, output: ChildStdout, outbox: &Sender<Message>) {
    for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
        if let Ok(notice) = serde_json::from_str(&line) {
            let _ = outbox.send(Message { worker, notice: Some(notice) });
        }
    }
    let _ = outbox.send(Message { worker, notice: None });
}

/// Why a worker that died took its run with it: cause and message, from how it ended, what its log says and whether the
/// kernel has killed a process for memory.
pub fn cause_of_death(status: Option<ExitStatus>, dir: &Path, kernel_killed: bool) -> (Cause, String) {
    let said = last_attempt(&dir.join(LOG));
    // A trace of calls may follow.
    if let Some(line) = said.iter().find(|line| line.starts_with("memory allocation of")) {
        return (Cause::OutOfMemory, format!("memory ran out: {line}"));
    }
    if kernel_killed && status.is_some_and(|status| status.signal() == Some(libc::SIGKILL)) {
        return (Cause::OutOfMemory, "memory ran out: the kernel killed the worker process".into());
    }
    let how = match status {
        Some(status) => match (status.signal(), status.code()) {
            (Some(libc::SIGKILL), _) => {
                "was killed (SIGKILL): by someone, or by the system because memory ran out".into()
            }
            (Some(signal), _) => {
                format!("died of signal {}", signal_hook::low_level::signal_name(signal).unwrap_or("unknown"))
            }
            (None, code) => format!("ended unexpectedly with exit code {}", code.unwrap_or(-1)),
        },
        None => "is gone".to_string(),
    };
    let last = said.last().map(|line| line.chars().take(300).collect::<String>());
    let said = last.map_or(String::new(), |last| format!("; its last words: {last}"));
    (Cause::Environment, format!("the worker process {how}{said}"))
}

/// The lines of a log's last attempt that say something, as far as its last 64 kB hold them.
fn last_attempt(path: &Path) -> Vec<String> {
    const END: u64 = 64 << 10;
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|mut file| {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
        file.read_to_end(&mut bytes)
    });
    let end = String::from_utf8_lossy(&bytes);
    let lines = end.lines().rev().map(str::trim).take_while(|line| !line.starts_with("attempt "));
    let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).map(str::to_string).collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_is_memory_and_a_kill_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let killed = Some(ExitStatus::from_raw(libc::SIGKILL));
        assert_eq!(cause_of_death(killed, dir.path(), true).0, Cause::OutOfMemory);
        let (cause, message) = cause_of_death(killed, dir.path(), false);
        assert_eq!(cause, Cause::Environment);
        assert!(message.contains("SIGKILL"), "{message}");

        let log = "attempt 1\nmemory allocation of 99 bytes failed\nstack backtrace:\n  0: main\n";
        std::fs::write(dir.path().join(LOG), log).unwrap();
        let aborted = Some(ExitStatus::from_raw(libc::SIGABRT));
        assert_eq!(cause_of_death(aborted, dir.path(), false).0, Cause::OutOfMemory);

        std::fs::write(dir.path().join(LOG), "memory allocation of 99 bytes failed\nattempt 2\n").unwrap();
        assert_eq!(cause_of_death(aborted, dir.path(), false).0, Cause::Environment);
    }

    #[test]
    fn an_exit_code_comes_with_the_last_words() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOG), "attempt 1\nlibcudart.so.13: not found\n\n").unwrap();
        let (_, message) = cause_of_death(Some(ExitStatus::from_raw(127 << 8)), dir.path(), false);
        assert!(message.contains("127") && message.contains("libcudart"), "{message}");
    }
}
