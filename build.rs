//! With the `cuda` feature: compiles the kernels to PTX, one module for each type they compute in.

use std::{env, path::PathBuf, process::Command};

const KERNELS: &str = "src/tensor/gpu/kernels";

/// The oldest devices with bf16; newer ones compile the PTX for themselves.
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
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| OLDEST.into());
    for dtype in ["f32", "bf16", "f16"] {
        let status = Command::new(&nvcc)
            .args(["--ptx", "-O3", "-std=c++17", &format!("-arch=compute_{capability}"), &format!("-DTYPE_{dtype}")])
            .arg("-o")
            .arg(out.join(format!("kernels_{dtype}.ptx")))
            .arg(format!("{KERNELS}/all.cu"))
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("{nvcc} could not compile {KERNELS}/all.cu: {status}"),
            Err(error) => panic!("the feature `cuda` needs a CUDA 12 or 13 toolkit; {nvcc} does not start: {error}"),
        }
    }
}
