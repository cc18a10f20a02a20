//! Which devices runs are put on, and how the cores are shared between runs at once.

use crate::error::{Context, Error, Result};
#[cfg(feature = "cuda")]
use crate::tensor::gpu;
use candle_core::Device;

/// Where one run at a time can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `cpu`, `cuda:0`, ..
    pub device: String,
    /// Threads of the run's own pool.
    pub threads: usize,
}

/// Shares `devices` and `cores` out between runs at once. On the CPU that is one run a core unless `jobs` says otherwise
/// (several runs of one thread are faster than one run of several), on CUDA one run a device.
pub fn places(devices: &[String], jobs: Option<usize>, runs: usize, cores: usize) -> Vec<Place> {
    let natural = if devices.iter().all(|device| device == "cpu") { cores } else { devices.len() };
    let count = jobs.unwrap_or(natural).min(runs).max(1);
    let threads = (cores / count).max(1);
    (0..count).map(|slot| Place { device: devices[slot % devices.len()].clone(), threads }).collect()
}

/// Cores this process may use: affinity and the control group's quota count.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Spells out `--device`: at least one of `cpu`, `cuda:N`; `auto` is every CUDA device, the CPU where there is none.
pub fn resolve(asked: &[String]) -> Result<Vec<String>> {
    resolve_with(asked, candle_core::utils::cuda_is_available(), cuda_devices())
}

fn resolve_with(asked: &[String], built_with_cuda: bool, present: usize) -> Result<Vec<String>> {
    let auto = || match built_with_cuda && present > 0 {
        true => (0..present).map(|index| format!("cuda:{index}")).collect(),
        false => vec!["cpu".to_string()],
    };
    let mut devices = Vec::new();
    for name in asked.iter().map(|name| name.trim()) {
        match name {
            "auto" => devices.extend(auto()),
            "cpu" => devices.push("cpu".into()),
            _ => devices.push(format!("cuda:{}", cuda_index(name, built_with_cuda)?)),
        }
    }
    if devices.is_empty() {
        devices = auto();
    }
    let mut seen = std::collections::BTreeSet::new();
    devices.retain(|device| seen.insert(device.clone()));
    Ok(devices)
}

fn cuda_index(name: &str, built_with_cuda: bool) -> Result<usize> {
    let unknown = || Error::user(format!("unknown device `{name}`; known are auto, cpu, cuda, cuda:0, cuda:1, .."));
    let index = match name.strip_prefix("cuda").ok_or_else(unknown)? {
        "" => 0,
        index => index.strip_prefix(':').and_then(|index| index.parse().ok()).ok_or_else(unknown)?,
    };
    match built_with_cuda {
        true => Ok(index),
        false => Err(Error::user(format!(
            "device `{name}`: this program was built without CUDA; build it with \
             `cargo build --release --features cuda` (a CUDA 12 or 13 toolkit is needed), or use --device cpu"
        ))),
    }
}

/// CUDA devices this process can see, without waking any of them up.
fn cuda_devices() -> usize {
    if let Ok(visible) = std::env::var("CUDA_VISIBLE_DEVICES") {
        return visible.split(',').filter(|device| !device.trim().is_empty()).count();
    }
    let nodes = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_device = |name: &str| name.strip_prefix("nvidia").is_some_and(|index| index.parse::<u32>().is_ok());
    nodes.filter(|node| node.file_name().to_str().is_some_and(is_device)).count()
}

/// Opens a device by its name; `auto` is the first CUDA device, the CPU where there is none.
pub fn open(name: &str) -> Result<Device> {
    match name {
        "auto" => open(resolve(&[])?.first().map_or("cpu", String::as_str)),
        "cpu" => Ok(Device::Cpu),
        _ => {
            let index = cuda_index(name, candle_core::utils::cuda_is_available())?;
            open_cuda(index).context(|| format!("cannot open device `{name}`"))
        }
    }
}

/// What CUDA offers: every device this process sees, its memory, and the versions of driver and libraries.
#[cfg(feature = "cuda")]
pub fn cuda_report() -> Result<String> {
    let count = cuda_devices();
    let mut lines = vec![gpu::cuda::versions()?];
    for index in 0..count.max(1) {
        lines.push(gpu::cuda::describe(index).context(|| format!("cuda:{index}"))?);
    }
    Ok(lines.join("; "))
}

#[cfg(not(feature = "cuda"))]
pub fn cuda_report() -> Result<String> {
    Err(Error::user("this program was built without CUDA"))
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> candle_core::Result<Device> {
    gpu::cuda::open(index).map(Device::Cuda)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(index: usize) -> candle_core::Result<Device> {
    Device::new_cuda(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn cores_are_shared_between_runs_at_once() {
        let cpu = names(&["cpu"]);
        let shape = |jobs, runs, cores| {
            let places = places(&cpu, jobs, runs, cores);
            (places.len(), places[0].threads)
        };
        assert_eq!(shape(None, 100, 8), (8, 1));
        assert_eq!(shape(None, 2, 8), (2, 4));
        assert_eq!(shape(Some(3), 100, 8), (3, 2));
        assert_eq!(shape(Some(16), 100, 8), (16, 1));
        assert_eq!(shape(Some(1), 100, 8), (1, 8));
    }

    #[test]
    fn every_cuda_device_gets_a_run() {
        let places = places(&names(&["cuda:0", "cuda:1"]), None, 9, 16);
        assert_eq!(places.len(), 2);
        assert_eq!(places[1], Place { device: "cuda:1".into(), threads: 8 });
    }

    #[test]
    fn devices_are_spelled_out_once() {
        assert_eq!(resolve_with(&names(&["auto"]), true, 2).unwrap(), names(&["cuda:0", "cuda:1"]));
        assert_eq!(resolve_with(&names(&["auto"]), false, 2).unwrap(), names(&["cpu"]));
        assert_eq!(resolve_with(&[], true, 0).unwrap(), names(&["cpu"]));
        assert_eq!(resolve_with(&names(&["cuda", "cuda:0", "cuda:3"]), true, 4).unwrap(), names(&["cuda:0", "cuda:3"]));
    }

    #[test]
    fn cuda_in_a_cpu_build_says_how_to_build() {
        let error = resolve_with(&names(&["cuda:0"]), false, 1).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--features cuda"), "{error}");
        assert!(resolve_with(&names(&["gpu"]), true, 1).unwrap_err().to_string().contains("unknown device `gpu`"));
    }
}
