//! Channel gates.

use super::{
    Activation,
    function::{Function, with_function},
    memory::{Fresh, Slot, Values},
    pool::{image_means, image_means_on_device},
    simd::vectorized,
};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Columns, Grid, Queue, View, args},
        ops::op::{Given, Gradient, Known, Op, apply1, apply2},
    },
};
use candle_core::{DType, Result as Candle, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Squeeze-excite's last step: `x * sigmoid(gate)`, `x (N, H, W, C)`, `gate (N, C)`.
pub fn gate_channels(x: &Tensor, gate: &Tensor) -> Result<Tensor> {
    match (x.dims(), gate.dims()) {
        (&[n, _, _, c], &[gates, channels]) if (n, c) == (gates, channels) => {
            Ok(apply2(Gate(Activation::Sigmoid), [x, gate])?)
        }
        (x, gate) => Err(Error::bug(format!("a gate {gate:?} does not fit {x:?}: it must be (N, C) for (N, H, W, C)"))),
    }
}

/// With the function that opens a gate.
struct Gate(Activation);

impl Op<2> for Gate {
    fn name(&self) -> &'static str {
        "gate-channels"
    }

    fn cpu(&self, [x, gate]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        let shape = x.shape;
        let (x, gate) = (x.values, gate.values);
        let (image, c) = sizes(shape)?;
        let mut y = Fresh::new(x.len());
        y.slots().par_chunks_mut(image).zip(x.par_chunks(image)).zip(gate.par_chunks(c)).for_each(|((y, x), gate)| {
            scale_rows(y, x, &opened(self.0, gate));
        });
        // SAFETY: the images cover all of `y`.
        Ok((unsafe { y.done() }, shape.clone()))
    }

    fn cpu_gradients(&self, Known { inputs: [x, gate], dy, .. }: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        let (image, c) = sizes(x.shape)?;
        let (mut dx, mut dgate) = (Fresh::new(x.count()), Fresh::new(gate.count()));
        let outputs = dx.slots().par_chunks_mut(image).zip(dgate.slots().par_chunks_mut(c));
        let inputs = x.values.par_chunks(image).zip(gate.values.par_chunks(c)).zip(dy.values.par_chunks(image));
        outputs.zip(inputs).for_each(|((dx, dgate), ((x, gate), dy))| {
            gate_gradient(dgate, x, &slopes(self.0, gate), dy);
            scale_rows(dx, dy, &opened(self.0, gate));
        });
        // SAFETY: the images cover all of `dx` and `dgate`.
        let (dx, dgate) = unsafe { (dx.done(), dgate.done()) };
        Ok([Gradient::New(dx), Gradient::New(dgate)])
    }

    fn gpu(&self, queue: &Queue, [x, gate]: [View; 2]) -> Candle<Array> {
        gated(queue, x, gate, None, self.0)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 2>) -> Candle<[Gradient; 2]> {
        let Known { inputs: [x, gate], dy, needs, .. } = known;
        let dx = Gradient::needed(needs[0], || gated(queue, dy, gate, None, self.0))?;
        let dgate = Gradient::needed(needs[1], || gate_gradient_on_device(queue, x, gate, dy, self.0))?;
        Ok([dx, dgate])
    }
}

/// `x * open(gate)`, plus `spread` over each image's pixels where there is one.
fn gated(queue: &Queue, x: View, gate: View, spread: Option<View>, open: Activation) -> Candle<Array> {
    let (images, h, w, c) = x.shape.dims4()?;
    let y = queue.like(x)?;
    let columns = Columns::of(x, &[Some(gate), spread]).with_rows(h * w);
    let arguments = args![x, gate, spread, &y, images, h * w, c, open as i32, i32::from(columns.wide)];
    queue.launch("gate", x.dtype, columns.each_of(images), arguments)?;
    Ok(y)
}

fn gate_gradient_on_device(queue: &Queue, x: View, gate: View, dy: View, open: Activation) -> Candle<Array> {
    let (images, h, w, c) = x.shape.dims4()?;
    let columns = Columns::of(x, &[Some(gate), Some(dy)]).with_rows(h * w);
    let (chunks, kind) = (columns.chunks_of(images), open as i32);
    let partial = queue.array((images, chunks, c), DType::F32)?;
    let dgate = queue.like(gate)?;
    let arguments = args![x, dy, gate, &partial, &dgate, images, h * w, c, kind, i32::from(columns.wide)];
    queue.launch("gate_gradient", x.dtype, columns.sums_of(images), arguments)?;
    if chunks > 1 {
        let arguments = args![&partial, gate, &dgate, images, chunks, c, kind];
        queue.launch("gate_gradient_final", x.dtype, Grid::over(images * c), arguments)?;
    }
    Ok(dgate)
}

/// The elements of an image, and its channels.
fn sizes(shape: &Shape) -> Candle<(usize, usize)> {
    let (_, h, w, c) = shape.dims4()?;
    Ok(((h * w * c).max(1), c.max(1)))
}

fn opened(activation: Activation, gate: &[f32]) -> Vec<f32> {
    let mut opened = gate.to_vec();
    with_function!(activation, F => open::<F>(&mut opened));
    opened
}

/// The derivative of an opened gate by the gate.
fn slopes(activation: Activation, gate: &[f32]) -> Vec<f32> {
    let mut slopes = gate.to_vec();
    with_function!(activation, F => differentiate::<F>(&mut slopes));
    slopes
}

vectorized! {
    fn open<F: Function>(gate: &mut [f32]) {
        for gate in gate {
            *gate = F::value(*gate);
        }
    }

    fn differentiate<F: Function>(gate: &mut [f32]) {
        for gate in gate {
            *gate = F::slope(*gate);
        }
    }

    fn scale_rows(y: &mut [Slot], x: &[f32], gate: &[f32]) {
        for (y, x) in y.chunks_exact_mut(gate.len()).zip(x.chunks_exact(gate.len())) {
            for ((y, &x), &gate) in y.iter_mut().zip(x).zip(gate) {
                y.write(x * gate);
            }
        }
    }

    /// `dx = dy * gate + spread`.
    fn scale_and_spread_rows(dx: &mut [Slot], dy: &[f32], gate: &[f32], spread: &[f32]) {
        for (dx, dy) in dx.chunks_exact_mut(gate.len()).zip(dy.chunks_exact(gate.len())) {
            for (((dx, &dy), &gate), &spread) in dx.iter_mut().zip(dy).zip(gate).zip(spread) {
                dx.write(dy.mul_add(gate, spread));
            }
        }
    }

    fn add_products(sums: &mut [f32], x: &[f32], dy: &[f32]) {
        for (x, dy) in x.chunks_exact(sums.len()).zip(dy.chunks_exact(sums.len())) {
            for ((sum, &x), &dy) in sums.iter_mut().zip(x).zip(dy) {
                *sum = dy.mul_add(x, *sum);
            }
        }
    }
}

/// Rows whose sum stays in f32.
const ROWS: usize = 256;

/// The gradient of one image's gate: the sum of `x * dy` over its pixels, times the gate's derivative.
fn gate_gradient(dgate: &mut [Slot], x: &[f32], slopes: &[f32], dy: &[f32]) {
    let c = slopes.len();
    let (mut sums, mut totals) = (vec![0.0f32; c], vec![0.0f64; c]);
    for (x, dy) in x.chunks(ROWS * c).zip(dy.chunks(ROWS * c)) {
        add_products(&mut sums, x, dy);
        totals.iter_mut().zip(&mut sums).for_each(|(total, sum)| *total += f64::from(std::mem::take(sum)));
    }
    for ((dgate, total), slope) in dgate.iter_mut().zip(totals).zip(slopes) {
        dgate.write(total as f32 * slope);
    }
}

/// Squeeze-excite: `x * open(excite(mean of x over height and width))`, `x (N, H, W, C)`, `excite` from `(N, C)` to the
/// same. As [`super::global_avg_pool`] and [`gate_channels`], but both gradients of `x` come in one pass.
pub fn squeeze_excite(x: &Tensor, open: Activation, excite: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    if h * w * c == 0 {
        return Err(Error::bug(format!("squeeze_excite of an empty image {:?}", x.dims())));
    }
    let x = x.contiguous()?;
    let late = Arc::new(Mutex::new(None));
    let gate = excite(&apply1(Squeeze { open, late: late.clone() }, &x)?)?;
    match gate.dims() == [n, c] {
        true => Ok(apply2(Excite { open, late }, [&x, &gate])?),
        false => Err(Error::bug(format!("a gate {:?} does not fit {:?}", gate.dims(), x.dims()))),
    }
}

/// What the gate's backward pass leaves to the squeeze's, which always comes later: the output's gradient and the gate.
type Late = Arc<Mutex<Option<(Tensor, Tensor)>>>;

fn take(late: &Late) -> Candle<(Tensor, Tensor)> {
    match late.lock().ok().and_then(|mut late| late.take()) {
        Some(left) => Ok(left),
        None => candle_core::bail!("the squeeze's backward pass came before the gate's"),
    }
}

/// The mean over height and width; its gradient is that of both uses of `x`.
struct Squeeze {
    open: Activation,
    late: Late,
}

/// The gate; it leaves the gradient of `x` to the squeeze.
struct Excite {
    open: Activation,
    late: Late,
}

impl Op<1> for Squeeze {
    fn name(&self) -> &'static str {
        "squeeze"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        image_means(x.values, x.shape)
    }

    fn cpu_gradients(&self, Known { inputs: [x], dy: dmeans, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let (dy, gate) = take(&self.late)?;
        let (_, h, w, c) = x.shape.dims4()?;
        let (dy, gate, share) = (Values::of(&dy)?, Values::of(&gate)?, (1.0 / (h * w) as f64) as f32);
        let dmeans: Vec<f32> = dmeans.values.iter().map(|&gradient| gradient * share).collect();
        let mut dx = Fresh::new(x.count());
        let inputs = dy.par_chunks(h * w * c).zip(gate.par_chunks(c)).zip(dmeans.par_chunks(c));
        dx.slots().par_chunks_mut(h * w * c).zip(inputs).for_each(|(dx, ((dy, gate), dmeans))| {
            scale_and_spread_rows(dx, dy, &opened(self.open, gate), dmeans);
        });
        // SAFETY: the images cover all of `dx`.
        Ok([Gradient::New(unsafe { dx.done() })])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        image_means_on_device(queue, x)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let (y_gradient, gate) = take(&self.late)?;
        let dx = gated(queue, queue.view(&y_gradient)?, queue.view(&gate)?, Some(dy), self.open)?;
        Ok([Gradient::New(dx)])
    }
}

impl Op<2> for Excite {
    fn name(&self) -> &'static str {
        "excite"
    }

    fn cpu(&self, [x, gate]: [Given; 2]) -> Candle<(Vec<f32>, Shape)> {
        Gate(self.open).cpu([x, gate])
    }

    fn cpu_gradients(&self, Known { inputs: [x, gate], dy, .. }: Known<Given, 2>) -> Candle<[Gradient<Vec<f32>>; 2]> {
        let (image, c) = sizes(x.shape)?;
        let mut dgate = Fresh::new(gate.count());
        let inputs = x.values.par_chunks(image).zip(gate.values.par_chunks(c)).zip(dy.values.par_chunks(image));
        dgate.slots().par_chunks_mut(c).zip(inputs).for_each(|(dgate, ((x, gate), dy))| {
            gate_gradient(dgate, x, &slopes(self.open, gate), dy);
        });
        // SAFETY: the images cover all of `dgate`.
        Ok([Gradient::None, Gradient::New(unsafe { dgate.done() })])
    }

    fn leave(&self, [_, gate]: [&Tensor; 2], dy: &Tensor) {
        if let Ok(mut late) = self.late.lock() {
            *late = Some((dy.clone(), gate.detach()));
        }
    }

    fn gpu(&self, queue: &Queue, [x, gate]: [View; 2]) -> Candle<Array> {
        gated(queue, x, gate, None, self.open)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 2>) -> Candle<[Gradient; 2]> {
        let Known { inputs: [x, gate], dy, needs, .. } = known;
        let dgate = Gradient::needed(needs[1], || gate_gradient_on_device(queue, x, gate, dy, self.open))?;
        Ok([Gradient::None, dgate])
    }
}
