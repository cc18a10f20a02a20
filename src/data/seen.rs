//! What a network sees of images that lie on a GPU: as [`Channels`] on the CPU.

use super::Channels;
use crate::tensor::{
    DType, center_margin,
    gpu::{Arg, Array, Grid, Queue, View, args},
};
use candle_core::{Result, bail};
use std::ops::Range;

impl Channels {
    /// Of the middle `size x size` of these of the 8-bit RGB images, `(N, side, side, 3)`: `(samples, size, size, channels)` of
    /// `dtype`. `levels`, `(3, 256)`, is what each level of each colour is after normalization.
    ///
    /// # Errors
    /// Where there are no such images, or they are smaller.
    pub fn see(
        self,
        queue: &Queue,
        images: View,
        samples: Range<usize>,
        levels: View,
        size: usize,
        dtype: DType,
    ) -> Result<Array> {
        let (there, side, _, _) = images.shape.dims4()?;
        if samples.end > there || size > side {
            bail!("no images {samples:?} of {size} pixels in {:?}", images.shape)
        }
        let (count, margin) = (samples.len(), center_margin(side, size));
        let first = Arg::Address(images.address + (samples.start * side * side * 3) as u64);
        let out = queue.array((count, size, size, self.count()), dtype)?;
        let (kernel, threads) = match self {
            Self::Rgb => ("see_rgb", size * size),
            Self::Ycbcr => ("see_ycbcr", size * size),
            Self::Srm => ("see_srm", size * size),
            Self::Dct => ("see_dct", size.div_ceil(8).pow(2)),
        };
        let arguments = args![first, levels, &out, count, side, size, margin];
        queue.launch(kernel, dtype, Grid::over(count * threads), arguments)?;
        Ok(out)
    }
}
