//! Statistics of channels, and sums over rows: f32 within a block, f64 across.

use super::rows::add_distances;
use crate::tensor::ops::lanes::Lanes;
use rayon::prelude::*;

/// Mean and biased variance of each channel.
pub struct Moments {
    pub mean: Vec<f64>,
    pub var: Vec<f64>,
}

impl Moments {
    /// Blocks of one task.
    pub const BLOCKS: usize = 8;

    /// One pass: sums and sums of squares of the distance to the first block's mean, f32 within a block, f64 across.
    /// The variance holds at least the first block's share of that distance, so at most as many times the rounding of a
    /// block is lost as there are blocks, however large the mean is against the deviation.
    pub fn of(x: &[f32], channels: usize) -> Self {
        let lanes = Lanes::new(channels);
        let center = first_mean(x, &lanes);
        let wide = lanes.widen(&center);
        let tasks: Vec<[Vec<f64>; 2]> =
            x.par_chunks(lanes.block() * Self::BLOCKS).map(|task| distance_sums(task, &wide, &lanes)).collect();
        let [sums, squares] = total(&tasks, channels);
        let rows = (x.len() / channels) as f64;
        let offset = |c: usize| sums[c] / rows;
        Self {
            mean: (0..channels).map(|c| f64::from(center[c]) + offset(c)).collect(),
            var: (0..channels).map(|c| (squares[c] / rows - offset(c) * offset(c)).max(0.0)).collect(),
        }
    }
}

/// The mean of the first block.
fn first_mean(x: &[f32], lanes: &Lanes) -> Vec<f32> {
    let block = &x[..x.len().min(lanes.block())];
    let mut sums = vec![0.0; lanes.channels];
    lanes.fold(block, &mut sums);
    let rows = (block.len() / lanes.channels) as f64;
    sums.iter().map(|sum| (sum / rows) as f32).collect()
}

/// The sum over tasks, in order.
pub fn total<const N: usize>(tasks: &[[Vec<f64>; N]], channels: usize) -> [Vec<f64>; N] {
    let mut totals = [const { Vec::new() }; N];
    for (i, total) in totals.iter_mut().enumerate() {
        total.resize(channels, 0.0);
        for task in tasks {
            total.iter_mut().zip(&task[i]).for_each(|(total, value)| *total += value);
        }
    }
    totals
}

/// Sums of `x - center` and of its square for each channel.
fn distance_sums(x: &[f32], center: &[f32], lanes: &Lanes) -> [Vec<f64>; 2] {
    sums_of_blocks(lanes, x.chunks(lanes.block()), |block, sums, squares| {
        add_distances(block, center, sums, squares);
    })
}

/// Calls `add` with each block and the wide rows its two sums go into, then folds them into the channels.
pub fn sums_of_blocks<T>(
    lanes: &Lanes,
    blocks: impl Iterator<Item = T>,
    mut add: impl FnMut(T, &mut [f32], &mut [f32]),
) -> [Vec<f64>; 2] {
    let mut totals = [vec![0.0; lanes.channels], vec![0.0; lanes.channels]];
    let mut wide = [vec![0.0f32; lanes.width], vec![0.0f32; lanes.width]];
    for block in blocks {
        let [first, second] = &mut wide;
        add(block, first, second);
        for (wide, total) in wide.iter_mut().zip(&mut totals) {
            lanes.fold(wide, total);
            wide.fill(0.0);
        }
    }
    totals
}

impl Moments {
    /// The means as f32, and what each lost by rounding.
    pub fn centers(&self) -> (Vec<f32>, Vec<f64>) {
        let centers: Vec<f32> = self.mean.iter().map(|&mean| mean as f32).collect();
        let lost = centers.iter().zip(&self.mean).map(|(&center, mean)| f64::from(center) - mean).collect();
        (centers, lost)
    }
}
