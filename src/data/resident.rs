//! Images that lie on a GPU as long as their split is open, whichever runs come and go meanwhile.

use super::Split;
use crate::{
    error::Result,
    tensor::{
        DType, Device, Tensor,
        gpu::{Queue, attach},
    },
};
use std::sync::{Mutex, PoisonError};

/// Bytes copied at once, so that little is held twice.
const PIECE: usize = 64 << 20;

/// What has been copied, if anything.
#[derive(Default)]
pub struct Kept(Mutex<Option<Images>>);

struct Images(Tensor);

impl Drop for Images {
    fn drop(&mut self) {
        // Whoever closes a data set last may never have used the device; the tensor goes right after this.
        let _ = attach(self.0.device());
    }
}

impl Split {
    /// Its images on a GPU, `(N, size, size, 3)` bytes. `None` on the CPU, and where they would take more than `most`
    /// bytes.
    pub fn on_device(&self, device: &Device, most: usize) -> Result<Option<Tensor>> {
        let Some(queue) = Queue::of_device(device)? else { return Ok(None) };
        let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Images(images)) = kept.as_ref().filter(|images| images.0.device().same_device(device)) {
            return Ok(Some(images.clone()));
        }
        *kept = None;
        let bytes = self.bytes();
        if bytes > 0 && bytes <= most {
            *kept = Some(Images(self.copy(&queue)?));
        }
        Ok(kept.as_ref().map(|images| images.0.clone()))
    }

    /// What the images take.
    fn bytes(&self) -> usize {
        self.items.len() * self.size * self.size * 3
    }

    fn copy(&self, queue: &Queue) -> Result<Tensor> {
        let (count, image) = (self.items.len(), self.size * self.size * 3);
        let all = queue.array((count, self.size, self.size, 3), DType::U8)?;
        let piece = (PIECE / image).max(1);
        for first in (0..count).step_by(piece) {
            let mut images = Vec::with_capacity(piece.min(count) * image);
            for index in first..(first + piece).min(count) {
                images.extend_from_slice(self.pixels(index)?);
            }
            queue.write(&all, first * image, &images)?;
        }
        Ok(all.into_tensor())
    }
}
