//! With the `cuda` feature: compiles the kernels, one module for each type they compute in: for the device of this machine,
//! so that it need not compile them again, and as PTX for any newer one.

use std::{env, path::PathBuf, process::Command};

const KERNELS: &str = "src/tensor/gpu/kernels";

/// The oldest devices with bf16.
const OLDEST: &str = "80";

fn main() {
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-env-changed=NVCC");
    println!("cargo:rerun-if-env-changed=CUDA_COMPUTE_CAP");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".into());
    let capability = env::var("CUDA_COMPUTE_CAP").ok().or_else(capability).unwrap_or_else(|| OLDEST.into());
    let code = format!("arch=compute_{capability},code=[sm_{capability},compute_{capability}]");
    for dtype in ["f32", "bf16", "f16"] {
        let status = Command::new(&nvcc)
            .args(["--fatbin", "--no-compress", "-O3", "-std=c++17", "-gencode", &code, &format!("-DTYPE_{dtype}")])
            .arg("-o")
            .arg(out.join(format!("kernels_{dtype}.fatbin")))
            .arg(format!("{KERNELS}/all.cu"))
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("{nvcc} could not compile {KERNELS}/all.cu: {status}"),
            Err(error) => panic!("the feature `cuda` needs a CUDA 12 or 13 toolkit; {nvcc} does not start: {error}"),
        }
    }
}

/// That of the first device of this machine, as `90`.
fn capability() -> Option<String> {
    let asked = Command::new("nvidia-smi").args(["--query-gpu=compute_cap", "--format=csv,noheader"]).output().ok()?;
    let answer = String::from_utf8(asked.stdout).ok()?;
    let capability = answer.lines().next()?.trim().replace('.', "");
    (!capability.is_empty() && capability.chars().all(|digit| digit.is_ascii_digit())).then_some(capability)
}
