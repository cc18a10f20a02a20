//! One sweep at a time writes a results folder: an operating-system lock that is gone when its holder is.

use super::signals::Interrupts;
use crate::error::{Cause, Context, Error, Result};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    time::Duration,
};

/// The lock's file in the results folder; it stays, empty, when nobody holds it.
const FILE: &str = ".lock";

/// The right to write a results folder, held until dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
}

impl FolderLock {
    /// Takes the lock, waiting for its holder; `waiting` is told once whom for. `holder` says who we are.
    pub fn take(folder: &Path, holder: &str, interrupts: &Interrupts, waiting: impl FnOnce(&str)) -> Result<Self> {
        let mut file = open(folder)?;
        wait_for(&mut file, &folder.join(FILE), interrupts, waiting)?;
        file.set_len(0).and_then(|()| file.rewind()).context(|| cannot_write(folder))?;
        file.write_all(holder.as_bytes()).context(|| cannot_write(folder))?;
        Ok(Self { file })
    }

    /// Who holds the lock, as they call themselves; `None` where nobody does.
    pub fn holder(folder: &Path) -> Option<String> {
        let mut file = OpenOptions::new().read(true).open(folder.join(FILE)).ok()?;
        let mut holder = String::new();
        // A shared lock asks without getting in the way of another who asks.
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => file.read_to_string(&mut holder).ok().map(|_| holder),
            _ => None,
        }
    }

    /// The lock, if nobody holds it; for a change that takes a moment.
    pub fn try_take(folder: &Path) -> Result<Option<Self>> {
        let file = open(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context(|| cannot_write(folder)),
        }
    }
}

fn open(folder: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(folder.join(FILE));
    file.context(|| cannot_write(folder))
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Only a courtesy to readers: the lock itself goes with the file handle.
        let _ = self.file.set_len(0);
    }
}

fn wait_for(file: &mut File, path: &Path, interrupts: &Interrupts, waiting: impl FnOnce(&str)) -> Result<()> {
    let mut waiting = Some(waiting);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error).context(|| format!("cannot lock {}", path.display())),
            Err(TryLockError::WouldBlock) => {}
        }
        if let Some(waiting) = waiting.take() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            waiting(if holder.is_empty() { "another sweep" } else { &holder });
        }
        if interrupts.count() > 0 {
            return Err(Error::new(Cause::Interrupted, "stopped while waiting for another sweep; nothing was started"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn cannot_write(folder: &Path) -> String {
    format!("cannot write to the results folder `{}` (--out names another)", folder.display())
}

/// How this process calls itself in the lock.
pub fn holder(sweep: &str) -> String {
    format!("the sweep `{sweep}`, process {} on {}", std::process::id(), super::memory::host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let interrupts = Interrupts::none();
        let first = FolderLock::take(dir.path(), "the first", &interrupts, |_| panic!("nobody holds it")).unwrap();
        let (told, hears) = std::sync::mpsc::channel();
        let folder = dir.path().to_path_buf();
        let second = std::thread::spawn(move || {
            FolderLock::take(&folder, "the second", &Interrupts::none(), |who| told.send(who.to_string()).unwrap())
        });
        assert_eq!(hears.recv().unwrap(), "the first");
        assert!(!second.is_finished());
        drop(first);
        drop(second.join().unwrap().unwrap());
        assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), b"");
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_a_clear_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = FolderLock::take(file.path(), "me", &Interrupts::none(), |_| ()).unwrap_err();
        assert!(error.to_string().contains("--out"), "{error}");
    }
}
