//! An operation on the tape: what each device computes, and the gradients.

use super::{
    memory::{Values, slice},
    tape,
};
use crate::tensor::gpu::{Array, Queue, View};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor};

/// A differentiable operation of `N` inputs, all contiguous.
///
/// On the CPU everything is f32. On a GPU activations may be bf16 or f16, parameters are f32: an operation computes in f32
/// inside and gives each gradient its input's type.
pub trait Op<const N: usize>: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// The output on the CPU.
    fn cpu(&self, inputs: [Given; N]) -> Result<(Vec<f32>, Shape)>;

    /// The inputs' gradients on the CPU, at least of those on the tape; `y` and `dy` are the output and its gradient.
    fn cpu_gradients(&self, inputs: [&Tensor; N], y: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; N]>;

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

    /// The gradients on a GPU, of those inputs that `needs` names.
    fn gpu_gradients(
        &self,
        queue: &Queue,
        inputs: [View; N],
        y: View,
        dy: View,
        needs: [bool; N],
    ) -> Result<[Gradient; N]>;
}

/// The gradient of an input on a GPU.
pub enum Gradient {
    /// Nobody needs it.
    None,
    /// That of the output itself.
    Same,
    New(Array),
}

impl Gradient {
    /// What `make` makes, where it is needed.
    pub fn needed(needed: bool, make: impl FnOnce() -> Result<Array>) -> Result<Self> {
        if needed { make().map(Self::New) } else { Ok(Self::None) }
    }

    fn into_tensor(self, dy: &Tensor) -> Option<Tensor> {
        match self {
            Self::None => None,
            Self::Same => Some(dy.clone()),
            Self::New(array) => Some(array.into_tensor()),
        }
    }
}

impl From<Option<Array>> for Gradient {
    fn from(array: Option<Array>) -> Self {
        array.map_or(Self::None, Self::New)
    }
}

/// An input on the CPU.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub values: &'a [f32],
    pub shape: &'a Shape,
}

/// Applies an operation of one input.
pub fn apply1(op: impl Op<1>, x: &Tensor) -> Result<Tensor> {
    let inputs = [x.contiguous()?];
    match tape::is_candles(&inputs) {
        true => inputs[0].apply_op1(Node(op)),
        false => tape::apply(op, inputs),
    }
}

/// Applies an operation of two inputs.
pub fn apply2(op: impl Op<2>, [a, b]: [&Tensor; 2]) -> Result<Tensor> {
    let inputs = [a.contiguous()?, b.contiguous()?];
    match tape::is_candles(&inputs) {
        true => inputs[0].apply_op2(&inputs[1], Node(op)),
        false => tape::apply(op, inputs),
    }
}

/// Applies an operation of three inputs.
pub fn apply3(op: impl Op<3>, [a, b, c]: [&Tensor; 3]) -> Result<Tensor> {
    let inputs = [a.contiguous()?, b.contiguous()?, c.contiguous()?];
    match tape::is_candles(&inputs) {
        true => inputs[0].apply_op3(&inputs[1], &inputs[2], Node(op)),
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
    let values = inputs.iter().map(Values::of).collect::<Result<Vec<_>>>()?;
    let given = std::array::from_fn(|i| Given { values: &values[i], shape: inputs[i].shape() });
    let (y, shape) = op.cpu(given)?;
    Ok((Storage::Cpu(CpuStorage::F32(y)), shape))
}

/// The gradients of those inputs that are on a tape.
pub fn backward<const N: usize>(
    op: &impl Op<N>,
    inputs: [&Tensor; N],
    y: &Tensor,
    dy: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let dy = dy.contiguous()?;
    let needs = inputs.map(Tensor::track_op);
    op.leave(inputs, &dy);
    let mut gradients = match Queue::of(&dy)? {
        None => op.cpu_gradients(inputs, y, &dy)?,
        Some(queue) => {
            let mut views = [queue.view(&dy)?; N];
            for (view, (input, read)) in views.iter_mut().zip(inputs.into_iter().zip(op.reads())) {
                *view = view_of(&queue, input, read)?;
            }
            let y = view_of(&queue, y, op.reads_output())?;
            let gradients = op.gpu_gradients(&queue, views, y, queue.view(&dy)?, needs)?;
            gradients.map(|gradient| gradient.into_tensor(&dy))
        }
    };
    gradients.iter_mut().zip(needs).for_each(|(gradient, needed)| *gradient = gradient.take().filter(|_| needed));
    Ok(gradients)
}

/// A tensor's values, or its type and shape alone where they are not read.
fn view_of<'a>(queue: &Queue, tensor: &'a Tensor, read: bool) -> Result<View<'a>> {
    match read {
        true => queue.view(tensor),
        false => Ok(View { address: 0, dtype: tensor.dtype(), shape: tensor.shape() }),
    }
}

/// An operation as Candle's tape knows it.
struct Node<O>(O);

impl<O> Node<O> {
    fn forward<const N: usize>(&self, inputs: [(&CpuStorage, &Layout); N]) -> Result<(CpuStorage, Shape)>
    where
        O: Op<N>,
    {
        if let Some(queue) = Queue::lent() {
            return self.lent(&queue, inputs);
        }
        let mut given = [Given { values: &[], shape: inputs[0].1.shape() }; N];
        for (given, (storage, layout)) in given.iter_mut().zip(inputs) {
            *given = Given { values: slice(storage, layout)?, shape: layout.shape() };
        }
        let (y, shape) = self.0.cpu(given)?;
        Ok((CpuStorage::F32(y), shape))
    }

    /// The GPU side on a driver that works in the host's memory.
    fn lent<const N: usize>(&self, queue: &Queue, inputs: [(&CpuStorage, &Layout); N]) -> Result<(CpuStorage, Shape)>
    where
        O: Op<N>,
    {
        let storages = inputs.map(|(storage, _)| Storage::Cpu(storage.clone()));
        let mut views = [View { address: 0, dtype: candle_core::DType::F32, shape: inputs[0].1.shape() }; N];
        for (view, (storage, (_, layout))) in views.iter_mut().zip(storages.iter().zip(inputs)) {
            *view = queue.view_of(storage, layout)?;
        }
        match self.0.gpu(queue, views)?.into_parts() {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => candle_core::bail!("a driver lent to the CPU must work in its memory"),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda<const N: usize>(
        &self,
        inputs: [(&candle_core::CudaStorage, &Layout); N],
    ) -> Result<(candle_core::CudaStorage, Shape)>
    where
        O: Op<N>,
    {
        use candle_core::backend::BackendStorage;
        let queue = crate::tensor::gpu::cuda::queue(inputs[0].0.device())?;
        let mut views = [View { address: 0, dtype: candle_core::DType::F32, shape: inputs[0].1.shape() }; N];
        for (view, (storage, layout)) in views.iter_mut().zip(inputs) {
            *view = crate::tensor::gpu::cuda::view(storage, layout)?;
        }
        match self.0.gpu(&queue, views)?.into_parts() {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => candle_core::bail!("{} left its result outside the device", self.0.name()),
        }
    }
}

impl<O: Op<1>> CustomOp1 for Node<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_at: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward([(x, x_at)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &candle_core::CudaStorage, x_at: &Layout) -> Result<(candle_core::CudaStorage, Shape)> {
        self.cuda([(x, x_at)])
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = backward(&self.0, [x], y, dy)?;
        Ok(dx)
    }
}

impl<O: Op<2>> CustomOp2 for Node<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, a: &CpuStorage, a_at: &Layout, b: &CpuStorage, b_at: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward([(a, a_at), (b, b_at)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &candle_core::CudaStorage,
        a_at: &Layout,
        b: &candle_core::CudaStorage,
        b_at: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.cuda([(a, a_at), (b, b_at)])
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(&self.0, [a, b], y, dy).map(Into::into)
    }
}

impl<O: Op<3>> CustomOp3 for Node<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_at: &Layout,
        b: &CpuStorage,
        b_at: &Layout,
        c: &CpuStorage,
        c_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward([(a, a_at), (b, b_at), (c, c_at)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &candle_core::CudaStorage,
        a_at: &Layout,
        b: &candle_core::CudaStorage,
        b_at: &Layout,
        c: &candle_core::CudaStorage,
        c_at: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.cuda([(a, a_at), (b, b_at), (c, c_at)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        backward(&self.0, [a, b, c], y, dy).map(Into::into)
    }
}
