//! Multi-head self-attention.

mod products;
mod tiles;

use super::{
    function::exp,
    matrix::{Matrix, MatrixMut, product},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Queue, View},
        ops::op::{Given, Gradient, Known, Op, apply1},
    },
};
use candle_core::{Result as Candle, Shape, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

/// `softmax(q k^T / sqrt(d)) v` for each image and head: `qkv (N, T, 3 * heads * d)` to `(N, T, heads * d)`.
///
/// The last axis of `qkv` is queries, keys, values, each head after head, as timm's `Attention` splits it.
pub fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    match *qkv.dims() {
        [images, tokens, width] if heads > 0 && width > 0 && width % (3 * heads) == 0 => {
            let sizes = Sizes { images, tokens, heads, depth: width / (3 * heads) };
            Ok(apply1(Attention { sizes, logs: OnceLock::new() }, qkv)?)
        }
        _ => Err(Error::bug(format!("attention of {heads} heads: {:?} is not (N, T, 3 * heads * d)", qkv.dims()))),
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    images: usize,
    tokens: usize,
    heads: usize,
    /// Elements of one head's queries.
    depth: usize,
}

impl Sizes {
    fn width(&self) -> usize {
        self.heads * self.depth
    }

    /// Calls `head` for each image and head in parallel, each with a fresh `(tokens, parts * depth)` matrix to fill, and
    /// puts them together as `(images, tokens, parts, heads, depth)`.
    fn per_head(&self, parts: usize, head: impl Fn(usize, usize, &mut [f32]) + Sync) -> Vec<f32> {
        let (rows, row) = (self.tokens, parts * self.depth);
        let mut packed = vec![0.0f32; self.images * self.heads * rows * row];
        let tasks = packed.par_chunks_mut((rows * row).max(1)).enumerate();
        tasks.for_each(|(task, out)| head(task / self.heads, task % self.heads, out));
        let mut all = vec![0.0f32; packed.len()];
        let image = self.heads * rows * row;
        let images = all.par_chunks_mut(image.max(1)).zip(packed.par_chunks(image.max(1)));
        images.for_each(|(all, packed)| {
            for (at, chunk) in packed.chunks_exact(self.depth).enumerate() {
                let (part, token, head) = (at % parts, at / parts % rows, at / parts / rows);
                all[((token * parts + part) * self.heads + head) * self.depth..][..self.depth].copy_from_slice(chunk);
            }
        });
        all
    }

    /// Queries, keys and values of one head, `(tokens, depth)` each.
    fn qkv<'a>(&self, qkv: &'a [f32], image: usize, head: usize) -> [Matrix<'a>; 3] {
        let stride = 3 * self.width();
        [0, 1, 2].map(|part| {
            let start = image * self.tokens * stride + part * self.width() + head * self.depth;
            Matrix::rows(&qkv[start..], self.tokens, self.depth, stride)
        })
    }

    /// One head's part of an `(images, tokens, heads * depth)` tensor.
    fn output<'a>(&self, y: &'a [f32], image: usize, head: usize) -> Matrix<'a> {
        let start = image * self.tokens * self.width() + head * self.depth;
        Matrix::rows(&y[start..], self.tokens, self.depth, self.width())
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.depth as f64).sqrt()) as f32
    }

    /// The `(tokens, tokens)` attention weights of one head.
    fn weights(&self, q: &Matrix, k: &Matrix) -> Vec<f32> {
        let mut weights = vec![0.0f32; self.tokens * self.tokens];
        product(MatrixMut::rows(&mut weights, self.tokens, self.tokens, self.tokens), q, &k.transposed(), false);
        softmax_rows(&mut weights, self.tokens, self.scale());
        weights
    }
}

/// The attention weights are computed again in the backward pass: kept, they would be the largest tensors of a model.
struct Attention {
    sizes: Sizes,
    /// What [`tiles`] keeps of the weights: the logarithm of each row's sum.
    logs: OnceLock<Array>,
}

impl Op<1> for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn reads_output(&self) -> bool {
        true
    }

    fn cpu(&self, [qkv]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let (s, qkv) = (&self.sizes, qkv.values);
        let y = s.per_head(1, |image, head, out| {
            let [q, k, v] = s.qkv(qkv, image, head);
            let weights = s.weights(&q, &k);
            product(MatrixMut::rows(out, s.tokens, s.depth, s.depth), &Matrix::packed(&weights, s.tokens), &v, false);
        });
        Ok((y, (s.images, s.tokens, s.width()).into()))
    }

    fn cpu_gradients(&self, Known { inputs: [qkv], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let s = &self.sizes;
        let dqkv = s.per_head(3, |image, head, out| {
            s.head_gradient(s.qkv(qkv.values, image, head), s.output(dy.values, image, head), out);
        });
        Ok([Gradient::New(dqkv)])
    }

    fn gpu(&self, queue: &Queue, [qkv]: [View; 1]) -> Candle<Array> {
        if !tiles::fit(&self.sizes, qkv) {
            return products::forward(&self.sizes, queue, qkv);
        }
        let (y, logs) = tiles::forward(&self.sizes, queue, qkv)?;
        let _ = self.logs.set(logs);
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let Known { inputs: [qkv], y, dy, .. } = known;
        Ok([Gradient::New(match self.logs.get() {
            Some(logs) if tiles::fit(&self.sizes, dy) => tiles::backward(&self.sizes, queue, qkv, [y, dy], logs)?,
            _ => products::backward(&self.sizes, queue, qkv, dy)?,
        })])
    }
}

impl Sizes {
    /// The gradients of one head's queries, keys and values side by side, `(tokens, 3 * depth)`.
    fn head_gradient(&self, [q, k, v]: [Matrix; 3], dy: Matrix, out: &mut [f32]) {
        let (t, d) = (self.tokens, self.depth);
        let mut part = |part: usize, a: &Matrix, b: &Matrix| {
            product(MatrixMut::rows(&mut out[part * d..], t, d, 3 * d), a, b, false);
        };
        let weights = self.weights(&q, &k);
        part(2, &Matrix::packed(&weights, t).transposed(), &dy);
        let mut gradient = vec![0.0f32; t * t];
        product(MatrixMut::rows(&mut gradient, t, t, t), &dy, &v.transposed(), false);
        softmax_gradient_rows(&mut gradient, &weights, t, self.scale());
        part(0, &Matrix::packed(&gradient, t), &k);
        part(1, &Matrix::packed(&gradient, t).transposed(), &q);
    }
}

/// Sums and maxima run in this many lanes, so that they are vectors whose order is fixed.
const LANES: usize = 16;

vectorized! {
    /// Each row of scores times `scale` through softmax, in place.
    fn softmax_rows(scores: &mut [f32], width: usize, scale: f32) {
        for row in scores.chunks_exact_mut(width) {
            let mut most = f32::NEG_INFINITY;
            for &score in row.iter() {
                most = if score > most { score } else { most };
            }
            let mut lanes = [0.0f32; LANES];
            for chunk in row.chunks_mut(LANES) {
                for (score, lane) in chunk.iter_mut().zip(&mut lanes) {
                    *score = exp((*score - most) * scale);
                    *lane += *score;
                }
            }
            let inverse = 1.0 / lanes.iter().sum::<f32>();
            row.iter_mut().for_each(|score| *score *= inverse);
        }
    }

    /// From the gradient of the weights to that of the scores in front of `scale`: `weight * (dweight - sum(dweight *
    /// weight)) * scale`, in place.
    fn softmax_gradient_rows(gradient: &mut [f32], weights: &[f32], width: usize, scale: f32) {
        for (gradient, weights) in gradient.chunks_exact_mut(width).zip(weights.chunks_exact(width)) {
            let mut lanes = [0.0f32; LANES];
            for (gradient, weights) in gradient.chunks(LANES).zip(weights.chunks(LANES)) {
                for ((&gradient, &weight), lane) in gradient.iter().zip(weights).zip(&mut lanes) {
                    *lane = gradient.mul_add(weight, *lane);
                }
            }
            let mean = lanes.iter().sum::<f32>();
            for (gradient, &weight) in gradient.iter_mut().zip(weights) {
                *gradient = weight * (*gradient - mean) * scale;
            }
        }
    }
}
