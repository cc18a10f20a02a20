//! An operation on the tape: what each device computes, and the gradients.

use super::{memory::Values, tape};
use crate::tensor::gpu::{Array, Queue, View};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, op::BackpropOp,
};
use std::sync::Mutex;

/// A differentiable operation of `N` inputs, all contiguous.
///
/// On the CPU everything is f32. On a GPU activations may be bf16 or f16, parameters are f32: an operation computes in f32
/// inside and gives each gradient its input's type.
pub trait Op<const N: usize>: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// The output on the CPU.
    fn cpu(&self, inputs: [Given; N]) -> Result<(Vec<f32>, Shape)>;

    /// The inputs' gradients on the CPU.
    fn cpu_gradients(&self, known: Known<Given, N>) -> Result<[Gradient<Vec<f32>>; N]>;

    /// Which inputs' values the gradients are computed from: of the others they are only given the shape.
    fn reads(&self) -> [bool; N] {
        [true; N]
    }

    /// Whether the gradients are computed from the output's values.
    fn reads_output(&self) -> bool {
        false
    }

    /// Called before the gradients are computed: for an operation that leaves part of them to another.
    fn leave(&self, _inputs: [&Tensor; N], _dy: &Tensor) {}

    /// The output on a GPU.
    fn gpu(&self, queue: &Queue, inputs: [View; N]) -> Result<Array>;

    /// The inputs' gradients on a GPU.
    fn gpu_gradients(&self, queue: &Queue, known: Known<View, N>) -> Result<[Gradient; N]>;
}

/// An operand on the CPU.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub values: &'a [f32],
    pub shape: &'a Shape,
}

impl Given<'_> {
    pub fn count(&self) -> usize {
        self.shape.elem_count()
    }
}

/// What gradients are computed from: operands of type `T`, of which those that the operation does not read are only a shape.
#[derive(Clone, Copy)]
pub struct Known<T, const N: usize> {
    pub inputs: [T; N],
    /// The output.
    pub y: T,
    /// The gradient of the output.
    pub dy: T,
    /// The inputs whose gradients are asked for; those of others are dropped.
    pub needs: [bool; N],
}

/// The gradient of an input: an array on a GPU, values on the CPU.
pub enum Gradient<T = Array> {
    /// Nobody needs it.
    None,
    /// That of the output itself.
    Same,
    New(T),
}

impl<T> Gradient<T> {
    /// What `make` makes, where it is needed.
    pub fn needed(needed: bool, make: impl FnOnce() -> Result<T>) -> Result<Self> {
        if needed { make().map(Self::New) } else { Ok(Self::None) }
    }

    /// That of the output, where it is needed.
    pub fn same(needed: bool) -> Self {
        if needed { Self::Same } else { Self::None }
    }
}

impl<T> From<Option<T>> for Gradient<T> {
    fn from(values: Option<T>) -> Self {
        values.map_or(Self::None, Self::New)
    }
}

/// Applies an operation of one input.
pub fn apply1(op: impl Op<1>, x: &Tensor) -> Result<Tensor> {
    let inputs = [x.contiguous()?];
    match tape::is_candles(&inputs) {
        true => inputs[0].apply_op1(Node::new(op, &inputs)?),
        false => tape::apply(op, inputs),
    }
}

/// Applies an operation of two inputs.
pub fn apply2(op: impl Op<2>, [a, b]: [&Tensor; 2]) -> Result<Tensor> {
    let inputs = [a.contiguous()?, b.contiguous()?];
    match tape::is_candles(&inputs) {
        true => inputs[0].apply_op2(&inputs[1], Node::new(op, &inputs)?),
        false => tape::apply(op, inputs),
    }
}

/// Applies an operation of three inputs.
pub fn apply3(op: impl Op<3>, [a, b, c]: [&Tensor; 3]) -> Result<Tensor> {
    let inputs = [a.contiguous()?, b.contiguous()?, c.contiguous()?];
    match tape::is_candles(&inputs) {
        true => inputs[0].apply_op3(&inputs[1], &inputs[2], Node::new(op, &inputs)?),
        false => tape::apply(op, inputs),
    }
}

/// Applies an operation of four inputs, where [`tape::is_candles`] is false of them: Candle's tape knows no such.
pub fn apply4(op: impl Op<4>, [a, b, c, d]: [&Tensor; 4]) -> Result<Tensor> {
    tape::apply(op, [a.contiguous()?, b.contiguous()?, c.contiguous()?, d.contiguous()?])
}

/// What an operation makes of contiguous inputs, where they lie.
pub fn forward<const N: usize>(op: &impl Op<N>, inputs: &[Tensor; N]) -> Result<(Storage, Shape)> {
    if let Some(queue) = Queue::of(&inputs[0])? {
        let views = inputs.iter().map(|input| queue.view(input)).collect::<Result<Vec<_>>>()?;
        return Ok(op.gpu(&queue, std::array::from_fn(|i| views[i]))?.into_parts());
    }
    let operands = inputs.iter().map(|input| Operand::of(input, true)).collect::<Result<Vec<_>>>()?;
    let (y, shape) = op.cpu(std::array::from_fn(|i| operands[i].given()))?;
    Ok((Storage::Cpu(CpuStorage::F32(y)), shape))
}

/// The gradients of those inputs that are on a tape.
pub fn backward<const N: usize>(
    op: &impl Op<N>,
    inputs: [&Tensor; N],
    y: &Tensor,
    dy: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let dy = &dy.contiguous()?;
    op.leave(inputs, dy);
    let known = Known { inputs, y, dy, needs: inputs.map(Tensor::track_op) };
    match Queue::of(dy)? {
        Some(queue) => Ok(known.tensors(gpu_gradients(op, &queue, &known)?, |array, _| array.into_tensor())),
        None => Ok(known.tensors(cpu_gradients(op, &known)?, |values, shape| {
            Tensor::from_storage(Storage::Cpu(CpuStorage::F32(values)), shape, BackpropOp::none(), false)
        })),
    }
}

fn gpu_gradients<const N: usize>(op: &impl Op<N>, queue: &Queue, known: &Known<&Tensor, N>) -> Result<[Gradient; N]> {
    let inputs = known.inputs.iter().zip(op.reads()).map(|(input, read)| view_of(queue, input, read));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let (y, dy) = (view_of(queue, known.y, op.reads_output())?, queue.view(known.dy)?);
    op.gpu_gradients(queue, Known { inputs: std::array::from_fn(|i| inputs[i]), y, dy, needs: known.needs })
}

/// A tensor's values, or its type and shape alone where they are not read.
fn view_of<'a>(queue: &Queue, tensor: &'a Tensor, read: bool) -> Result<View<'a>> {
    match read {
        true => queue.view(tensor),
        false => Ok(View { address: 0, dtype: tensor.dtype(), shape: tensor.shape() }),
    }
}

fn cpu_gradients<const N: usize>(op: &impl Op<N>, known: &Known<&Tensor, N>) -> Result<[Gradient<Vec<f32>>; N]> {
    let inputs = known.inputs.iter().zip(op.reads()).map(|(input, read)| Operand::of(input, read));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let (y, dy) = (Operand::of(known.y, op.reads_output())?, Operand::of(known.dy, true)?);
    let inputs = std::array::from_fn(|i| inputs[i].given());
    op.cpu_gradients(Known { inputs, y: y.given(), dy: dy.given(), needs: known.needs })
}

impl<const N: usize> Known<&Tensor, N> {
    /// The gradients that are asked for, `tensor` making one of new values and their shape.
    fn tensors<T>(&self, gradients: [Gradient<T>; N], tensor: impl Fn(T, &Shape) -> Tensor) -> [Option<Tensor>; N] {
        let mut gradients = gradients.into_iter();
        std::array::from_fn(|i| match gradients.next().filter(|_| self.needs[i])? {
            Gradient::None => None,
            Gradient::Same => Some(self.dy.clone()),
            Gradient::New(values) => Some(tensor(values, self.inputs[i].shape())),
        })
    }
}

/// A tensor on the CPU whose values are looked at, or its shape alone where they are not read.
struct Operand<'a> {
    values: Option<Values<'a>>,
    shape: &'a Shape,
}

impl<'a> Operand<'a> {
    fn of(tensor: &'a Tensor, read: bool) -> Result<Self> {
        Ok(Self { values: read.then(|| Values::of(tensor)).transpose()?, shape: tensor.shape() })
    }

    fn given(&self) -> Given<'_> {
        Given { values: self.values.as_deref().unwrap_or_default(), shape: self.shape }
    }
}

/// An operation as Candle's tape knows it: its output is there when Candle asks for it.
struct Node<O> {
    op: O,
    y: Mutex<Option<(Storage, Shape)>>,
}

impl<O> Node<O> {
    fn new<const N: usize>(op: O, inputs: &[Tensor; N]) -> Result<Self>
    where
        O: Op<N>,
    {
        let y = Mutex::new(Some(forward(&op, inputs)?));
        Ok(Self { op, y })
    }

    fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.y.lock().ok().and_then(|mut y| y.take()) {
            Some((Storage::Cpu(y), shape)) => Ok((y, shape)),
            _ => candle_core::bail!("an operation's output on the CPU has been taken, or lies elsewhere"),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.y.lock().ok().and_then(|mut y| y.take()) {
            Some((Storage::Cuda(y), shape)) => Ok((y, shape)),
            _ => candle_core::bail!("an operation's output on CUDA has been taken, or lies elsewhere"),
        }
    }
}

/// An operation of these inputs on Candle's tape.
macro_rules! candle_node {
    ($operation:ident, $count:literal, [$($input:ident),+] -> $gradients:ty) => {
        impl<O: Op<$count>> $operation for Node<O> {
            fn name(&self) -> &'static str {
                self.op.name()
            }

            #[expect(unused_variables, reason = "the output has been made of them")]
            fn cpu_fwd(&self, $($input: &CpuStorage, _: &Layout),+) -> Result<(CpuStorage, Shape)> {
                self.on_cpu()
            }

            #[cfg(feature = "cuda")]
            #[expect(unused_variables, reason = "the output has been made of them")]
            fn cuda_fwd(&self, $($input: &CudaStorage, _: &Layout),+) -> Result<(CudaStorage, Shape)> {
                self.on_cuda()
            }

            fn bwd(&self, $($input: &Tensor),+, y: &Tensor, dy: &Tensor) -> Result<$gradients> {
                let [$($input),+] = backward(&self.op, [$($input),+], y, dy)?;
                Ok(($($input),+))
            }
        }
    };
}

candle_node!(CustomOp1, 1, [x] -> Option<Tensor>);
candle_node!(CustomOp2, 2, [a, b] -> (Option<Tensor>, Option<Tensor>));
candle_node!(CustomOp3, 3, [a, b, c] -> (Option<Tensor>, Option<Tensor>, Option<Tensor>));
