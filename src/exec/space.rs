//! Room on the disk. Where it runs out, a sweep waits and goes on by itself; nothing that was written is lost.

use super::signals::Interrupts;
use crate::{
    error::{Cause, Error, Result},
    progress::Progress,
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Less than this is no room at all: the file system keeps some for itself.
const NOTHING: u64 = 256 << 10;

/// What must have come free before a sweep tries again.
const SOME: u64 = 1 << 20;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

/// How long it waits before it tries again although nothing has come free.
const ANYWAY: Duration = Duration::from_secs(60);

/// Bytes that may still be written where a path lies; `None` where the system does not say.
pub fn free(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: `statvfs` is plain data for which zeros are valid, and `path` ends in a zero byte.
    let (status, found) = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found), found)
    };
    #[allow(clippy::unnecessary_cast)] // other systems have other widths
    (status == 0).then(|| found.f_bavail as u64 * found.f_frsize as u64)
}

/// Bytes of the files below a folder.
pub fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// `1.2 GB`, `350 MB`, `12 kB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A results folder whose disk may fill up.
pub struct Space {
    out: PathBuf,
    /// Since when there is no room, and how much there was then.
    full: Option<(Instant, u64)>,
}

impl Space {
    pub fn new(out: &Path) -> Self {
        Self { out: out.into(), full: None }
    }

    /// Whether something failed for want of room.
    pub fn lacks(&self, cause: Cause) -> bool {
        let full = || free(&self.out).is_some_and(|free| free < NOTHING);
        cause == Cause::DiskFull || (cause == Cause::Environment && full())
    }

    /// Takes note that something failed for want of room, and tells it once.
    pub fn ran_out(&mut self, progress: &mut Progress) {
        if self.full.is_none() {
            progress.say(&self.advice());
        }
        self.full = Some((Instant::now(), free(&self.out).unwrap_or(0)));
    }

    fn advice(&self) -> String {
        let out = self.out.display();
        let free = free(&self.out).map_or_else(String::new, |free| format!(" ({} free)", bytes(free)));
        format!(
            "the disk of {out} is full{free}: the sweep waits, starts nothing, and goes on by itself once there is room. \
             {out} holds {}, of that {} of decoded images; `runner clean` removes what is not needed. Ctrl-C stops, and \
             nothing is lost",
            bytes(size(&self.out)),
            bytes(size(&self.out.join("cache"))),
        )
    }

    /// Whether there is room for more work, as far as can be told without trying.
    pub fn has_room(&mut self, progress: &mut Progress) -> bool {
        let Some((since, then)) = self.full else { return true };
        let now = free(&self.out).unwrap_or(u64::MAX);
        let back = now >= then.saturating_add(SOME) || since.elapsed() > ANYWAY;
        if back {
            self.full = None;
            progress.say(&format!("there is room again ({} free): the sweep goes on", bytes(now)));
        }
        back
    }

    /// Does something that writes, waiting as long as the disk is full.
    ///
    /// # Errors
    /// What it fails with otherwise; that the disk is full, once asked to stop.
    pub fn patiently<T>(
        &mut self,
        progress: &mut Progress,
        interrupts: &Interrupts,
        mut write: impl FnMut(&mut Progress) -> Result<T>,
    ) -> Result<T> {
        loop {
            match write(progress) {
                Err(error) if self.lacks(error.cause) && interrupts.count() == 0 => {
                    self.ran_out(progress);
                    self.wait(progress, interrupts);
                }
                Err(error) if self.lacks(error.cause) => return Err(Error::new(Cause::DiskFull, error)),
                done => return done,
            }
        }
    }

    fn wait(&mut self, progress: &mut Progress, interrupts: &Interrupts) {
        while interrupts.count() == 0 && !self.has_room(progress) {
            std::thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room_and_a_size() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/file"), [0; 1000]).unwrap();
        assert_eq!(size(dir.path()), 1000);
        assert!(free(dir.path()).is_some());
        assert_eq!(free(Path::new("/nowhere")), None);
        assert_eq!([bytes(12), bytes(12_345), bytes(1_250_000_000)], ["12 B", "12 kB", "1.2 GB"]);
    }
}
