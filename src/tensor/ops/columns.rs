//! Sums over rows, one for each column.

use super::simd::vectorized;
use rayon::prelude::*;

/// Elements of one task's rows: fixed, so that the sums do not depend on the number of threads.
const BLOCK: usize = 1 << 14;

/// The sum of each column of `x (rows, columns)`.
pub fn sums(x: &[f32], columns: usize) -> Vec<f32> {
    let step = step(columns);
    total(columns, x.par_chunks(step).map(|x| blank(columns, |sums| add_rows(sums, x))).collect())
}

/// The sum of each column of the product of `x` and `y`, `(rows, columns)` both.
pub fn product_sums(x: &[f32], y: &[f32], columns: usize) -> Vec<f32> {
    let step = step(columns);
    let blocks = x.par_chunks(step).zip(y.par_chunks(step));
    total(columns, blocks.map(|(x, y)| blank(columns, |sums| add_products(sums, x, y))).collect())
}

fn step(columns: usize) -> usize {
    columns.max(1) * (BLOCK / columns.max(1)).max(1)
}

fn blank(columns: usize, fill: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    fill(&mut sums);
    sums
}

/// The blocks' sums together, in their order.
fn total(columns: usize, blocks: Vec<Vec<f32>>) -> Vec<f32> {
    let mut totals = vec![0.0f64; columns];
    for block in blocks {
        totals.iter_mut().zip(block).for_each(|(total, sum)| *total += f64::from(sum));
    }
    totals.into_iter().map(|total| total as f32).collect()
}

vectorized! {
    fn add_rows(sums: &mut [f32], x: &[f32]) {
        for x in x.chunks_exact(sums.len()) {
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
    }

    fn add_products(sums: &mut [f32], x: &[f32], y: &[f32]) {
        for (x, y) in x.chunks_exact(sums.len()).zip(y.chunks_exact(sums.len())) {
            for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
                *sum = x.mul_add(y, *sum);
            }
        }
    }
}
