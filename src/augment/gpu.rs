//! Batches made on a GPU from 8-bit images that lie there: changed, normalized and mixed.

use super::{
    cutmix::Area,
    encode::{Program, Room},
    mixing::{Mix, Pairing},
};
use crate::tensor::gpu::{Array, Grid, Queue, View, args};
use candle_core::{DType, Result};

/// Square images on a device.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    /// `(count, side, side, 3)` bytes.
    pub bytes: View<'a>,
    pub side: usize,
}

/// How images come out.
#[derive(Clone, Copy)]
pub enum Output<'a> {
    /// As bytes.
    Bytes,
    /// Normalized by what [`levels`] made, in this type.
    Normalized(View<'a>, DType),
}

/// What becomes of one of them: it must leave `size x size` pixels.
pub struct Job<'a> {
    /// Which image.
    pub sample: usize,
    pub program: &'a Program,
}

/// Threads that share an image of this side: whole warps, some pixels for each.
fn threads(side: usize) -> u32 {
    const MOST: usize = 1024;
    (side * side / 8).next_multiple_of(32).clamp(64, MOST) as u32
}

/// What each level of each channel is after normalization, `(level / 255 - mean) / std`, as [`super::normalize`].
pub fn levels(queue: &Queue, mean: [f32; 3], std: [f32; 3]) -> Result<Array> {
    let value = |channel: usize, level: usize| (level as f32 / 255.0 - mean[channel]) / std[channel];
    queue.upload(&(0..3).flat_map(|channel| (0..256).map(move |level| value(channel, level))).collect::<Vec<f32>>())
}

/// The batch, `(jobs, size, size, 3)`.
pub fn batch(queue: &Queue, images: Images, jobs: &[Job], size: usize, output: Output) -> Result<Array> {
    let count = jobs.len();
    let whole = Room { canvas: images.side * images.side * 3, ..Default::default() };
    let room = jobs.iter().fold(whole, |room, job| room.and(job.program.room));
    let Room { canvas, notes, kept } = room.aligned();
    let table = queue.upload_i64(&table(jobs))?;
    let place = queue.array(count * (2 * canvas + notes + kept), DType::U8)?;
    // Kernels are compiled for what networks compute in; bytes come from any of them.
    let (levels, dtype, kernel) = match output {
        Output::Bytes => (None, DType::U8, DType::F32),
        Output::Normalized(levels, dtype) => (Some(levels), dtype, dtype),
    };
    let out = queue.array((count, size, size, 3), dtype)?;
    let grid = Grid::blocks([count, 1], [threads(images.side), 1]);
    let arguments = args![images.bytes, &table, levels, &place, &out, images.side, size, canvas, notes, kept];
    queue.launch("augment", kernel, grid, arguments)?;
    Ok(out)
}

/// Which image each is made of, where the words of each begin, their end, and the words: doubles, bit by bit, for which
/// tensors on a device have another name.
fn table(jobs: &[Job]) -> Vec<i64> {
    let mut table: Vec<i64> = jobs.iter().map(|job| job.sample as i64).collect();
    let mut begin = 0;
    table.push(begin);
    for job in jobs {
        begin += job.program.words.len() as i64;
        table.push(begin);
    }
    table.extend(jobs.iter().flat_map(|job| &job.program.words).map(|word| word.to_bits().cast_signed()));
    table
}

/// The images mixed with their partners.
pub fn mix(queue: &Queue, x: View, pairing: Pairing, mixes: &[Mix]) -> Result<Array> {
    let (samples, size, _, channels) = x.shape.dims4()?;
    let row = |(sample, mix): (usize, &Mix)| {
        let (kind, share, Area { x, y }) = match *mix {
            Mix::Nothing => (0.0, 1.0, Area::default()),
            Mix::Average(share) => (0.0, share, Area::default()),
            Mix::Paste(share, area) => (1.0, share, area),
            Mix::Shrink(share, area) => (2.0, share, area),
        };
        let [left, right, top, bottom] = [x[0], x[1], y[0], y[1]].map(|at| at as f32);
        [pairing.partner(sample, samples) as f32, kind, share as f32, (1.0 - share) as f32, left, right, top, bottom]
    };
    let table = queue.upload(&mixes.iter().enumerate().flat_map(row).collect::<Vec<f32>>())?;
    let y = queue.array(x.shape.clone(), x.dtype)?;
    let arguments = args![x, &table, &y, samples, size, channels];
    queue.launch("mix_images", x.dtype, Grid::over(x.count()), arguments)?;
    Ok(y)
}
