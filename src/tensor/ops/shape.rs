//! Values put into another order, type or shape.

use super::{
    op::{Given, Gradient, Known, Op, apply1},
    tape,
};
use crate::{
    error::{Error, Result},
    tensor::gpu::{Array, Columns, Grid, Queue, View, args},
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

/// The same values in another shape of as many, without a copy where they are contiguous.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(tape::reshape(x, shape)?)
}

/// In f32, whatever the type.
pub fn exact(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => Ok(x.clone()),
        _ => Ok(apply1(Exact, x)?),
    }
}

/// The first of each image's tokens: `(N, T, C)` to `(N, C)`.
pub fn first_token(x: &Tensor) -> Result<Tensor> {
    match *x.dims() {
        [_, tokens, width] if tokens * width > 0 => Ok(apply1(FirstToken, x)?),
        _ => Err(Error::bug(format!("there is no first token in {:?}", x.dims()))),
    }
}

/// A convolution's weight `(out, in, kh, kw)` as a matrix on patches, `(out, kh * kw * in)`.
pub fn patch_weight(weight: &Tensor) -> Result<Tensor> {
    weight.dims4()?;
    Ok(apply1(PatchWeight, weight)?)
}

/// Images `(N, H, W, C)` cut into squares of this side: `(N, patches, side * side * C)`, row after row.
///
/// # Errors
/// Where the squares do not divide the images.
pub fn patches(x: &Tensor, side: usize) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let fit = side > 0 && h.is_multiple_of(side) && w.is_multiple_of(side) && h * w * c > 0;
    match side {
        _ if !fit => Err(Error::bug(format!("{side} x {side} patches of {:?}", x.dims()))),
        1 => reshape(x, (n, h * w, c)),
        _ => Ok(apply1(Patches(side), x)?),
    }
}

struct Exact;

impl Op<1> for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        Ok((x.values.to_vec(), x.shape.clone()))
    }

    fn cpu_gradients(&self, _: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        Ok([Gradient::Same])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let y = queue.array(x.shape.clone(), DType::F32)?;
        queue.launch("cast_to_f32", x.dtype, Grid::over(x.count()), args![x, &y, x.count()])?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        Ok([queue.cast(dy, x.dtype)?.into()])
    }
}

struct FirstToken;

impl Op<1> for FirstToken {
    fn name(&self) -> &'static str {
        "first-token"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let (images, tokens, width) = x.shape.dims3()?;
        let firsts = x.values.chunks_exact(tokens * width).flat_map(|image| &image[..width]);
        Ok((firsts.copied().collect(), (images, width).into()))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let (_, tokens, width) = x.shape.dims3()?;
        let mut dx = vec![0.0f32; x.count()];
        for (image, dy) in dx.chunks_exact_mut(tokens * width).zip(dy.values.chunks_exact(width)) {
            image[..width].copy_from_slice(dy);
        }
        Ok([Gradient::New(dx)])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let (images, tokens, width) = x.shape.dims3()?;
        let y = queue.array((images, width), x.dtype)?;
        let columns = Columns::of(y.view(), &[Some(x)]);
        let arguments = args![x, &y, tokens, columns.rows, width, i32::from(columns.wide)];
        queue.launch("first_token", x.dtype, columns.each(), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let (_, tokens, width) = x.shape.dims3()?;
        let dx = queue.like(x)?;
        let columns = Columns::of(dx.view(), &[Some(dy)]);
        let arguments = args![dy, &dx, tokens, columns.rows, width, i32::from(columns.wide)];
        queue.launch("first_token_gradient", x.dtype, columns.each(), arguments)?;
        Ok([Gradient::New(dx)])
    }
}

struct PatchWeight;

/// `(outputs, inputs, taps)` to `(outputs, taps, inputs)`.
fn turned(values: &[f32], inputs: usize, taps: usize) -> Vec<f32> {
    let one = |output: &[f32]| -> Vec<f32> {
        (0..inputs * taps).map(|at| output[at % inputs * taps + at / inputs]).collect()
    };
    values.chunks_exact((inputs * taps).max(1)).flat_map(one).collect()
}

impl Op<1> for PatchWeight {
    fn name(&self) -> &'static str {
        "patch-weight"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [weight]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let (outputs, inputs, h, w) = weight.shape.dims4()?;
        Ok((turned(weight.values, inputs, h * w), (outputs, inputs * h * w).into()))
    }

    fn cpu_gradients(&self, Known { inputs: [weight], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let (_, inputs, h, w) = weight.shape.dims4()?;
        Ok([Gradient::New(turned(dy.values, h * w, inputs))])
    }

    fn gpu(&self, queue: &Queue, [weight]: [View; 1]) -> Candle<Array> {
        let (outputs, inputs, h, w) = weight.shape.dims4()?;
        let y = queue.array((outputs, inputs * h * w), DType::F32)?;
        let arguments = args![weight, &y, outputs, inputs, h * w];
        queue.launch("pack_weight", DType::F32, Grid::over(weight.count()), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let Known { inputs: [weight], dy, .. } = known;
        let (outputs, inputs, h, w) = weight.shape.dims4()?;
        let dweight = queue.array(weight.shape.clone(), DType::F32)?;
        let arguments = args![dy, &dweight, outputs, inputs, h * w];
        queue.launch("unpack_weight", DType::F32, Grid::over(weight.count()), arguments)?;
        Ok([Gradient::New(dweight)])
    }
}

/// With the side of a patch.
struct Patches(usize);

impl Patches {
    /// The patches of `(N, H, W, C)`.
    fn shape(&self, image: &Shape) -> Candle<Shape> {
        let (n, h, w, c) = image.dims4()?;
        let side = self.0;
        Ok((n, h / side * (w / side), side * side * c).into())
    }

    /// The values of a patch's row, and where such a row, counted over all patches, begins in the images.
    fn rows(&self, image: &Shape) -> Candle<(usize, impl Fn(usize) -> usize + Sync + use<>)> {
        let (_, _, w, c) = image.dims4()?;
        let side = self.0;
        let start = move |row: usize| {
            let (patch, y) = (row / side, row % side);
            // Lines are counted over all images.
            let (line, column) = (patch / (w / side) * side + y, patch % (w / side) * side);
            (line * w + column) * c
        };
        Ok((side * c, start))
    }

    fn launch(&self, queue: &Queue, kernel: &'static str, image: View, arrays: [View; 2]) -> Candle<()> {
        let (_, _, w, c) = image.shape.dims4()?;
        let [from, to] = arrays;
        let arguments = args![from, to, image.count(), w as i32, c as i32, self.0 as i32];
        queue.launch(kernel, image.dtype, Grid::over(image.count()), arguments)
    }
}

impl Op<1> for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let (row, start) = self.rows(x.shape)?;
        let mut y = vec![0.0f32; x.values.len()];
        let rows = y.par_chunks_exact_mut(row).enumerate();
        rows.for_each(|(at, y)| y.copy_from_slice(&x.values[start(at)..][..row]));
        Ok((y, self.shape(x.shape)?))
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let (row, start) = self.rows(x.shape)?;
        let mut dx = vec![0.0f32; x.count()];
        for (at, dy) in dy.values.chunks_exact(row).enumerate() {
            dx[start(at)..][..row].copy_from_slice(dy);
        }
        Ok([Gradient::New(dx)])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        let y = queue.array(self.shape(x.shape)?, x.dtype)?;
        self.launch(queue, "patches", x, [x, y.view()])?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { inputs: [x], dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let dx = queue.like(x)?;
        self.launch(queue, "patches_gradient", x, [dy, dx.view()])?;
        Ok([Gradient::New(dx)])
    }
}
