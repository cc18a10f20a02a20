//! Batches made on a GPU from 8-bit images that lie there: changed, cut, normalized and mixed.

use super::{
    change::Change,
    mixing::{Mix, Pairing},
};
use crate::tensor::{
    center_margin,
    gpu::{Arg, Array, Grid, Queue, View, args},
};
use candle_core::{DType, Result, bail};
use std::ops::Range;

/// Square images on a device, `(count, side, side, 3)` bytes.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    pub bytes: View<'a>,
    pub side: usize,
}

/// What becomes of them.
pub struct Recipe<'a> {
    /// Which images, in the batch's order.
    pub samples: &'a [usize],
    /// The changes of each, all of which a GPU knows.
    pub changes: &'a [Vec<[f64; super::change::WORDS]>],
    /// Width and height in the end.
    pub size: usize,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// Threads that share an image.
const THREADS: u32 = 512;

/// The normalized batch, `(count, size, size, 3)` of `dtype`.
pub fn batch(queue: &Queue, images: Images, recipe: &Recipe, dtype: DType) -> Result<Array> {
    let (count, size) = (recipe.samples.len(), recipe.size);
    let samples: Vec<i64> = recipe.samples.iter().map(|&sample| sample as i64).collect();
    let mut first = vec![0i64];
    recipe.changes.iter().for_each(|changes| first.push(first[first.len() - 1] + changes.len() as i64));
    // Bit by bit: the table holds f64, for which tensors on a device have another name.
    let words: Vec<i64> =
        recipe.changes.iter().flatten().flatten().map(|word| word.to_bits().cast_signed()).chain([0]).collect();
    let [samples, first, words] = [queue.upload_i64(&samples)?, queue.upload_i64(&first)?, queue.upload_i64(&words)?];
    let tables = queue.upload(&tables(recipe.mean, recipe.std))?;
    let room = queue.array(2 * count * images.side * images.side * 3, DType::U8)?;
    let out = queue.array((count, size, size, 3), dtype)?;
    let grid = Grid::blocks([count, 1], [THREADS, 1]);
    let arguments = args![images.bytes, &samples, &first, &words, &tables, &room, &out, images.side, size];
    queue.launch("augment", dtype, grid, arguments)?;
    Ok(out)
}

/// The middle of these images, normalized and otherwise as they are: `(count, size, size, 3)` of `dtype`.
pub fn plain(
    queue: &Queue,
    images: Images,
    samples: Range<usize>,
    size: usize,
    [mean, std]: [[f32; 3]; 2],
    dtype: DType,
) -> Result<Array> {
    let (count, side) = (samples.len(), images.side);
    if samples.end * side * side * 3 > images.bytes.count() || size > side {
        bail!("no images {samples:?} of {size} pixels in {:?}", images.bytes.shape)
    }
    let first = Arg::Address(images.bytes.address + (samples.start * side * side * 3) as u64);
    let tables = queue.upload(&tables(mean, std))?;
    let out = queue.array((count, size, size, 3), dtype)?;
    let arguments = args![first, &tables, &out, count, side, size, center_margin(side, size)];
    queue.launch("normalize_images", dtype, Grid::over(count * size * size), arguments)?;
    Ok(out)
}

/// `(level / 255 - mean) / std` of every level of every channel.
fn tables(mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let value = |channel: usize, level: usize| (level as f32 / 255.0 - mean[channel]) / std[channel];
    (0..3).flat_map(|channel| (0..256).map(move |level| value(channel, level))).collect()
}

/// The images mixed with their partners.
pub fn mix(queue: &Queue, x: View, pairing: Pairing, mixes: &[Mix]) -> Result<Array> {
    let (samples, size, _, channels) = x.shape.dims4()?;
    let rows = mixes.iter().enumerate().flat_map(|(sample, mix)| {
        let partner = pairing.partner(sample, samples) as f32;
        match *mix {
            Mix::Nothing => [partner, 1.0, 0.0, 0.0, 0.0, 0.0],
            Mix::Average(share) => [partner, share as f32, 0.0, 0.0, 0.0, 0.0],
            Mix::Paste(share, area) => {
                let [left, right, top, bottom] = [area.x[0], area.x[1], area.y[0], area.y[1]].map(|at| at as f32);
                [partner, share as f32, left, right, top, bottom]
            }
        }
    });
    let table = queue.upload(&rows.collect::<Vec<f32>>())?;
    let y = queue.array(x.shape.clone(), x.dtype)?;
    let arguments = args![x, &table, &y, samples, size, channels];
    queue.launch("mix_images", x.dtype, Grid::over(x.count()), arguments)?;
    Ok(y)
}

/// The changes as a GPU reads them, to an image of this side; `None` where one is for the CPU alone.
pub fn encode(changes: &[Change], side: usize) -> Option<Vec<[f64; super::change::WORDS]>> {
    let mut size = [side; 2];
    changes
        .iter()
        .map(|change| {
            let words = change.encode(size);
            size = change.size(size);
            words
        })
        .collect()
}
