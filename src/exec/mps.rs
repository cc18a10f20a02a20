//! NVIDIA's Multi-Process Service: with it the kernels of several processes run on a GPU side by side, without it the
//! processes take turns. The daemon is started for a sweep and ends with it, however the sweep ends.

use crate::error::{Context, Result};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// The daemon's program, which also carries commands to it.
const PROGRAM: &str = "nvidia-cuda-mps-control";

/// How long the daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long workers may take to write their checkpoints when the sweep was killed, in seconds.
const GRACE: u32 = 30;

/// The longest path of the daemon's folder: sockets in it have longer ones, and these are limited to 107 bytes.
const LONGEST: usize = 80;

/// A daemon of ours. It ends when this is dropped, and when this process dies.
pub struct Mps {
    pipe: PathBuf,
    log: PathBuf,
    /// Waits for the end of its input, which comes with the end of this process at the latest, and then ends the daemon.
    guard: Child,
}

/// How runs of several processes share a GPU.
pub enum Way {
    SideBySide(Mps),
    /// Through a daemon that somebody else has started.
    Theirs,
    /// In turns, and why.
    Turns(String),
}

/// Starts the daemon, with its folders in `cache`, where that is possible and nobody else has.
pub fn start(cache: &Path) -> Way {
    start_program(Path::new(PROGRAM), cache)
}

fn start_program(program: &Path, cache: &Path) -> Way {
    match ask(program, None, "get_server_list") {
        Err(why) => return Way::Turns(why),
        Ok(true) => return Way::Theirs,
        Ok(false) => {}
    }
    match Mps::start(program, cache) {
        Ok(Ok(mps)) => Way::SideBySide(mps),
        Ok(Err(why)) => Way::Turns(why),
        Err(error) => Way::Turns(error.to_string()),
    }
}

impl Mps {
    /// The inner error is why it cannot be.
    fn start(program: &Path, cache: &Path) -> Result<std::result::Result<Self, String>> {
        let [pipe, log] = ["pipe", "log"].map(|name| cache.join("mps").join(name));
        for folder in [&pipe, &log] {
            fs::create_dir_all(folder).context(|| folder.display().to_string())?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).context(|| folder.display().to_string())?;
        }
        let (pipe, log) = (pipe.canonicalize()?, log.canonicalize()?);
        if pipe.as_os_str().len() > LONGEST {
            return Ok(Err(format!("the path {} is too long for its sockets", pipe.display())));
        }
        // What a sweep left behind whose guard was killed, too; nobody else has this folder.
        let _ = ask(program, Some((&pipe, &log)), "quit -t 1");
        // First the guard, so that there is no moment at which nobody would end the daemon.
        let mps = Self { guard: guard(program, &pipe, &log)?, pipe, log };
        let said = mps.log.join("start.txt");
        let status = run(mps.daemon(program, &said)?, None);
        if !status.is_some_and(|status| status.success()) {
            return Ok(Err(first_line(&said).unwrap_or(format!("{PROGRAM} does not start"))));
        }
        match ask(program, Some((&mps.pipe, &mps.log)), "get_server_list") {
            Ok(true) => Ok(Ok(mps)),
            _ => Ok(Err(format!("{PROGRAM} starts but does not answer"))),
        }
    }

    /// The command that starts the daemon, which goes to the background by itself.
    fn daemon(&self, program: &Path, said: &Path) -> Result<Command> {
        let said = File::create(said).context(|| said.display().to_string())?;
        let mut command = with_folders(program, &self.pipe, &self.log);
        // It serves every GPU; workers choose among them, and their choice would otherwise be made twice.
        command
            .arg("-d")
            .env_remove("CUDA_VISIBLE_DEVICES")
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        Ok(command)
    }

    /// What a process needs in its environment to reach the daemon.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        folders(&self.pipe, &self.log)
    }
}

impl Drop for Mps {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        wait(&mut self.guard, PATIENCE + Duration::from_secs(GRACE.into()));
    }
}

fn folders<'a>(pipe: &'a Path, log: &'a Path) -> [(&'static str, &'a Path); 2] {
    [("CUDA_MPS_PIPE_DIRECTORY", pipe), ("CUDA_MPS_LOG_DIRECTORY", log)]
}

/// The program, in a process group of its own: Ctrl-C is for the coordinator.
fn with_folders(program: &Path, pipe: &Path, log: &Path) -> Command {
    let mut command = Command::new(program);
    command.envs(folders(pipe, log)).process_group(0);
    command
}

/// A process that outlives this one by as long as the daemon needs to end.
fn guard(program: &Path, pipe: &Path, log: &Path) -> Result<Child> {
    let script = format!("trap '' HUP INT TERM; cat > /dev/null; echo quit -t {GRACE} | \"$0\"");
    let mut guard = Command::new("/bin/sh");
    guard.arg("-c").arg(script).arg(program).envs(folders(pipe, log)).process_group(0);
    let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    guard.context(|| "cannot start /bin/sh".into())
}

/// Gives a daemon a command, the one of the usual folders where none are named; whether it is there to take it. The error
/// says why there can be none.
fn ask(program: &Path, folders: Option<(&Path, &Path)>, order: &str) -> std::result::Result<bool, String> {
    let mut command = match folders {
        Some((pipe, log)) => with_folders(program, pipe, log),
        None => Command::new(program),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(format!("{PROGRAM} is not installed")),
        Err(error) => Err(format!("{PROGRAM}: {error}")),
        Ok(child) => Ok(finish(child, Some(order)).is_some_and(|status| status.success())),
    }
}

fn run(mut command: Command, order: Option<&str>) -> Option<ExitStatus> {
    finish(command.spawn().ok()?, order)
}

fn finish(mut child: Child, order: Option<&str>) -> Option<ExitStatus> {
    if let (Some(mut input), Some(order)) = (child.stdin.take(), order) {
        let _ = writeln!(input, "{order}");
    }
    wait(&mut child, PATIENCE)
}

/// Waits for the end of a process, and kills it where that does not come; `None` then.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn first_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the daemon in a folder of its own, and a cache.
    fn fake() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (program, cache) = (dir.path().join("control"), dir.path().join("cache"));
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mps/nvidia-cuda-mps-control");
        std::os::unix::fs::symlink(fake, &program).unwrap();
        fs::create_dir(&cache).unwrap();
        (dir, program, cache)
    }

    fn told(program: &Path) -> String {
        fs::read_to_string(program.with_file_name("told")).unwrap_or_default()
    }

    fn why(way: Way) -> String {
        match way {
            Way::Turns(why) => why,
            Way::SideBySide(_) => panic!("a daemon was started"),
            Way::Theirs => panic!("there was a daemon"),
        }
    }

    #[test]
    fn a_daemon_is_started_for_a_sweep_and_ends_with_it() {
        let (_dir, program, cache) = fake();
        let Way::SideBySide(mps) = start_program(&program, &cache) else { panic!("no daemon") };
        let pipe = cache.join("mps/pipe").canonicalize().unwrap();
        assert!(pipe.join("alive").exists());
        assert_eq!(mps.environment()[0], ("CUDA_MPS_PIPE_DIRECTORY", pipe.as_path()));
        assert!(told(&program).contains(&format!("start {}", mps.log.display())), "{}", told(&program));
        drop(mps);
        assert!(!pipe.join("alive").exists());
        assert!(told(&program).ends_with(&format!("quit -t {GRACE}\n")), "{}", told(&program));
    }

    #[test]
    fn without_a_daemon_the_reason_is_told() {
        let (dir, program, cache) = fake();
        assert!(why(start_program(&dir.path().join("nothing"), &cache)).contains("is not installed"));
        fs::write(dir.path().join("forbidden"), "").unwrap();
        assert_eq!(why(start_program(&program, &cache)), "Failed to start: not permitted in this container");
        let deep = cache.join("a".repeat(100));
        assert!(why(start_program(&program, &deep)).contains("too long"));
    }

    #[test]
    fn a_daemon_of_somebody_else_is_left_alone() {
        let (dir, program, cache) = fake();
        fs::create_dir(dir.path().join("usual")).unwrap();
        fs::write(dir.path().join("usual/alive"), "").unwrap();
        assert!(matches!(start_program(&program, &cache), Way::Theirs));
        assert!(dir.path().join("usual/alive").exists() && !told(&program).contains("start"));
    }

    #[test]
    fn what_was_left_behind_is_ended_first() {
        let (_dir, program, cache) = fake();
        fs::create_dir_all(cache.join("mps/pipe")).unwrap();
        fs::write(cache.join("mps/pipe/alive"), "").unwrap();
        let way = start_program(&program, &cache);
        assert!(told(&program).starts_with("quit -t 1\n"), "{}", told(&program));
        assert!(matches!(way, Way::SideBySide(_)));
    }

    const FAKE_FOR_CHILD: &str = "RUNNER_TEST_MPS";

    /// No test of its own: the process that the next one kills.
    #[test]
    fn a_process_that_is_killed() {
        let Some(program) = std::env::var_os(FAKE_FOR_CHILD).map(PathBuf::from) else { return };
        let way = start_program(&program, &program.with_file_name("cache"));
        assert!(matches!(way, Way::SideBySide(_)));
        fs::write(program.with_file_name("started"), "").unwrap();
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_daemon_ends_with_a_process_that_is_killed() {
        let (dir, program, cache) = fake();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "exec::mps::tests::a_process_that_is_killed"]).env(FAKE_FOR_CHILD, &program);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = |done: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !done() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(done());
        };
        until(&|| dir.path().join("started").exists());
        assert!(cache.join("mps/pipe/alive").exists());
        child.kill().unwrap();
        child.wait().unwrap();
        until(&|| !cache.join("mps/pipe/alive").exists());
    }
}
