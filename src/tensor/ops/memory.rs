//! Reading tensors as slices, writing results without clearing them first.

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, bail};
use std::{mem::MaybeUninit, ops::Deref};

/// An element that is still to be written.
pub type Slot<T = f32> = MaybeUninit<T>;

/// The values of a contiguous f32 tensor.
pub fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("this operation works on contiguous tensors, got the layout {layout:?}"),
    }
}

/// The values of a contiguous f32 tensor on the CPU.
pub struct Values<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Values<'a> {
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(cpu) => slice(cpu, layout)?,
            _ => bail!("values on {:?} are read as if they lay on the CPU", tensor.device()),
        };
        Ok(Self { storage, layout })
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(cpu) => slice(cpu, self.layout).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// A vector under construction: clearing what is overwritten anyway would cost a pass over memory.
pub struct Fresh<T> {
    values: Vec<T>,
    len: usize,
}

impl<T: Copy> Fresh<T> {
    pub fn new(len: usize) -> Self {
        Self { values: Vec::with_capacity(len), len }
    }

    pub fn slots(&mut self) -> &mut [Slot<T>] {
        &mut self.values.spare_capacity_mut()[..self.len]
    }

    /// # Safety
    /// Every slot has been written.
    pub unsafe fn done(mut self) -> Vec<T> {
        // SAFETY: the capacity is at least `len`, and the caller wrote every element.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}
