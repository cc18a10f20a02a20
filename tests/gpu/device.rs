//! Where the GPU sides run: on a CUDA device where this was built for one and finds it, on the emulator otherwise.

use crate::emulator::emulator;
use candle_core::Device;
use runner::tensor::gpu::with_driver;

/// Runs `work` with a device whose operations take their GPU side.
pub fn on_gpu<T>(work: impl FnOnce(&Device) -> T) -> T {
    match cuda() {
        Some(device) => work(&device),
        None => with_driver(emulator(), || work(&Device::Cpu)),
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Option<Device> {
    use std::sync::OnceLock;
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    DEVICE.get_or_init(|| runner::tensor::gpu::cuda::open(0).ok().map(Device::Cuda)).clone()
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Option<Device> {
    None
}
