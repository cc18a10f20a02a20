//! The GPU side of the operations: values on a device, the kernels in `kernels/`, and the driver that launches them.
//!
//! An operation describes its work as launches on a [`Queue`] and nothing else, so that it does not know who carries
//! them out. On CUDA that is `cuda`. Tests lend a driver of their own to the CPU ([`with_driver`]): it runs the
//! same kernels, compiled for the host, under the same test bodies.

mod averages;
mod columns;
#[cfg(feature = "cuda")]
pub mod cuda;
mod driver;
mod many;
mod queue;

pub use averages::Averages;
pub use columns::Columns;
pub use driver::{Arg, Convolution, ConvolutionPass, Download, Driver, Factor, Grid, Product, Recording, type_name};
pub use many::{Column, Many, Part, Rooms};
pub(crate) use queue::args;
pub use queue::{Array, Queue, View, with_driver};

use candle_core::{Device, Result, Shape, Tensor};

/// How a device computes: what a run chooses once, before its first operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode {
    /// f32 products may round their factors to 10 bits (TF32).
    pub tf32: bool,
    /// Only algorithms whose results are the same every time.
    pub deterministic: bool,
}

/// Lets this thread use a device, be it only to give memory back: CUDA wants every thread to have been told. Operations see to
/// it themselves.
pub fn attach(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::attach(device),
        _ => Ok(()),
    }
}

/// Sets how a device computes from now on. The CPU computes in f32, the same every time, whatever is asked.
pub fn set_mode(device: &Device, mode: Mode) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::set_mode(device, mode),
        _ => {
            let _ = mode;
            Ok(())
        }
    }
}

/// Lets go of a device's memory that is only kept, and says that `among` processes share it from now on. Nothing on the
/// CPU.
pub fn share(device: &Device, among: usize) -> Result<()> {
    Queue::of_device(device)?.map_or(Ok(()), |queue| queue.share(among))
}

/// Values of the host as a tensor; where the device is a GPU, without waiting for it.
pub fn upload(values: &[f32], shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::upload(values, shape.into(), device),
        _ => Tensor::from_slice(values, shape, device),
    }
}
