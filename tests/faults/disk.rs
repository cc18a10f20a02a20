//! Disks that are full, too small or read-only. Small file systems in memory stand in for them, which takes root.

use crate::{
    skipped,
    sweeps::{Bench, Random, TINY, end, hear, text},
    trials,
};
use std::{
    ffi::CString,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

/// Room for everything a tiny sweep leaves.
const ROOMY: &str = "size=256m,nr_inodes=10000";

/// A small file system in memory, gone when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`, said aloud, where this user may not mount.
    fn new(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        match mount(&at, options, 0) {
            true => Some(Self(at)),
            false => {
                skipped("mounting a small disk takes root, so nothing is tested of full and read-only disks");
                None
            }
        }
    }

    fn resize(&self, options: &str) {
        assert!(mount(&self.0, options, libc::MS_REMOUNT), "{:?}", std::io::Error::last_os_error());
    }

    fn read_only(&self) {
        assert!(mount(&self.0, ROOMY, libc::MS_REMOUNT | libc::MS_RDONLY), "{:?}", std::io::Error::last_os_error());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let at = CString::new(self.0.as_os_str().as_bytes()).unwrap();
        // SAFETY: detaches a mount point of this test; the path ends in a zero byte.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    }
}

fn mount(at: &Path, options: &str, flags: libc::c_ulong) -> bool {
    let at = CString::new(at.as_os_str().as_bytes()).unwrap();
    let options = CString::new(options).unwrap();
    // SAFETY: every pointer is to a text that ends in a zero byte and outlives the call.
    unsafe { libc::mount(c"none".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), flags, options.as_ptr().cast()) == 0 }
}

/// Lets a sweep run into a full disk, makes room, and lets it go on: by itself, or by the same command. True when it did run
/// into it.
fn overcome(bench: &Bench, out: &str, arguments: &[&str], what: &str, relief: impl FnOnce()) -> bool {
    let mut child = bench.sweep(out, arguments).spawn().unwrap();
    let (waits, heard) = hear(&mut child, "is full");
    relief();
    let output = end(child, Duration::from_secs(120));
    let said = heard + &text(&output);
    assert!(!said.contains("panicked") && matches!(output.status.code(), Some(0 | 1)), "{what}: {said}");
    let failed = waits || output.status.code() != Some(0);
    let told = ["No space left", "is full", "disk refused"].iter().any(|words| said.contains(words));
    assert!(!failed || told, "{what}: {said}");
    bench.complete(out, arguments);
    failed
}

/// The whole results folder on a disk that ends anywhere, so that any write may be the one that fails.
#[test]
fn the_disk_is_full_at_any_byte() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &["--jobs", "2"]);
    let (mut random, mut failed) = (Random(21), 0);
    for trial in 0..trials(10) {
        let out = format!("out{trial}");
        // Between 8 kB and 32 MB, as many small as large.
        let size = 8 << random.below(12);
        let size = size + random.below(size);
        let Some(disk) = Disk::new(bench.out(&out), &format!("size={size}k,nr_inodes=10000")) else { return };
        failed += u32::from(overcome(&bench, &out, &["--jobs", "2"], &format!("{size} kB"), || disk.resize(ROOMY)));
        assert_eq!(bench.numbers(&out), bench.numbers("undisturbed"), "{size} kB");
        bench.assert_clean(&out);
    }
    assert!(failed > 0, "no disk was too small");
}

/// The run's own files, one after the other: specification, log, journal, checkpoints; by count of files and of pages.
#[test]
fn a_run_folder_without_room() {
    let bench = Bench::new(TINY);
    let only = ["--only", "baseline"];
    bench.complete("undisturbed", &only);
    let run = bench.runs("undisturbed").remove(0);
    let rooms = ["nr_inodes=1", "nr_inodes=2", "nr_inodes=3", "nr_inodes=4", "nr_inodes=5", "nr_inodes=6"];
    let pages = ["nr_blocks=1", "nr_blocks=2", "nr_blocks=3", "nr_blocks=4", "nr_blocks=1600", "nr_blocks=3200"];
    for (trial, room) in rooms.into_iter().chain(pages).enumerate() {
        let out = format!("out{trial}");
        let folder = bench.out(&out).join("tiny/runs").join(run.file_name().unwrap());
        let limits = format!("size=64m,nr_inodes=100,{room}");
        let Some(disk) = Disk::new(folder, &limits) else { return };
        assert!(overcome(&bench, &out, &only, room, || disk.resize(ROOMY)), "{room} was enough");
        assert_eq!(bench.numbers(&out), bench.numbers("undisturbed"), "{room}");
        bench.assert_clean(&out);
    }
}

/// The store alone, on a disk of its own.
#[test]
fn a_store_without_room() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &["--jobs", "2"]);
    for pages in [2, 8, 16, 28, 40, 52, 64] {
        let (out, what) = (format!("out{pages}"), format!("{pages} pages"));
        let Some(disk) = Disk::new(bench.out(&out), &format!("nr_inodes=100,nr_blocks={pages}")) else { return };
        for folder in ["tiny", "cache"] {
            let elsewhere = bench.path().join(format!("{folder}-of-{out}"));
            fs::create_dir(&elsewhere).unwrap();
            symlink(elsewhere, bench.out(&out).join(folder)).unwrap();
        }
        overcome(&bench, &out, &["--jobs", "2"], &what, || disk.resize(ROOMY));
        assert_eq!(bench.numbers(&out), bench.numbers("undisturbed"), "{what}");
        bench.assert_clean(&out);
    }
}

/// Decoded images, and the report with its figures.
#[test]
fn a_cache_or_a_report_without_room() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &["--jobs", "2"]);
    for (trial, (folder, pages)) in
        [("cache", 1), ("cache", 4), ("cache", 9), ("tiny/figures", 1), ("tiny/figures", 20)].into_iter().enumerate()
    {
        let (out, what) = (format!("out{trial}"), format!("{folder} of {pages} pages"));
        let Some(disk) = Disk::new(bench.out(&out).join(folder), &format!("nr_inodes=100,nr_blocks={pages}")) else {
            return;
        };
        overcome(&bench, &out, &["--jobs", "2"], &what, || disk.resize(ROOMY));
        assert_eq!(bench.numbers(&out), bench.numbers("undisturbed"), "{what}");
        bench.assert_clean(&out);
        assert!(bench.out(&out).join("tiny/report.html").exists());
    }
}

#[test]
fn a_results_folder_that_became_read_only_can_be_read() {
    let bench = Bench::new(TINY);
    bench.complete("undisturbed", &[]);
    let Some(disk) = Disk::new(bench.out("out"), ROOMY) else { return };
    bench.stop_after("out", "\"event\":\"checkpoint\"");
    disk.read_only();
    let output = bench.run("out", &[]);
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("Read-only") && said.contains("`out`"), "{said}");
    for arguments in [["list", "--out", "out"].as_slice(), &["plan", "tiny.toml", "--brief", "--out", "out"]] {
        let output = runner(&bench, arguments).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
    }
    disk.resize(ROOMY);
    bench.complete("out", &[]);
    assert_eq!(bench.numbers("out"), bench.numbers("undisturbed"));
    bench.assert_clean("out");
}

fn runner(bench: &Bench, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.current_dir(bench.path()).args(arguments);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
}
