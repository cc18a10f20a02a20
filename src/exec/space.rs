//! Room on the disk. Where it runs out, a sweep waits and goes on by itself; nothing that was written is lost. It waits in
//! the same way for another program that holds the results file locked.

use super::signals::Interrupts;
use crate::{
    error::{Cause, Error, Result},
    progress::Progress,
    store::Store,
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

/// The longest it waits before it tries again although nothing has come free that it can see: a quota, a disk further
/// down the folder. At first it waits a second, then twice as long each time.
const ANYWAY: Duration = Duration::from_secs(60);

/// Running out again so soon is told no second time.
const SOON: Duration = Duration::from_secs(150);

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
    /// When it last ran out, and how often it has tried since that was told.
    told: Option<(Instant, u32)>,
}

impl Space {
    /// Of the disk that a results folder lies on.
    pub fn new(out: &Path) -> Self {
        Self { out: out.into(), full: None, told: None }
    }

    /// Whether something failed for want of room.
    pub fn lacks(&self, cause: Cause) -> bool {
        let full = || free(&self.out).is_some_and(|free| free < NOTHING);
        cause == Cause::DiskFull || (cause == Cause::Environment && full())
    }

    /// Takes note that something failed for want of room, and tells it once.
    pub fn ran_out(&mut self, progress: &mut Progress) {
        let tries = match self.told {
            Some((last, tries)) if last.elapsed() < SOON => tries,
            _ => {
                progress.say(&self.advice());
                0
            }
        };
        self.told = Some((Instant::now(), tries));
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
        if now >= then.saturating_add(SOME) {
            (self.full, self.told) = (None, None);
            progress.say(&format!("there is room again ({} free): the sweep goes on", bytes(now)));
        } else if let Some((_, tries)) = &mut self.told
            && since.elapsed() > ANYWAY.min(Duration::from_secs(1 << (*tries).min(6)))
        {
            *tries += 1;
            self.full = None;
        }
        self.full.is_none()
    }

    /// Does something that writes, waiting as long as the disk is full or another program holds the results file.
    ///
    /// # Errors
    /// What it fails with otherwise; that the disk is full, once asked to stop.
    pub fn patiently<T>(
        &mut self,
        progress: &mut Progress,
        interrupts: &Interrupts,
        mut write: impl FnMut(&mut Progress) -> Result<T>,
    ) -> Result<T> {
        let mut locked = false;
        loop {
            match write(progress) {
                Err(error) if error.cause == Cause::Locked && interrupts.count() == 0 => {
                    if !std::mem::replace(&mut locked, true) {
                        progress.say(&format!("waiting, while the runs at work go on: {error}"));
                    }
                }
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

/// The store, and what it takes to wait until it can be written.
pub struct Desk<'a> {
    pub store: &'a mut Store,
    pub space: &'a mut Space,
    pub progress: &'a mut Progress,
    pub interrupts: &'a Interrupts,
}

impl Desk<'_> {
    /// Writes [`Space::patiently`]; what is tried again must bear to be done twice.
    pub fn write<T>(&mut self, mut write: impl FnMut(&mut Store) -> Result<T>) -> Result<T> {
        self.space.patiently(self.progress, self.interrupts, |_| write(self.store))
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
