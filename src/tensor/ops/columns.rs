//! Sums over rows, one for each column: f32 within a block, f64 across, blocks in order.

use super::{lanes::Lanes, simd::vectorized};
use rayon::prelude::*;

/// The sum of each column of `x (rows, columns)`.
pub fn sums(x: &[f32], columns: usize) -> Vec<f32> {
    let lanes = Lanes::new(columns);
    total(lanes, x.par_chunks(lanes.block()).map(|x| folded(lanes, |wide| add_rows(wide, x))).collect())
}

/// The sum of each column of the product of `x` and `y`, `(rows, columns)` both.
pub fn product_sums(x: &[f32], y: &[f32], columns: usize) -> Vec<f32> {
    let lanes = Lanes::new(columns);
    let blocks = x.par_chunks(lanes.block()).zip(y.par_chunks(lanes.block()));
    total(lanes, blocks.map(|(x, y)| folded(lanes, |wide| add_products(wide, x, y))).collect())
}

/// The columns' sums of what `fill` adds to a wide row.
fn folded(lanes: Lanes, fill: impl FnOnce(&mut [f32])) -> Vec<f64> {
    let (mut wide, mut sums) = (vec![0.0; lanes.width], vec![0.0; lanes.channels]);
    fill(&mut wide);
    lanes.fold(&wide, &mut sums);
    sums
}

fn total(lanes: Lanes, blocks: Vec<Vec<f64>>) -> Vec<f32> {
    (0..lanes.channels).map(|column| blocks.iter().map(|block| block[column]).sum::<f64>() as f32).collect()
}

// A shorter last row counts for its first columns.
vectorized! {
    fn add_rows(wide: &mut [f32], x: &[f32]) {
        for x in x.chunks(wide.len()) {
            wide.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
    }

    fn add_products(wide: &mut [f32], x: &[f32], y: &[f32]) {
        for (x, y) in x.chunks(wide.len()).zip(y.chunks(wide.len())) {
            for ((sum, &x), &y) in wide.iter_mut().zip(x).zip(y) {
                *sum = x.mul_add(y, *sum);
            }
        }
    }
}
