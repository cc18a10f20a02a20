//! Where the GPU sides run: on a CUDA device where this was built for one and finds it, on the emulator otherwise.

use crate::emulator::emulator;
use candle_core::Device;
use runner::tensor::gpu::with_driver;
use std::sync::{Mutex, PoisonError};

/// Runs `work` with a device whose operations take their GPU side. A CUDA device does so for one thread at a time: what one
/// records must be its own.
pub fn on_gpu<T>(work: impl FnOnce(&Device) -> T) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    match cuda() {
        Some(device) => {
            let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            work(&device)
        }
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
