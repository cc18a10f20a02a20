//! Convolution on a GPU: a plain matrix product where each pixel sees itself alone, our own kernels channel by channel,
//! the library's algorithms for the rest.

use super::{Candle, Conv2d, depthwise, geometry::Geometry};
use crate::tensor::{
    gpu::{Arg, Array, Columns, Convolution, ConvolutionPass, Factor, Grid, Product, Queue, View, args},
    ops::op::Gradient,
};
use candle_core::DType;

/// How a convolution is computed.
enum Path {
    Depthwise,
    Pointwise,
    Library,
}

impl Path {
    fn of(g: &Geometry) -> Self {
        match () {
            () if depthwise::is_depthwise(g) => Self::Depthwise,
            () if g.is_pointwise() && g.groups == 1 => Self::Pointwise,
            () => Self::Library,
        }
    }
}

impl Conv2d {
    pub(super) fn gpu_forward(&self, queue: &Queue, x: View, weight: View) -> Candle<Array> {
        let g = &self.geometry;
        let y = queue.array(g.output_shape(), x.dtype)?;
        if g.is_empty() {
            return Ok(y);
        }
        let packed = self.pack(queue, weight, x.dtype)?;
        match Path::of(g) {
            Path::Depthwise => {
                let columns = Columns::of(y.view(), &[Some(x)]);
                depthwise_pass(queue, "depthwise_forward", columns, g, x.dtype, args![x, &packed, &y])?;
            }
            Path::Pointwise => {
                let weight = Factor::rows(packed.view().address, g.inputs).turned();
                let factors = [Factor::rows(x.address, g.inputs), weight];
                queue.matmul(&Product::one([pixels(g), g.outputs, g.inputs], factors, y.view(), x.dtype))?;
            }
            Path::Library => {
                let places = [x.address, packed.view().address, y.view().address];
                queue.convolve(ConvolutionPass::Forward, &convolution(g, x.dtype), places)?;
            }
        }
        let _ = self.packed.set(packed);
        Ok(y)
    }

    pub(super) fn gpu_backward(
        &self,
        queue: &Queue,
        [x, weight]: [View; 2],
        dy: View,
        needs: [bool; 2],
    ) -> Candle<[Gradient; 2]> {
        let dx = Gradient::needed(needs[0], || self.input_gradient(queue, x, weight, dy))?;
        let dweight = Gradient::needed(needs[1], || self.weight_gradient(queue, x, weight, dy))?;
        Ok([dx, dweight])
    }

    fn input_gradient(&self, queue: &Queue, x: View, weight: View, dy: View) -> Candle<Array> {
        let g = &self.geometry;
        if g.is_empty() {
            return queue.zeros(x.shape.clone(), x.dtype);
        }
        let dx = queue.like(x)?;
        let fresh;
        let packed = match self.packed.get() {
            Some(packed) => packed,
            None => {
                fresh = self.pack(queue, weight, x.dtype)?;
                &fresh
            }
        };
        match Path::of(g) {
            Path::Depthwise => {
                let columns = Columns::of(dx.view(), &[Some(dy)]);
                let arguments = args![dy, packed, &dx];
                depthwise_pass(queue, "depthwise_input_gradient", columns, g, x.dtype, arguments)?;
            }
            Path::Pointwise => {
                let weight = Factor::rows(packed.view().address, g.inputs);
                let factors = [Factor::rows(dy.address, g.outputs), weight];
                queue.matmul(&Product::one([pixels(g), g.inputs, g.outputs], factors, dx.view(), x.dtype))?;
            }
            Path::Library => {
                let places = [dx.view().address, packed.view().address, dy.address];
                queue.convolve(ConvolutionPass::InputGradient, &convolution(g, x.dtype), places)?;
            }
        }
        Ok(dx)
    }

    fn weight_gradient(&self, queue: &Queue, x: View, weight: View, dy: View) -> Candle<Array> {
        let g = &self.geometry;
        if g.is_empty() {
            return queue.zeros(weight.shape.clone(), DType::F32);
        }
        let dweight = queue.array(weight.shape.clone(), DType::F32)?;
        match Path::of(g) {
            Path::Depthwise => self.depthwise_weight_gradient(queue, x, dy, &dweight)?,
            Path::Pointwise => {
                let factors = [Factor::rows(dy.address, g.outputs).turned(), Factor::rows(x.address, g.inputs)];
                let sizes = [g.outputs, g.inputs, pixels(g)];
                queue.matmul(&Product::one(sizes, factors, dweight.view(), x.dtype))?;
            }
            Path::Library => {
                let packed = queue.array(weight.shape.clone(), x.dtype)?;
                let places = [x.address, packed.view().address, dy.address];
                queue.convolve(ConvolutionPass::WeightGradient, &convolution(g, x.dtype), places)?;
                let arguments = args![&packed, &dweight, g.outputs, g.group_inputs(), g.taps()];
                queue.launch("unpack_weight", x.dtype, Grid::over(weight.count()), arguments)?;
            }
        }
        Ok(dweight)
    }

    fn depthwise_weight_gradient(&self, queue: &Queue, x: View, dy: View, dweight: &Array) -> Candle<()> {
        let (g, columns) = (&self.geometry, Columns::of(dy, &[Some(x)]));
        let (chunks, channels, taps) = (columns.chunks(), columns.channels, g.taps());
        let partial = queue.array((taps, chunks, channels), DType::F32)?;
        let grid = columns.sums();
        let grid = Grid { blocks: [grid.blocks[0], grid.blocks[1], taps as u32], ..grid };
        let arguments = [args![x, dy, &partial], &g.window.arguments(columns, g.input, g.output)[..]].concat();
        queue.launch("depthwise_weight_partial", x.dtype, grid, &arguments)?;
        let arguments = args![&partial, dweight, chunks, channels, taps];
        queue.launch("depthwise_weight_final", x.dtype, Columns::last(channels * taps), arguments)
    }

    /// The weight as the kernels read it: channels last and in the activations' type; `(taps, channels)` in f32 where the
    /// convolution is depthwise.
    fn pack(&self, queue: &Queue, weight: View, dtype: DType) -> Candle<Array> {
        let (g, count) = (&self.geometry, weight.count());
        if depthwise::is_depthwise(g) {
            let turned = queue.array((g.taps(), g.outputs), DType::F32)?;
            let arguments = args![weight, &turned, g.outputs, g.taps()];
            queue.launch("turn_taps", dtype, Grid::over(count), arguments)?;
            return Ok(turned);
        }
        let packed = queue.array(weight.shape.clone(), dtype)?;
        let arguments = args![weight, &packed, g.outputs, g.group_inputs(), g.taps()];
        queue.launch("pack_weight", dtype, Grid::over(count), arguments)?;
        Ok(packed)
    }
}

/// Of all images.
fn pixels(g: &Geometry) -> usize {
    g.batch * g.output_pixels()
}

fn depthwise_pass(
    queue: &Queue,
    kernel: &'static str,
    columns: Columns,
    g: &Geometry,
    dtype: DType,
    arrays: &[Arg],
) -> Candle<()> {
    let arguments = [arrays, &g.window.arguments(columns, g.input, g.output)[..]].concat();
    queue.launch(kernel, dtype, columns.each(), &arguments)
}

fn convolution(g: &Geometry, dtype: DType) -> Convolution {
    Convolution {
        batch: g.batch,
        input: g.input,
        output: g.output,
        inputs: g.inputs,
        outputs: g.outputs,
        groups: g.groups,
        kernel: g.window.kernel,
        stride: g.window.stride,
        padding: g.window.padding,
        dilation: g.window.dilation,
        dtype,
    }
}
