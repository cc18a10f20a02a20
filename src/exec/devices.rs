//! Which devices runs are put on, and how the cores are shared between runs at once.

#[cfg(feature = "cuda")]
use crate::tensor::gpu;
use crate::{
    error::{Cause, Context, Error, Result},
    spec::RunsPerGpu,
};
use candle_core::Device;
use std::{collections::BTreeSet, sync::LazyLock};

/// Where one run at a time can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `cpu`, `cuda:0`, ..
    pub device: String,
    /// Threads of the run's own pool.
    pub threads: usize,
}

/// Shares `devices` and `cores` out between runs at once. On the CPU that is one run a core unless `jobs` says otherwise
/// (several runs of one thread are faster than one run of several), on CUDA `per_gpu` runs a device: every device's first
/// one comes first. Where that is measured, these are the most there can be, and each counts on the cores of a run alone.
pub fn places(devices: &[String], jobs: Option<usize>, per_gpu: RunsPerGpu, runs: usize, cores: usize) -> Vec<Place> {
    let on_cpu = devices.iter().all(|device| device == "cpu");
    let natural = |per_gpu: usize| if on_cpu { cores } else { devices.len() * per_gpu };
    let at_once = |per_gpu: usize| jobs.unwrap_or(natural(per_gpu)).min(runs).max(1);
    let (sure, most) = match per_gpu {
        RunsPerGpu::Count(count) => (at_once(count), at_once(count)),
        RunsPerGpu::Auto => (at_once(1), at_once(most_per_gpu(cores / devices.len().max(1)))),
    };
    let threads = (cores / sure).max(1);
    (0..most).map(|slot| Place { device: devices[slot % devices.len()].clone(), threads }).collect()
}

/// The most runs that may come to share a GPU by measuring: each wants two cores to prepare its batches, and beyond eight
/// there is little left to gain.
pub fn most_per_gpu(cores: usize) -> usize {
    (cores / 2).clamp(1, 8)
}

/// Cores this process may use: affinity and the control group's quota count.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What CUDA has to offer here.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code))] // what a driver may say
enum Offer {
    /// This program was built without it.
    NotBuilt,
    /// The driver does not answer, or knows no device: why.
    Nothing(String),
    /// So many devices.
    Devices(usize),
}

/// Asks the driver, once. No device wakes up.
static OFFER: LazyLock<Offer> = LazyLock::new(offer);

#[cfg(feature = "cuda")]
fn offer() -> Offer {
    match gpu::cuda::count() {
        Ok(0) => Offer::Nothing("the driver knows no device".into()),
        Ok(count) => Offer::Devices(count),
        Err(error) => Offer::Nothing(error.to_string().lines().next().unwrap_or_default().into()),
    }
}

#[cfg(not(feature = "cuda"))]
fn offer() -> Offer {
    Offer::NotBuilt
}

/// Spells out `--device`: at least one of `cpu`, `cuda:N`; `auto` is every CUDA device, the CPU where there is none. A bare
/// number behind a CUDA device is another one: `cuda:0,1`.
pub fn resolve(asked: &[String]) -> Result<Vec<String>> {
    resolve_with(asked, &OFFER)
}

fn resolve_with(asked: &[String], offer: &Offer) -> Result<Vec<String>> {
    let auto = || match offer {
        Offer::Devices(count) => (0..*count).map(|index| format!("cuda:{index}")).collect(),
        _ => vec!["cpu".to_string()],
    };
    let mut devices: Vec<String> = Vec::new();
    let mut after_cuda = false;
    for name in asked.iter().map(|name| name.trim()) {
        let bare = name.parse::<usize>().is_ok();
        if bare && !after_cuda {
            return Err(Error::user(format!(
                "device `{name}`: a bare number goes on from a CUDA device, as in cuda:0,1; write cuda:{name}"
            )));
        }
        match name {
            "auto" => devices.extend(auto()),
            "cpu" => devices.push("cpu".into()),
            _ if bare => devices.push(cuda(&format!("cuda:{name}"), offer)?),
            _ => devices.push(cuda(name, offer)?),
        }
        after_cuda = bare || name.starts_with("cuda");
    }
    if devices.is_empty() {
        devices = auto();
    }
    let mut seen = BTreeSet::new();
    devices.retain(|device| seen.insert(device.clone()));
    Ok(devices)
}

/// A CUDA device's full name.
fn cuda(name: &str, offer: &Offer) -> Result<String> {
    let index = cuda_index(name)?;
    let why = match offer {
        Offer::NotBuilt => {
            "this program was built without CUDA; build it with `cargo build --release --features cuda` (a CUDA 12 or 13 \
             toolkit is needed), or use --device cpu"
                .to_string()
        }
        Offer::Nothing(why) => {
            format!("no CUDA device answers ({why}); `runner doctor` says what is here, --device cpu does without")
        }
        Offer::Devices(count) if index >= *count => {
            let last = if *count > 1 { format!(" to cuda:{}", count - 1) } else { String::new() };
            format!("there is no such device here, only cuda:0{last}")
        }
        Offer::Devices(_) => return Ok(format!("cuda:{index}")),
    };
    Err(Error::user(format!("device `{name}`: {why}")))
}

/// The number of a CUDA device; `cuda` alone is the first one.
fn cuda_index(name: &str) -> Result<usize> {
    let unknown = || Error::user(format!("unknown device `{name}`; known are auto, cpu, cuda, cuda:0, cuda:1, .."));
    match name.strip_prefix("cuda").ok_or_else(unknown)? {
        "" => Ok(0),
        index => index.strip_prefix(':').and_then(|index| index.parse().ok()).ok_or_else(unknown),
    }
}

/// Why `auto` means the CPU, where that is worth a word: CUDA was built in, or a GPU is here.
pub fn why_cpu(asked: &[String]) -> Option<String> {
    let auto = asked.is_empty() || asked.iter().any(|name| name.trim() == "auto");
    why_cpu_with(&OFFER, std::path::Path::new("/dev/nvidia0").exists()).filter(|_| auto)
}

fn why_cpu_with(offer: &Offer, gpu: bool) -> Option<String> {
    match offer {
        Offer::Devices(_) => None,
        Offer::Nothing(why) => Some(format!("no CUDA device answers ({why}), so runs go on the CPU")),
        Offer::NotBuilt => gpu.then(|| {
            "there is a GPU here, but this program was built without CUDA (cargo build --release --features cuda), so runs \
             go on the CPU"
                .into()
        }),
    }
}

/// What the driver tells of a GPU without waking it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// E.g. `NVIDIA H100 80GB HBM3`.
    pub model: String,
    /// As `nvidia-smi` writes it, e.g. `GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77`.
    pub uuid: String,
    /// Bytes of memory.
    pub memory: u64,
}

/// A device as the driver knows it; `None` of the CPU, and where there is no such device.
#[cfg(feature = "cuda")]
pub fn gpu(name: &str) -> Option<Gpu> {
    let index = cuda_index(name).ok().filter(|_| *OFFER != Offer::NotBuilt)?;
    let (model, uuid, memory) = gpu::cuda::identity(index).ok()?;
    Some(Gpu { model, uuid, memory })
}

/// Without CUDA there is none.
#[cfg(not(feature = "cuda"))]
pub fn gpu(_: &str) -> Option<Gpu> {
    None
}

/// Opens a device by its name; `auto` is the first CUDA device, the CPU where there is none.
pub fn open(name: &str) -> Result<Device> {
    match name {
        "auto" => open(resolve(&[])?.first().map_or("cpu", String::as_str)),
        "cpu" => Ok(Device::Cpu),
        _ => {
            let device = open_cuda(cuda_index(name)?).context(|| format!("cannot open device `{name}`"));
            device.map_err(|error| match cuda(name, &OFFER) {
                // Why there is none says more, unless it may come back.
                Err(why) if error.cause == Cause::Bug => why,
                _ => error,
            })
        }
    }
}

/// What CUDA offers: every device this process sees, its memory, and the versions of driver and libraries.
#[cfg(feature = "cuda")]
pub fn cuda_report() -> Result<String> {
    let count = match &*OFFER {
        Offer::Devices(count) => *count,
        Offer::Nothing(why) => return Err(Error::user(why)),
        Offer::NotBuilt => return Err(Error::bug("a CUDA build without CUDA")),
    };
    let mut lines = vec![gpu::cuda::versions()?];
    for index in 0..count {
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

    const ONE: RunsPerGpu = RunsPerGpu::Count(1);

    #[test]
    fn cores_are_shared_between_runs_at_once() {
        let cpu = names(&["cpu"]);
        let shape = |jobs, runs, cores| {
            let places = places(&cpu, jobs, ONE, runs, cores);
            (places.len(), places[0].threads)
        };
        assert_eq!(shape(None, 100, 8), (8, 1));
        assert_eq!(shape(None, 2, 8), (2, 4));
        assert_eq!(shape(Some(3), 100, 8), (3, 2));
        assert_eq!(shape(Some(16), 100, 8), (16, 1));
        assert_eq!(shape(Some(1), 100, 8), (1, 8));
    }

    #[test]
    fn every_cuda_device_gets_a_run_before_any_gets_two() {
        let cuda = names(&["cuda:0", "cuda:1"]);
        let places = |jobs, per_gpu, runs| places(&cuda, jobs, per_gpu, runs, 16);
        let one = places(None, ONE, 9);
        assert_eq!((one.len(), &one[1]), (2, &Place { device: "cuda:1".into(), threads: 8 }));
        let two = places(None, RunsPerGpu::Count(2), 9);
        let devices: Vec<&str> = two.iter().map(|place| place.device.as_str()).collect();
        assert_eq!((devices, two[0].threads), (vec!["cuda:0", "cuda:1", "cuda:0", "cuda:1"], 4));
        assert_eq!(places(None, RunsPerGpu::Count(2), 3).len(), 3);
        assert_eq!(places(Some(3), RunsPerGpu::Count(2), 9).len(), 3);
        let auto = places(None, RunsPerGpu::Auto, 9);
        assert_eq!((auto.len(), auto[0].threads), (8, 8));
    }

    #[test]
    fn devices_are_spelled_out_once() {
        let resolve = |asked: &[&str], offer| resolve_with(&names(asked), &offer);
        let two = || Offer::Devices(2);
        assert_eq!(resolve(&["auto"], two()).unwrap(), names(&["cuda:0", "cuda:1"]));
        assert_eq!(resolve(&["auto"], Offer::NotBuilt).unwrap(), names(&["cpu"]));
        assert_eq!(resolve(&[], Offer::Nothing("no driver".into())).unwrap(), names(&["cpu"]));
        let four = Offer::Devices(4);
        assert_eq!(resolve(&["cuda", "cuda:0", "cuda:3"], four.clone()).unwrap(), names(&["cuda:0", "cuda:3"]));
        assert_eq!(resolve(&["cuda:0", "1", " 3", "0"], four.clone()).unwrap(), names(&["cuda:0", "cuda:1", "cuda:3"]));
        assert_eq!(resolve(&["cuda:1", "cuda:0"], four).unwrap(), names(&["cuda:1", "cuda:0"]));
    }

    #[test]
    fn what_is_wrong_with_a_device_is_named() {
        let wrong = |asked: &[&str], offer: Offer| {
            let error = resolve_with(&names(asked), &offer).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        };
        let two = || Offer::Devices(2);
        assert!(wrong(&["cuda:0"], Offer::NotBuilt).contains("--features cuda"));
        assert!(wrong(&["gpu"], two()).contains("unknown device `gpu`"));
        assert!(wrong(&["cuda:x"], two()).contains("unknown device `cuda:x`"));
        assert!(wrong(&["1"], two()).contains("write cuda:1"));
        assert!(wrong(&["cpu", "1"], two()).contains("write cuda:1"));
        assert!(
            wrong(&["cuda:0", "2"], two())
                .contains("device `cuda:2`: there is no such device here, only cuda:0 to cuda:1")
        );
        let silent = wrong(&["cuda"], Offer::Nothing("CUDA_ERROR_NO_DEVICE".into()));
        assert!(silent.contains("CUDA_ERROR_NO_DEVICE"), "{silent}");
    }

    #[test]
    fn falling_back_to_the_cpu_is_said() {
        assert_eq!(why_cpu_with(&Offer::Devices(1), true), None);
        assert_eq!(why_cpu_with(&Offer::NotBuilt, false), None);
        assert!(why_cpu_with(&Offer::NotBuilt, true).unwrap().contains("built without CUDA"));
        assert!(why_cpu_with(&Offer::Nothing("no driver".into()), false).unwrap().contains("no driver"));
        assert_eq!(why_cpu(&names(&["cpu"])), None);
    }
}
