//! Images as they are: what evaluation and inference see, and how values become tensors.

use crate::{
    augment,
    data::{Channels, Split},
    error::{Error, Result},
    spec::RunSpec,
    tensor::{
        DType, Device, Image, Tensor,
        gpu::{self, Array, Queue},
    },
};
use rayon::prelude::*;
use std::{borrow::Cow, ops::Range, sync::OnceLock};

/// From the bytes of a square RGB image to what the network sees: its channels, of which the colours are normalized as
/// `(x / 255 - mean) / std`.
#[derive(Clone, Copy, Debug)]
pub struct Normalize {
    pub channels: Channels,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Normalize {
    /// The specification's.
    pub fn new(spec: &RunSpec) -> Result<Self> {
        let (Some(mean), Some(std)) = (spec.input.mean, spec.input.std) else {
            return Err(Error::bug("a resolved specification must hold input.mean and input.std"));
        };
        Ok(Self { channels: spec.input.channels, mean, std })
    }

    /// What each level of each colour is after normalization, `(3, 256)`, on a device.
    pub fn levels(&self, queue: &Queue) -> Result<Array> {
        Ok(augment::gpu::levels(queue, self.mean, self.std)?)
    }

    /// `(side, side, 3)` bytes to `(side, side, channels)` values.
    pub fn apply(&self, pixels: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; pixels.len() / 3 * self.channels.count()];
        self.write(pixels, &mut out);
        out
    }

    /// The same, into a place of that length.
    pub fn write(&self, pixels: &[u8], out: &mut [f32]) {
        if self.channels.is_rgb() {
            return augment::normalize(pixels, self.mean, self.std, out);
        }
        let mut colours = vec![0.0; pixels.len()];
        augment::normalize(&self.channels.colours(pixels), self.mean, self.std, &mut colours);
        let added = self.channels.added(pixels, (pixels.len() / 3).isqrt());
        let added = added.iter().map(|added| &added[..]).chain(std::iter::repeat(&[][..]));
        let values = out.chunks_exact_mut(self.channels.count()).zip(colours.chunks_exact(3)).zip(added);
        for ((out, colours), added) in values {
            out[..3].copy_from_slice(colours);
            out[3..].copy_from_slice(added);
        }
    }
}

/// How images become tensors.
#[derive(Clone, Debug)]
pub struct Images {
    pub size: usize,
    pub normalize: Normalize,
    pub device: Device,
    /// What the network computes in.
    pub dtype: DType,
    /// Of [`Normalize::levels`], once a batch has asked for them.
    levels: OnceLock<Tensor>,
}

/// A batch of images as they are, made ready on the host.
pub struct Plain {
    pixels: Pixels,
    count: usize,
}

enum Pixels {
    /// RGB of the network's size, one image after the other.
    Bytes(Vec<u8>),
    /// Some of those that lie on the device, `(N, side, side, 3)` bytes.
    There(Tensor, Range<usize>),
}

impl Images {
    pub fn new(spec: &RunSpec, device: &Device) -> Result<Self> {
        Ok(Self::of(spec.input.size, Normalize::new(spec)?, device, spec.precision.dtype()))
    }

    /// Of this size, for a network that computes in this type.
    pub fn of(size: usize, normalize: Normalize, device: &Device, dtype: DType) -> Self {
        Self { size, normalize, device: device.clone(), dtype, levels: OnceLock::new() }
    }

    /// Images of a split; `there` are all of them on the device, where they lie there.
    pub fn of_split(&self, split: &Split, samples: Range<usize>, there: Option<&Tensor>) -> Result<Plain> {
        let count = samples.len();
        match there {
            Some(images) => Ok(Plain { pixels: Pixels::There(images.clone(), samples), count }),
            None => self.ready(count, |place| Ok(self.middle(split.pixels(samples.start + place)?, split.size))),
        }
    }

    /// Pictures of the network's size.
    pub fn of_pictures(&self, pictures: &[&Image]) -> Result<Plain> {
        self.ready(pictures.len(), |place| Ok(Cow::Borrowed(&pictures[place].pixels[..])))
    }

    fn ready<'p>(&self, count: usize, pixels: impl Fn(usize) -> Result<Cow<'p, [u8]>> + Sync) -> Result<Plain> {
        let bytes = self.size * self.size * 3;
        let mut all = vec![0; count * bytes];
        all.par_chunks_exact_mut(bytes).enumerate().try_for_each(|(place, out)| {
            out.copy_from_slice(&pixels(place)?);
            Ok::<_, Error>(())
        })?;
        Ok(Plain { pixels: Pixels::Bytes(all), count })
    }

    /// The batch on the device, as the network takes it: `(count, size, size, channels)`.
    pub fn load(&self, plain: &Plain) -> Result<Tensor> {
        let (count, size) = (plain.count, self.size);
        match (&plain.pixels, Queue::of_device(&self.device)?) {
            (Pixels::Bytes(bytes), None) => self.tensor(&self.normalized_on_host(bytes), count, size),
            (Pixels::Bytes(bytes), Some(queue)) => {
                let images = queue.array((count, size, size, 3), DType::U8)?;
                queue.write(&images, 0, bytes)?;
                self.normalized(&queue, &images.into_tensor(), 0..count)
            }
            (Pixels::There(images, samples), Some(queue)) => self.normalized(&queue, images, samples.clone()),
            (Pixels::There(..), None) => Err(Error::bug("images on a device that is none")),
        }
    }

    /// Of 8-bit images on the device.
    fn normalized(&self, queue: &Queue, images: &Tensor, samples: Range<usize>) -> Result<Tensor> {
        let (levels, channels) = (self.levels(queue)?, self.normalize.channels);
        let seen = channels.see(queue, queue.view(images)?, samples, queue.view(&levels)?, self.size, self.dtype)?;
        Ok(seen.into_tensor())
    }

    fn levels(&self, queue: &Queue) -> Result<Tensor> {
        match self.levels.get() {
            Some(levels) => Ok(levels.clone()),
            None => {
                let levels = self.normalize.levels(queue)?.into_tensor();
                Ok(self.levels.get_or_init(|| levels).clone())
            }
        }
    }

    /// Normalized images as the network takes them: `(count, size, size, channels)`.
    pub fn tensor(&self, pixels: &[f32], count: usize, size: usize) -> Result<Tensor> {
        let shape = (count, size, size, self.normalize.channels.count());
        Ok(gpu::upload(pixels, shape, &self.device)?.to_dtype(self.dtype)?)
    }

    fn normalized_on_host(&self, bytes: &[u8]) -> Vec<f32> {
        let (image, values) = (self.size * self.size * 3, self.values(self.size));
        let mut all = vec![0.0; bytes.len() / image * values];
        let images = all.par_chunks_exact_mut(values).zip(bytes.par_chunks_exact(image));
        images.for_each(|(out, pixels)| self.normalize.write(pixels, out));
        all
    }

    /// The middle of a square picture with sides of `side`.
    pub fn middle<'p>(&self, pixels: &'p [u8], side: usize) -> Cow<'p, [u8]> {
        if side == self.size {
            return Cow::Borrowed(pixels);
        }
        let mut image = Image { width: side, height: side, pixels: pixels.to_vec() };
        image.center_crop(self.size);
        Cow::Owned(image.pixels)
    }

    /// Of one image with sides of `size`.
    pub fn values(&self, size: usize) -> usize {
        size * size * self.normalize.channels.count()
    }
}
