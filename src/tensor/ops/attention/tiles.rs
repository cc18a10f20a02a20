//! Attention on a GPU in tiles: one kernel forward and two backward, whose scores never reach memory.
//!
//! Of 16-bit types on tensor cores. With a few hundred tokens a head's products are small: as products of their own they
//! would spend most of their time on writing and reading scores, which outweigh `qkv` itself several times.

use super::Sizes;
use crate::tensor::gpu::{Array, Grid, Queue, View, args};
use candle_core::{DType, Result as Candle};
use std::f32::consts::LOG2_E;

/// Rows of a tile, as in `attention_tiles.cuh`.
const TILE: usize = 64;
/// The deepest head that the kernels hold.
const DEPTH: usize = 64;
/// Blocks in y.
const MOST_TILES: usize = 65_535;

/// Whether the kernels take these heads of `values`: rows are read 16 bytes at once.
pub fn fit(s: &Sizes, values: View) -> bool {
    let aligned = s.depth.is_multiple_of(8) && values.address.is_multiple_of(16);
    let tiles = s.tokens.div_ceil(TILE);
    values.dtype != DType::F32 && aligned && s.depth <= DEPTH && s.images > 0 && tiles <= MOST_TILES
}

/// `(N, T, 3 * heads * d)` to `(N, T, heads * d)`, and what the backward pass makes the weights of again.
pub fn forward(s: &Sizes, queue: &Queue, qkv: View) -> Candle<(Array, Array)> {
    let y = queue.array((s.images, s.tokens, s.width()), qkv.dtype)?;
    let logs = queue.array((s.images, s.heads, s.tokens), DType::F32)?;
    let [tokens, heads, depth] = sizes(s);
    let arguments = args![qkv, &y, &logs, tokens, heads, depth, s.scale() * LOG2_E];
    queue.launch("attention", qkv.dtype, grid(s), arguments)?;
    Ok((y, logs))
}

/// The gradient of `qkv`.
pub fn backward(s: &Sizes, queue: &Queue, qkv: View, [y, dy]: [View; 2], logs: &Array) -> Candle<Array> {
    let dqkv = queue.like(qkv)?;
    let means = queue.array((s.images, s.heads, s.tokens), DType::F32)?;
    let ([tokens, heads, depth], scale, slope) = (sizes(s), s.scale() * LOG2_E, s.scale());
    let arguments = args![qkv, y, dy, logs, &means, &dqkv, tokens, heads, depth, scale, slope];
    queue.launch("attention_queries", qkv.dtype, grid(s), arguments)?;
    let arguments = args![qkv, dy, logs, &means, &dqkv, tokens, heads, depth, scale, slope];
    queue.launch("attention_keys", qkv.dtype, grid(s), arguments)?;
    Ok(dqkv)
}

fn sizes(s: &Sizes) -> [i32; 3] {
    [s.tokens, s.heads, s.depth].map(|size| size as i32)
}

fn grid(s: &Sizes) -> Grid {
    Grid::blocks([s.images * s.heads, s.tokens.div_ceil(TILE)], [128, 1])
}
