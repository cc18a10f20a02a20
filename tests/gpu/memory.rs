//! A device whose memory runs out: the run says so, and in parts that fit it comes to the same numbers.

use crate::{counting, emulator::emulator, train};
use candle_core::{DType, Device, Error, Result, Storage};
use runner::{
    error::Cause,
    tensor::gpu::{Arg, Convolution, ConvolutionPass, Driver, Grid, Product, with_driver},
};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The emulator with so many bytes of memory for this thread, beyond which it says what CUDA says.
struct Limited {
    device: Arc<dyn Driver>,
    limit: usize,
    /// The most it was asked for.
    most: AtomicUsize,
}

impl Driver for Limited {
    fn room(&self, count: usize, dtype: DType) -> Result<Storage> {
        let taken = counting::live() + count * dtype.size_in_bytes();
        self.most.fetch_max(taken, Relaxed);
        match taken > self.limit {
            true => Err(Error::Cuda("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into())),
            false => self.device.room(count, dtype),
        }
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        Ok(Some(self.limit.saturating_sub(counting::live())))
    }

    fn held_memory(&self) -> Result<Option<u64>> {
        self.device.held_memory()
    }

    fn peak_memory(&self) -> Result<Option<u64>> {
        self.device.peak_memory()
    }

    fn share(&self, among: usize) -> Result<()> {
        self.device.share(among)
    }

    fn address(&self, storage: &Storage) -> Result<u64> {
        self.device.address(storage)
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        self.device.clear(address, bytes)
    }

    fn upload(&self, values: &[u8], address: u64) -> Result<()> {
        self.device.upload(values, address)
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Arg]) -> Result<()> {
        self.device.launch(kernel, grid, arguments)
    }

    fn matmul(&self, product: &Product) -> Result<()> {
        self.device.matmul(product)
    }

    fn convolve(&self, pass: ConvolutionPass, convolution: &Convolution, places: [u64; 3]) -> Result<()> {
        self.device.convolve(pass, convolution, places)
    }
}

/// What a run comes to on a device with this much memory, and the most it asked for.
fn run(micro_batch: Option<usize>, memory: usize) -> (runner::error::Result<train::Losses>, usize) {
    // No batch norm: a batch in parts comes to the same gradients up to rounding. What is frozen takes no memory but its own.
    let frozen = ["stages.1.*", "stages.2.*", "stages.3.*"];
    let change = json!({ "batch_size": 12, "augment": [], "freeze": frozen });
    let spec = train::spec("convnext_atto", "f32", change);
    let work = || {
        let driver = Arc::new(Limited { device: emulator(), limit: memory, most: AtomicUsize::new(0) });
        let losses = with_driver(driver.clone(), || train::losses(&spec, &Device::Cpu, micro_batch));
        (losses, driver.most.load(Relaxed))
    };
    // Its own thread has nothing yet.
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn a_batch_that_memory_does_not_hold_is_computed_in_parts() {
    let (whole, peak) = run(None, usize::MAX);
    let (parts, peak_of_parts) = run(Some(6), usize::MAX);
    let (whole, parts) = (whole.unwrap(), parts.unwrap());
    assert!(peak_of_parts < peak, "{peak_of_parts} and {peak}");
    let memory = peak.midpoint(peak_of_parts);

    let error = run(None, memory).0.unwrap_err();
    assert_eq!(error.cause, Cause::OutOfMemory, "{error}");
    assert!(error.to_string().contains("CUDA_ERROR_OUT_OF_MEMORY"), "{error}");
    let (within, peak) = run(Some(6), memory);
    assert!(peak <= memory, "{peak} of {memory}");
    assert_eq!(within.unwrap(), parts);
    assert_eq!(parts.0.len(), whole.0.len(), "as many optimizer steps, each of the whole batch");
    for (parts, whole) in parts.0.iter().chain([&parts.1]).zip(whole.0.iter().chain([&whole.1])) {
        assert!((parts - whole).abs() < 1e-5, "{parts} and not {whole}");
    }
}
