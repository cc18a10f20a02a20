//! Memory: how much there is, what a run takes, and what earlier runs on this machine taught about it.

use super::devices;
use crate::spec::RunSpec;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What a run takes before anything of its kind was measured: the process, and the activations of a deep network.
const PROCESS: u64 = 400 << 20;
const BYTES_PER_INPUT_PIXEL: u64 = 4000;

/// What was learnt about runs, by [`kind`]; a file in the cache, since losing it costs nothing but measuring again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Most resident memory of a run, in bytes.
    peak: BTreeMap<String, u64>,
    /// Most memory of a run on its GPU, in bytes.
    device_peak: BTreeMap<String, u64>,
    /// Seconds of an optimizer step, from a probe.
    step_seconds: BTreeMap<String, f64>,
    /// The most images of one forward pass that fitted, where fewer than asked for did.
    micro_batch: BTreeMap<String, usize>,
    #[serde(skip)]
    path: PathBuf,
}

impl Known {
    /// Reads what is known; nothing where there is no file or it is damaged.
    pub fn load(cache: &Path) -> Self {
        let path = cache.join("memory.json");
        let known = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, ..known.unwrap_or_default() }
    }

    fn save(&self) {
        if let Ok(bytes) = serde_json::to_vec_pretty(self) {
            let _ = std::fs::write(&self.path, bytes);
        }
    }

    /// Memory a run of this kind is expected to take, in bytes.
    pub fn expected(&self, kind: &str, spec: &RunSpec) -> u64 {
        let images = (spec.batch_size * spec.input.size * spec.input.size) as u64;
        self.peak.get(kind).copied().unwrap_or(PROCESS + images * BYTES_PER_INPUT_PIXEL)
    }

    /// Memory a run of this kind was seen to take, in bytes.
    pub fn measured(&self, kind: &str) -> Option<u64> {
        self.peak.get(kind).copied()
    }

    /// Seconds of a step of such a run, where it was probed.
    pub fn step_seconds(&self, kind: &str) -> Option<f64> {
        self.step_seconds.get(kind).copied()
    }

    /// Takes note of the seconds of a step.
    pub fn observe_step(&mut self, kind: &str, seconds: f64) {
        self.step_seconds.insert(kind.to_string(), seconds);
        self.save();
    }

    /// Takes note of the most memory that a run was seen to take, in bytes.
    pub fn observe(&mut self, kind: &str, peak: u64) {
        if higher(&mut self.peak, kind, peak) {
            self.save();
        }
    }

    /// Memory of its GPU that a run of this kind was seen to take, in bytes.
    pub fn on_device(&self, kind: &str) -> Option<u64> {
        self.device_peak.get(kind).copied()
    }

    /// Takes note of the most memory of its GPU that a run was seen to take, in bytes.
    pub fn observe_on_device(&mut self, kind: &str, peak: u64) {
        if higher(&mut self.device_peak, kind, peak) {
            self.save();
        }
    }

    /// The micro-batch to start with, where the whole batch did not fit before.
    pub fn micro_batch(&self, kind: &str) -> Option<usize> {
        self.micro_batch.get(kind).copied()
    }

    /// Takes note of the most images of such a run that memory holds at a time.
    pub fn fits_only(&mut self, kind: &str, micro_batch: usize) {
        self.micro_batch.insert(kind.to_string(), micro_batch);
        self.peak.remove(kind);
        self.device_peak.remove(kind);
        self.save();
    }
}

/// Takes a peak that is higher than the known one by more than such numbers jitter; whether it was.
fn higher(peaks: &mut BTreeMap<String, u64>, kind: &str, peak: u64) -> bool {
    let known = peaks.entry(kind.to_string()).or_default();
    let rose = peak > *known + *known / 50;
    if rose {
        *known = peak;
    }
    rose
}

/// Runs that take the same memory: same machine and model of device, network, image size, batch and precision.
pub fn kind(spec: &RunSpec, device: &str) -> String {
    let RunSpec { backbone, input, batch_size, precision, .. } = spec;
    let device = devices::gpu(device).map_or_else(|| device.to_string(), |gpu| gpu.model);
    format!("{} {device} {} {} px batch {batch_size} {precision:?}", host(), backbone.name, input.size)
}

/// This machine's name.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this machine".into() } else { name.trim().into() }
}

/// Memory this process and its children may still take, in bytes: what the machine has free, within the limit of the
/// control group. `None` where the system does not say.
pub fn available() -> Option<u64> {
    let free = field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(cgroup_room().map_or(free, |room| room.min(free)))
}

/// A control group's limit less what it uses.
fn cgroup_room() -> Option<u64> {
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let room = |limit: PathBuf| {
        let used = if limit.ends_with("memory.max") { "memory.current" } else { "memory.usage_in_bytes" };
        Some(number(limit.clone())?.saturating_sub(number(limit.with_file_name(used))?))
    };
    groups("memory.max", "memory.limit_in_bytes").into_iter().filter_map(room).min()
}

/// A file of this process's control groups, under its name in version 2 and in version 1.
fn groups(second: &str, first: &str) -> Vec<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let file = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?.trim_start_matches('/'));
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", second),
            "memory" => ("/sys/fs/cgroup/memory", first),
            _ => return None,
        };
        // Inside a container the group's own folder is mounted as the root.
        [Path::new(root).join(group).join(name), Path::new(root).join(name)].into_iter().find(|path| path.exists())
    };
    groups.lines().filter_map(file).collect()
}

/// Processes that the kernel kills for memory, one after the other.
#[derive(Debug)]
pub struct KernelKills {
    seen: u64,
}

impl KernelKills {
    /// Knows those that there have been.
    pub fn new() -> Self {
        Self { seen: kernel_kills().unwrap_or(0) }
    }

    /// Whether there is one that was not told yet.
    pub fn rose(&mut self) -> bool {
        let rose = kernel_kills().is_some_and(|count| count > self.seen);
        self.seen += u64::from(rose);
        rose
    }
}

/// How many processes the kernel has killed for memory: in this process's control group, in the whole system where that
/// does not count. `None` where the system does not say.
fn kernel_kills() -> Option<u64> {
    let count = |path: &Path| {
        let table = std::fs::read_to_string(path).ok()?;
        table.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    };
    let group = groups("memory.events", "memory.oom_control").iter().find_map(|path| count(path));
    group.or_else(|| count(Path::new("/proc/vmstat")))
}

/// The most memory a process has had resident, in bytes.
pub fn peak(process: u32) -> Option<u64> {
    field(&std::fs::read_to_string(format!("/proc/{process}/status")).ok()?, "VmHWM:")
}

/// Starts [`peak`] anew for this process.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A field of the kernel's tables, given in kB.
fn field(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_bytes() {
        let table = "Name:\trunner\nVmHWM:\t    2048 kB\nVmRSS:\t  1 kB\n";
        assert_eq!(field(table, "VmHWM:"), Some(2 << 20));
        assert_eq!(field(table, "VmSwap:"), None);
    }

    #[test]
    fn what_was_learnt_is_there_the_next_time_and_damage_is_nothing_known() {
        let cache = tempfile::tempdir().unwrap();
        let mut known = Known::load(cache.path());
        known.observe("a", 1000);
        known.observe("a", 10);
        known.observe_on_device("a", 2000);
        known.observe_on_device("b", 2000);
        known.fits_only("b", 8);
        let again = Known::load(cache.path());
        assert_eq!((again.on_device("a"), again.on_device("b")), (Some(2000), None));
        assert_eq!((again.peak.get("a"), again.micro_batch("b"), again.micro_batch("a")), (Some(&1000), Some(8), None));
        std::fs::write(cache.path().join("memory.json"), "{\"peak").unwrap();
        assert_eq!(Known::load(cache.path()).micro_batch("b"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory_and_this_process_takes_some() {
        assert!(available().unwrap() > 1 << 20);
        assert!(peak(std::process::id()).unwrap() > 1 << 16);
        assert!(kernel_kills().is_some());
    }
}
