//! The GPU side of the operations: values on a device, the kernels in `kernels/`, and the driver that launches them.
//!
//! An operation describes its work as launches on a [`Queue`] and nothing else, so that it does not know who carries
//! them out. On CUDA that is `cuda`. Tests lend a driver of their own to the CPU ([`with_driver`]): it runs the
//! same kernels, compiled for the host, under the same test bodies.

mod columns;
#[cfg(feature = "cuda")]
pub mod cuda;
mod driver;
mod queue;

pub use columns::Columns;
pub use driver::{Arg, Convolution, ConvolutionPass, Driver, Factor, Grid, Product};
pub(crate) use queue::args;
pub use queue::{Array, Queue, View, with_driver};
