//! How busy GPUs are, as `nvidia-smi` samples it. Where it is not there, nothing is known.

use std::{
    collections::{BTreeMap, VecDeque},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// What was sampled of each GPU.
#[derive(Clone, Default)]
pub struct Load(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// By UUID.
    gpus: BTreeMap<String, Samples>,
    /// Whether the first samples are on their way.
    expected: bool,
}

/// The latest samples since the runs on it last changed.
#[derive(Default)]
struct Samples {
    /// The share of the time in which it computed.
    busy: VecDeque<f64>,
    /// Bytes of memory in use, by whomever.
    used: u64,
}

/// How busy a GPU is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    pub busy: f64,
    /// Bytes of memory in use, by whomever.
    pub used: u64,
}

impl Load {
    /// Samples that make a judgement.
    pub const ENOUGH: usize = 5;

    /// Samples until it is dropped, on a thread of its own.
    pub fn watch() -> Self {
        let load = Self(Arc::new(Mutex::new(Known { expected: true, ..Known::default() })));
        let weak = Arc::downgrade(&load.0);
        std::thread::spawn(move || sample_until_dropped(&weak));
        load
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a GPU; `None` where nothing is.
    pub fn of(&self, uuid: &str) -> Option<Now> {
        let known = self.known();
        let Samples { busy, used } = known.gpus.get(uuid).filter(|samples| !samples.busy.is_empty())?;
        Some(Now { busy: busy.iter().sum::<f64>() / busy.len() as f64, used: *used })
    }

    /// Whether there are, or will be, samples, but too few for a judgement.
    pub fn is_unsettled(&self, uuid: &str) -> bool {
        let known = self.known();
        known.gpus.get(uuid).map_or(known.expected, |samples| samples.busy.len() < Self::ENOUGH)
    }

    /// Begins anew.
    pub fn forget(&self, uuid: &str) {
        if let Some(samples) = self.known().gpus.get_mut(uuid) {
            samples.busy.clear();
        }
    }

    /// Takes a sample.
    pub fn sample(&self, uuid: &str, busy: f64, used: u64) {
        let mut known = self.known();
        let samples = known.gpus.entry(uuid.to_string()).or_default();
        samples.used = used;
        samples.busy.push_back(busy);
        if samples.busy.len() > Self::ENOUGH {
            samples.busy.pop_front();
        }
    }
}

/// Ends where `nvidia-smi` does not answer, too.
fn sample_until_dropped(load: &Weak<Mutex<Known>>) {
    while let Some(load) = load.upgrade().map(Load) {
        let lines = ask();
        load.known().expected = false;
        let Some(lines) = lines else { return };
        lines.lines().filter_map(line).for_each(|(uuid, busy, used)| load.sample(uuid, busy, used));
        drop(load);
        std::thread::sleep(PAUSE);
    }
}

fn ask() -> Option<String> {
    let query = "--query-gpu=uuid,utilization.gpu,memory.used";
    let mut smi = Command::new("nvidia-smi");
    let output = smi.args([query, "--format=csv,noheader,nounits"]).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// UUID, busy share and bytes in use, from `GPU-.., 57, 1024`.
fn line(line: &str) -> Option<(&str, f64, u64)> {
    let mut fields = line.split(',').map(str::trim);
    let (uuid, percent, mebibytes) = (fields.next()?, fields.next()?, fields.next()?);
    Some((uuid, percent.parse::<f64>().ok()? / 100.0, mebibytes.parse::<u64>().ok()? << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_nvidia_smi_is_read_or_left_out() {
        assert_eq!(line("GPU-5d5ba0d6-d33d, 57, 1024"), Some(("GPU-5d5ba0d6-d33d", 0.57, 1 << 30)));
        assert_eq!(line("GPU-5d5ba0d6-d33d, [N/A], 1024"), None);
        assert_eq!(line("No devices were found"), None);
    }

    #[test]
    fn a_judgement_takes_the_latest_samples() {
        let load = Load::default();
        assert_eq!((load.of("a"), load.is_unsettled("a")), (None, false));
        load.sample("a", 1.0, 7);
        assert!(load.is_unsettled("a"));
        (0..Load::ENOUGH).for_each(|_| load.sample("a", 0.5, 9));
        assert_eq!((load.of("a"), load.is_unsettled("a")), (Some(Now { busy: 0.5, used: 9 }), false));
        load.forget("a");
        assert_eq!((load.of("a"), load.is_unsettled("a")), (None, true));
    }
}
