//! The tape: which operations led from the parameters to a loss, and the way back.
//!
//! Candle's own tape writes zeros and adds once for every gradient that passes along an edge. Ours stores a tensor's first
//! gradient and only adds a second one, and lets go of what an operation remembers as soon as that has been used.

use super::{
    add::{add_to, sum},
    op::{self, Op},
};
use candle_core::{
    CpuStorage, CustomOp1, DType, Layout, Result, Shape, Storage, Tensor, TensorId, backprop::GradStore, op::BackpropOp,
};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, hash_map::Entry as Place},
};

/// Who takes down what this thread computes.
enum Recorder {
    Candle,
    Ours(Tape),
    Nobody,
}

thread_local! {
    static RECORDER: RefCell<Recorder> = const { RefCell::new(Recorder::Candle) };
}

/// Runs `work` with another recorder, and returns that too.
fn with_recorder<T>(recorder: Recorder, work: impl FnOnce() -> T) -> (T, Recorder) {
    /// Also where `work` panics.
    struct Restore(Recorder);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDER.set(std::mem::replace(&mut self.0, Recorder::Candle));
        }
    }
    let restore = Restore(RECORDER.replace(recorder));
    let result = work();
    let recorder = RECORDER.replace(Recorder::Candle);
    drop(restore);
    (result, recorder)
}

/// Runs `work` with nobody taking down what it computes, whatever that depends on.
pub fn untracked<T>(work: impl FnOnce() -> T) -> T {
    with_recorder(Recorder::Nobody, work).0
}

/// Operations in the order they were made.
///
/// Results of Candle's own operations may stand between ours: their gradients go the way that Candle's tape knows.
/// A result of ours is a variable to Candle, so that its tape ends there.
#[derive(Default)]
pub struct Tape {
    entries: Vec<Entry>,
    /// Tensors with an entry that Candle does not take for variables.
    known: HashSet<TensorId>,
}

enum Entry {
    Made(Box<dyn Node>),
    /// Values of another tensor in another shape.
    View {
        from: TensorId,
        shape: Shape,
        to: TensorId,
    },
    /// What Candle's own operations made, in front of everything that was made of it here.
    Foreign(Tensor),
}

impl Tape {
    /// Runs `work` with this tape taking down every operation of this thread that depends on a variable.
    pub fn record<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (result, recorder) = with_recorder(Recorder::Ours(std::mem::take(self)), work);
        if let Recorder::Ours(tape) = recorder {
            *self = tape;
        }
        result
    }

    /// Whether the way from `end` is made of our operations alone.
    pub fn is_ours(&self, end: &Tensor) -> bool {
        let known = |entry: &Entry| !matches!(entry, Entry::Foreign(_));
        (end.is_variable() || self.known.contains(&end.id())) && self.entries.iter().all(known)
    }

    /// The gradients of a scalar, or of the sum of a tensor, by every variable it depends on.
    pub fn backward(self, end: &Tensor) -> Result<Gradients> {
        self.backward_from(end, end.ones_like()?)
    }

    /// The gradients of what has `gradient` by `end`.
    pub fn backward_from(mut self, end: &Tensor, gradient: Tensor) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        match end.is_variable() || self.known.contains(&end.id()) {
            true => gradients.add(end.id(), gradient, false)?,
            false => gradients.through_candle(end, gradient)?,
        }
        while let Some(entry) = self.entries.pop() {
            match entry {
                Entry::Made(node) => node.pass_on(&mut gradients)?,
                Entry::View { from, shape, to } => {
                    if let Some(Held { tensor, own }) = gradients.0.remove(&to) {
                        gradients.add(from, tensor.reshape(shape)?, own)?;
                    }
                }
                Entry::Foreign(tensor) => {
                    if let Some(gradient) = gradients.remove(&tensor) {
                        gradients.through_candle(&tensor, gradient)?;
                    }
                }
            }
        }
        Ok(gradients)
    }

    /// Makes sure that the gradients of an operation's input find their way.
    fn lead_to(&mut self, input: &Tensor) {
        if input.track_op() && !input.is_variable() && self.known.insert(input.id()) {
            self.entries.push(Entry::Foreign(input.clone()));
        }
    }
}

/// Whether an operation of these inputs belongs onto Candle's tape: where none of ours records it.
pub fn is_candles<'a>(inputs: impl IntoIterator<Item = &'a Tensor>) -> bool {
    RECORDER.with_borrow(|recorder| matches!(recorder, Recorder::Candle)) && inputs.into_iter().any(Tensor::track_op)
}

/// Computes an operation, and takes it down where it depends on a variable.
pub fn apply<const N: usize>(op: impl Op<N>, inputs: [Tensor; N]) -> Result<Tensor> {
    let (storage, shape) = op::forward(&op, &inputs)?;
    let nobody = RECORDER.with_borrow(|recorder| matches!(recorder, Recorder::Nobody));
    let tracked = !nobody && inputs.iter().any(Tensor::track_op);
    let y = Tensor::from_storage(storage, shape, BackpropOp::none(), tracked);
    if tracked {
        RECORDER.with_borrow_mut(|recorder| match recorder {
            Recorder::Ours(tape) => {
                inputs.iter().for_each(|input| tape.lead_to(input));
                tape.entries.push(Entry::Made(Box::new(Made::new(op, inputs, &y))));
                Ok(())
            }
            _ => candle_core::bail!("{} is on no tape", op.name()),
        })?;
    }
    Ok(y)
}

/// The same values in another shape of as many, without a copy.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let view = x.reshape(shape.into())?;
    if view.track_op() && view.id() != x.id() {
        RECORDER.with_borrow_mut(|recorder| {
            let Recorder::Ours(tape) = recorder else { return };
            tape.lead_to(x);
            tape.known.insert(view.id());
            tape.entries.push(Entry::View { from: x.id(), shape: x.shape().clone(), to: view.id() });
        });
    }
    Ok(view)
}

/// An operation that was made.
trait Node {
    /// Takes the gradient of the output, where there is one, and adds those of the inputs.
    fn pass_on(&self, gradients: &mut Gradients) -> Result<()>;
}

struct Made<O, const N: usize> {
    op: O,
    /// Hollow where their values are not read any more.
    inputs: [Tensor; N],
    y: Tensor,
    ids: [TensorId; N],
    id: TensorId,
}

impl<O: Op<N>, const N: usize> Made<O, N> {
    fn new(op: O, inputs: [Tensor; N], y: &Tensor) -> Self {
        let (reads, ids) = (op.reads(), inputs.each_ref().map(Tensor::id));
        let mut kept = inputs;
        kept.iter_mut().zip(reads).filter(|(_, read)| !read).for_each(|(input, _)| *input = hollow(input));
        let (y, id) = (if op.reads_output() { y.clone() } else { hollow(y) }, y.id());
        Self { op, inputs: kept, y, ids, id }
    }
}

/// A tensor of the same type and shape without values, to whatever device the others belong.
fn hollow(tensor: &Tensor) -> Tensor {
    let storage = match tensor.dtype() {
        DType::BF16 => CpuStorage::BF16(Vec::new()),
        DType::F16 => CpuStorage::F16(Vec::new()),
        _ => CpuStorage::F32(Vec::new()),
    };
    Tensor::from_storage(Storage::Cpu(storage), tensor.shape(), BackpropOp::none(), tensor.track_op())
}

impl<O: Op<N>, const N: usize> Node for Made<O, N> {
    fn pass_on(&self, gradients: &mut Gradients) -> Result<()> {
        let Some(Held { tensor: dy, .. }) = gradients.0.remove(&self.id) else { return Ok(()) };
        let made = op::backward(&self.op, self.inputs.each_ref(), &self.y, &dy)?;
        for (input, gradient) in self.ids.into_iter().zip(made) {
            if let Some(gradient) = gradient {
                // Others may have been given the output's gradient too, or the operation keeps it.
                let own = !same_values(&gradient, &dy);
                gradients.add(input, gradient, own)?;
            }
        }
        Ok(())
    }
}

/// Whether two tensors lie in one storage.
fn same_values(a: &Tensor, b: &Tensor) -> bool {
    let ((a, _), (b, _)) = (a.storage_and_layout(), b.storage_and_layout());
    std::ptr::eq(&*a, &*b)
}

/// Gradients by tensor.
#[derive(Clone, Default)]
pub struct Gradients(HashMap<TensorId, Held>);

#[derive(Clone)]
struct Held {
    tensor: Tensor,
    /// Whether nobody else sees its values, so that they may be added to.
    own: bool,
}

impl Gradients {
    /// The gradient of a variable, if the result depends on it.
    pub fn get(&self, of: &Tensor) -> Option<&Tensor> {
        self.0.get(&of.id()).map(|held| &held.tensor)
    }

    pub fn remove(&mut self, of: &Tensor) -> Option<Tensor> {
        self.0.remove(&of.id()).map(|held| held.tensor)
    }

    /// Puts a gradient in the place of what was there.
    pub fn insert(&mut self, of: &Tensor, gradient: Tensor) {
        self.0.insert(of.id(), Held { tensor: gradient, own: false });
    }

    /// Takes the gradients of others, none of which it has.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    fn add(&mut self, of: TensorId, gradient: Tensor, own: bool) -> Result<()> {
        match self.0.entry(of) {
            Place::Vacant(place) => {
                place.insert(Held { tensor: gradient, own });
            }
            Place::Occupied(mut place) => {
                let held = place.get_mut();
                match (held.own, own) {
                    (true, _) => add_to(&held.tensor, &gradient)?,
                    (false, true) => {
                        add_to(&gradient, &held.tensor)?;
                        *held = Held { tensor: gradient, own };
                    }
                    (false, false) => *held = Held { tensor: sum(&held.tensor, &gradient)?, own: true },
                }
            }
        }
        Ok(())
    }

    /// Passes the gradient of what Candle's operations made on to the variables that they made it of.
    fn through_candle(&mut self, end: &Tensor, gradient: Tensor) -> Result<()> {
        let mut store = end.apply_op1(Seed(gradient.contiguous()?))?.backward()?;
        for node in end.sorted_nodes().into_iter().filter(|node| node.is_variable()) {
            if let Some(gradient) = store.remove(node) {
                self.add(node.id(), gradient.contiguous()?, false)?;
            }
        }
        Ok(())
    }
}

/// What Candle's own tape has found.
impl From<GradStore> for Gradients {
    fn from(store: GradStore) -> Self {
        let held = |id: &TensorId| Some((*id, Held { tensor: store.get_id(*id)?.clone(), own: false }));
        Self(store.get_ids().filter_map(held).collect())
    }
}

/// A number that has this gradient by its input.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), ().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &candle_core::CudaStorage, _: &Layout) -> Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::{BackendDevice, BackendStorage};
        let shape: Shape = ().into();
        Ok((x.device().zeros_impl(&shape, candle_core::DType::F32)?, shape))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
