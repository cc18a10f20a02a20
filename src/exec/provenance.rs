//! Where a run's numbers come from beside its specification: program, working directory, machine, command.

use super::memory;
use crate::{
    error::{Error, Result},
    event::Origin,
    tensor::safetensors::{hex, write_atomically},
};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    process::Command,
};

/// Where patches lie in the results folder, each under the hash of its content.
const FOLDER: &str = "provenance";

/// Bytes kept of a patch; what is beyond says so.
const LONGEST: usize = 4 << 20;

/// Untracked files named in a patch.
const UNTRACKED: usize = 200;

/// What this process can say of a run it is about to start. What cannot be found out is left out; a patch that differs from
/// those before is written into the results folder.
pub fn origin(out: &Path) -> Result<Origin> {
    let commit = git(&["rev-parse", "HEAD"]).map(|text| text.trim().to_string());
    let patch = commit.as_ref().and_then(|_| patch());
    Ok(Origin {
        version: env!("CARGO_PKG_VERSION").into(),
        binary: binary(),
        commit,
        patch: patch.map(|patch| keep(out, &patch)).transpose()?,
        command: command(),
        host: memory::host(),
        hardware: String::new(),
        micro_batch: None,
    })
}

/// SHA-256 of the program's file.
fn binary() -> Option<String> {
    let path = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe().ok()? };
    let mut file = File::open(path).ok()?;
    let (mut hasher, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block).ok()? {
            0 => return Some(hex(&hasher.finalize())),
            read => hasher.update(&block[..read]),
        }
    }
}

/// What differs from the last commit, and which files git does not know; `None` where nothing does.
fn patch() -> Option<String> {
    let changed = git(&["diff", "HEAD", "--no-color", "--no-ext-diff"]).unwrap_or_default();
    let untracked = git(&["ls-files", "--others", "--exclude-standard", "--directory"]).unwrap_or_default();
    let names: String = untracked.lines().take(UNTRACKED).map(|name| format!("# untracked: {name}\n")).collect();
    let mut text = names + &changed;
    if text.len() > LONGEST {
        let cut = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("\n# .. cut off here: the patch is too long to keep\n");
    }
    (!text.is_empty()).then_some(text)
}

/// What git says in the working directory; `None` without git or outside of a repository.
fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).stdin(std::process::Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes a patch under the hash of its content; returns its name.
fn keep(out: &Path, patch: &str) -> Result<String> {
    let name = format!("{}.patch", &hex(&Sha256::digest(patch.as_bytes()))[..16]);
    let path = out.join(FOLDER).join(&name);
    if !path.exists() {
        write_atomically(&path, |file| file.write_all(patch.as_bytes()).map_err(Error::from))?;
    }
    Ok(name)
}

/// The command line, as a shell takes it.
fn command() -> String {
    let plain = |word: &str| word.chars().all(|c| c.is_alphanumeric() || "-_./=:,+@%".contains(c)) && !word.is_empty();
    let quoted = |word: String| if plain(&word) { word } else { format!("'{}'", word.replace('\'', r"'\''")) };
    std::env::args().map(quoted).collect::<Vec<_>>().join(" ")
}

/// What a device is: the processor's model; of a GPU its own and the driver's version.
pub fn hardware(device: &str) -> String {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    match device {
        "cpu" => processor,
        _ => gpus().map_or(processor.clone(), |gpus| format!("{gpus}; {processor}")),
    }
}

/// Models of the GPUs, and their driver.
fn gpus() -> Option<String> {
    let entries = std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten();
    let mut models: Vec<String> =
        entries.filter_map(|entry| field(entry.path().join("information").to_str()?, "Model")).collect();
    models.sort();
    models.dedup();
    let driver = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    let version = driver.lines().next()?.split_whitespace().find(is_version).unwrap_or("unknown");
    Some(format!("{}, driver {version}", models.join(", ")))
}

/// The value behind `name:` in a file of such lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    line.map(|value| value.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_kept_once_under_its_content() {
        let out = tempfile::tempdir().unwrap();
        let names = ["a", "b", "a"].map(|patch| keep(out.path(), patch).unwrap());
        assert_eq!(names[0], names[2]);
        assert_ne!(names[0], names[1]);
        assert_eq!(std::fs::read_dir(out.path().join(FOLDER)).unwrap().count(), 2);
        assert_eq!(std::fs::read_to_string(out.path().join(FOLDER).join(&names[1])).unwrap(), "b");
    }

    #[test]
    fn this_program_has_an_origin() {
        let out = tempfile::tempdir().unwrap();
        let origin = origin(out.path()).unwrap();
        assert_eq!(origin.binary.map(|hash| hash.len()), Some(64));
        assert!(!origin.command.is_empty() && !hardware("cpu").is_empty());
    }
}
