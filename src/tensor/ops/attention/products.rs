//! Attention on a GPU as matrix products with a softmax between them.
//!
//! The scores go through memory, which the `tiles` do without; products keep what those round: f32, or TF32 where a run
//! allows it, and heads of any depth.

use super::Sizes;
use crate::tensor::gpu::{Array, Factor, Grid, Product, Queue, View, args};
use candle_core::{DType, Result as Candle};

/// `(N, T, 3 * heads * d)` to `(N, T, heads * d)`.
pub fn forward(s: &Sizes, queue: &Queue, qkv: View) -> Candle<Array> {
    let y = queue.array((s.images, s.tokens, s.width()), qkv.dtype)?;
    let weights = s.device_weights(queue, qkv)?;
    let [_, _, values] = s.packed(qkv);
    let sizes = [s.tokens, s.depth, s.tokens];
    s.products(queue, sizes, [s.square(&weights), values], s.outputs(y.view()))?;
    Ok(y)
}

/// The gradient of `qkv`. The weights are computed again.
pub fn backward(s: &Sizes, queue: &Queue, qkv: View, dy: View) -> Candle<Array> {
    let dqkv = queue.like(qkv)?;
    let weights = s.device_weights(queue, qkv)?;
    let ([queries, keys, values], [dqueries, dkeys, dvalues]) = (s.packed(qkv), s.packed(dqkv.view()));
    let (dy, outer, inner) = (s.outputs(dy), [s.tokens, s.tokens, s.depth], [s.tokens, s.depth, s.tokens]);
    s.products(queue, inner, [s.square(&weights).turned(), dy], dvalues)?;
    let dweights = s.room(queue, DType::F32)?;
    s.products(queue, outer, [dy, values.turned()], s.square(&dweights))?;
    let dscores = s.room(queue, qkv.dtype)?;
    let (rows, scale) = (s.images * s.heads * s.tokens, s.scale());
    let arguments = args![&weights, &dweights, &dscores, rows, s.tokens, s.stride(), scale];
    queue.launch("softmax_gradient", qkv.dtype, Grid::warps(rows), arguments)?;
    s.products(queue, inner, [s.square(&dscores), keys], dqueries)?;
    s.products(queue, inner, [s.square(&dscores).turned(), queries], dkeys)?;
    Ok(dqkv)
}

/// A matrix of every image and head.
#[derive(Clone, Copy)]
struct Heads {
    /// Of the first head: its step goes from image to image.
    first: Factor,
    dtype: DType,
    /// Elements from one head to the next.
    step: usize,
}

impl Heads {
    fn turned(self) -> Self {
        Self { first: self.first.turned(), ..self }
    }

    fn head(&self, head: usize) -> Factor {
        let offset = head * self.step * self.dtype.size_in_bytes();
        Factor { address: self.first.address + offset as u64, ..self.first }
    }
}

impl Sizes {
    /// Elements of a row of scores: products want rows that start where 16 bytes do.
    fn stride(&self) -> usize {
        self.tokens.next_multiple_of(8)
    }

    /// For `(tokens, tokens)` of every head of every image.
    fn room(&self, queue: &Queue, dtype: DType) -> Candle<Array> {
        queue.array((self.heads, self.images, self.tokens, self.stride()), dtype)
    }

    fn square(&self, array: &Array) -> Heads {
        let step = self.tokens * self.stride();
        let first = Factor { step, ..Factor::rows(array.view().address, self.stride()) };
        Heads { first, dtype: array.dtype(), step: self.images * step }
    }

    /// The heads of `(N, T, parts * heads * d)`, from `start` on.
    fn part(&self, view: View, parts: usize, part: usize) -> Heads {
        let stride = parts * self.width();
        let address = view.address + (part * self.width() * view.dtype.size_in_bytes()) as u64;
        let first = Factor { step: self.tokens * stride, ..Factor::rows(address, stride) };
        Heads { first, dtype: view.dtype, step: self.depth }
    }

    /// Queries, keys and values.
    fn packed(&self, qkv: View) -> [Heads; 3] {
        [0, 1, 2].map(|part| self.part(qkv, 3, part))
    }

    fn outputs(&self, y: View) -> Heads {
        self.part(y, 1, 0)
    }

    /// `out = a b` for each head of each image. A batch is a head's images: between those alone is the step the same.
    fn products(&self, queue: &Queue, sizes: [usize; 3], [a, b]: [Heads; 2], out: Heads) -> Candle<()> {
        let [rows, columns, inner] = sizes;
        (0..self.heads).try_for_each(|head| {
            let [a_head, b_head, out_head] = [a, b, out].map(|heads| heads.head(head));
            queue.matmul(&Product {
                rows,
                columns,
                inner,
                a: a_head,
                b: b_head,
                out: out_head,
                dtype: a.dtype,
                out_dtype: out.dtype,
                add: false,
                batch: self.images,
            })
        })
    }

    /// The attention weights of all heads, `(heads, N, T, T)` at [`Sizes::stride`].
    fn device_weights(&self, queue: &Queue, qkv: View) -> Candle<Array> {
        let [queries, keys, _] = self.packed(qkv);
        let scores = self.room(queue, DType::F32)?;
        let sizes = [self.tokens, self.tokens, self.depth];
        self.products(queue, sizes, [queries, keys.turned()], self.square(&scores))?;
        let weights = self.room(queue, qkv.dtype)?;
        let rows = self.images * self.heads * self.tokens;
        let arguments = args![&scores, &weights, rows, self.tokens, self.stride(), self.scale()];
        queue.launch("softmax", qkv.dtype, Grid::warps(rows), arguments)?;
        Ok(weights)
    }
}
