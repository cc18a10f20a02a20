//! Pinned memory on the way to a device: from there copies run beside the device's work, and the host does not wait.

use candle_core::{
    Result,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, result},
    },
};
use std::sync::Arc;

/// Buffers that are used again once their last copy is over.
#[derive(Default)]
pub struct Staging {
    buffers: Vec<Buffer>,
}

struct Buffer {
    memory: PinnedHostSlice<u8>,
    /// After the last copy out of it.
    copied: CudaEvent,
}

impl Staging {
    /// Pinned bytes beyond which the host waits for a copy to end: it may be far ahead of the device.
    const MOST: usize = 256 << 20;

    /// Copies `values` to `address` in the stream's order.
    pub fn upload(&mut self, values: &[u8], address: u64, stream: &Arc<CudaStream>) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let buffer = self.free(values.len(), stream)?;
        let memory = buffer.memory.as_mut_slice().w()?;
        memory[..values.len()].copy_from_slice(values);
        // SAFETY: the caller's array holds that many bytes; the buffer is not touched before the event has passed.
        unsafe { result::memcpy_htod_async(address, &memory[..values.len()], stream.cu_stream()) }.w()?;
        buffer.copied.record(stream).w()
    }

    /// A buffer of at least so many bytes that nothing is copied from any more.
    fn free(&mut self, bytes: usize, stream: &Arc<CudaStream>) -> Result<&mut Buffer> {
        let fits = |buffer: &Buffer| buffer.memory.len() >= bytes && buffer.copied.is_complete();
        if let Some(place) = self.buffers.iter().position(fits) {
            return Ok(&mut self.buffers[place]);
        }
        let pinned: usize = self.buffers.iter().map(|buffer| buffer.memory.len()).sum();
        let large = self.buffers.iter().position(|buffer| buffer.memory.len() >= bytes);
        if let Some(place) = large.filter(|_| pinned >= Self::MOST) {
            self.buffers[place].copied.synchronize().w()?;
            return Ok(&mut self.buffers[place]);
        }
        let context = stream.context();
        // SAFETY: written before it is read.
        let memory = unsafe { context.alloc_pinned::<u8>(bytes.next_power_of_two()) }.w()?;
        self.buffers.push(Buffer { memory, copied: context.new_event(None).w()? });
        let last = self.buffers.len() - 1;
        Ok(&mut self.buffers[last])
    }
}
