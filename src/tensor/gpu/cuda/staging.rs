//! Pinned memory on the way to a device and back: copies run beside the device's work, and the host does not wait.

use crate::tensor::gpu::Download;

use candle_core::{
    Result,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, result},
    },
};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that are used again once their last copy is over.
#[derive(Default)]
pub struct Staging {
    buffers: Vec<Buffer>,
}

struct Buffer {
    memory: PinnedHostSlice<u8>,
    /// After the last copy out of it, or into it.
    copied: CudaEvent,
}

impl Buffer {
    fn new(bytes: usize, stream: &CudaStream) -> Result<Self> {
        let context = stream.context();
        // SAFETY: written before it is read.
        let memory = unsafe { context.alloc_pinned::<u8>(bytes.next_power_of_two()) }.w()?;
        Ok(Self { memory, copied: context.new_event(None).w()? })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Memory must not go while it is copied.
        let _ = self.copied.synchronize();
    }
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
        self.buffers.push(Buffer::new(bytes, stream)?);
        let last = self.buffers.len() - 1;
        Ok(&mut self.buffers[last])
    }
}

/// Buffers that wait for their next download.
#[derive(Clone, Default)]
pub struct Downloads(Arc<Mutex<Vec<Buffer>>>);

impl Downloads {
    /// Copies from `address` in the stream's order.
    pub fn start(&self, address: u64, bytes: usize, stream: &Arc<CudaStream>) -> Result<Download> {
        let mut buffer = self.take(bytes, stream)?;
        let memory = buffer.memory.as_mut_slice().w()?;
        // SAFETY: the caller's array holds that many bytes; the buffer is not read before the event has passed.
        unsafe { result::memcpy_dtoh_async(&mut memory[..bytes], address, stream.cu_stream()) }.w()?;
        buffer.copied.record(stream).w()?;
        let these = self.clone();
        Ok(Box::new(move || {
            buffer.copied.synchronize().w()?;
            let values = buffer.memory.as_slice().w()?[..bytes].to_vec();
            these.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
            Ok(values)
        }))
    }

    fn take(&self, bytes: usize, stream: &CudaStream) -> Result<Buffer> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match free.iter().position(|buffer| buffer.memory.len() >= bytes) {
            Some(place) => Ok(free.swap_remove(place)),
            None => Buffer::new(bytes, stream),
        }
    }
}
