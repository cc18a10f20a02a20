use super::output;
use crate::{backbone, error::Result, exec};
use std::path::PathBuf;

/// Say what this machine offers: cores, instructions, memory, CUDA, pretrained weights, results folder
#[derive(clap::Args)]
pub struct Args {
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<u8> {
    let rows = [
        (
            "runner",
            format!("{}, {} build", env!("CARGO_PKG_VERSION"), if cfg!(feature = "cuda") { "CUDA" } else { "CPU" }),
        ),
        ("cores", std::thread::available_parallelism().map_or("unknown".into(), |cores| cores.to_string())),
        ("instructions", instructions()),
        ("memory", memory().unwrap_or_else(|| "unknown".into())),
        ("cuda", cuda()),
        ("pretrained", backbone::pretrained::places()),
        ("results", results(&args.out)),
    ];
    for (name, value) in rows {
        output::line(format_args!("{name:<13} {value}"))?;
    }
    Ok(0)
}

/// What the kernels will use.
fn instructions() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let found: Vec<&str> = [
            ("AVX-512", std::is_x86_feature_detected!("avx512f")),
            ("AVX2", std::is_x86_feature_detected!("avx2")),
            ("FMA", std::is_x86_feature_detected!("fma")),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect();
        if found.is_empty() { "x86-64, no AVX2: the portable kernels".into() } else { found.join(", ") }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        format!("{}: the portable kernels", std::env::consts::ARCH)
    }
}

fn memory() -> Option<String> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let gib = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1_048_576.0)
    };
    Some(format!("{:.1} GiB, {:.1} GiB available", gib("MemTotal:")?, gib("MemAvailable:")?))
}

fn cuda() -> String {
    if !cfg!(feature = "cuda") {
        return format!("not in this build (cargo build --release --features cuda); {}", libraries());
    }
    match exec::cuda_report() {
        Ok(devices) => devices,
        Err(error) => format!("in this build, but no device answers: {error}"),
    }
}

/// Whether a program built with CUDA would start here: the loader refuses it where one of its libraries is missing.
fn libraries() -> String {
    let missing: Vec<&str> = [c"libcuda.so.1", c"libcudnn.so.9"]
        .into_iter()
        // SAFETY: the name is a C string; what a library does when it is loaded is the same as in a program that uses it.
        .filter(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY) }.is_null())
        .filter_map(|name| name.to_str().ok())
        .collect();
    match missing.as_slice() {
        [] => "the driver and cuDNN 9 are here".into(),
        names => format!("such a program would not start here, {} missing", names.join(" and ")),
    }
}

fn results(out: &std::path::Path) -> String {
    let there = out.ancestors().find(|path| path.exists() && !path.as_os_str().is_empty());
    let place = there.unwrap_or(std::path::Path::new("."));
    match tempfile::tempfile_in(place) {
        Ok(_) => format!("{} can be written", out.display()),
        Err(error) => format!("{} cannot be written: {error}", out.display()),
    }
}
