//! Forward and backward of a training step, recorded once on a GPU and replayed from then on: the host then asks for one
//! thing where it asked for hundreds.

use super::forward::Outcome;
use crate::{
    error::{Error, Result},
    loss::LossSpec,
    spec::RunSpec,
    tensor::{
        DType, Params, Tensor, Turn, Weight,
        gpu::{Array, Column, Many, Queue, Recording, Rooms, args},
        ops::Gradients,
    },
};
use candle_core::{Shape, Var};

/// Whether the steps of a run can be recorded: one forward pass each, of our own operations alone.
pub fn suits(spec: &RunSpec) -> bool {
    let plain = match &spec.loss {
        LossSpec::cross_entropy(loss) => loss.class_weights.is_none(),
        LossSpec::bce(loss) => loss.pos_weight.is_none() && loss.target_threshold.is_none(),
        _ => false,
    };
    let alone = spec.supcon.is_none() && spec.distill.is_none() && spec.optimizer.as_dyn().sharpness().is_none();
    plain && alone && spec.accumulate == 1 && !spec.backbone.grad_checkpointing
}

/// Records the steps of a run.
pub struct Recorder {
    queue: Queue,
    /// How many steps there were of which shapes since the last replay.
    seen: Vec<([Shape; 2], u32)>,
    recorded: Option<Recorded>,
    /// Whether a recording has failed: no other is tried then.
    failed: bool,
    warning: Option<String>,
}

impl Recorder {
    /// Steps made before one is recorded: the first ones choose algorithms and make room.
    const FIRST: u32 = 2;

    /// For a device that records; `None` for any other.
    pub fn new(params: &Params) -> Result<Option<Self>> {
        let first = params.trainable().next();
        let queue = first.map(|weight| Queue::of(weight.var())).transpose()?.flatten();
        let queue = queue.filter(Queue::records);
        Ok(queue.map(|queue| Self { queue, seen: Vec::new(), recorded: None, failed: false, warning: None }))
    }

    /// What `work` makes of images and targets, by a recording of it as soon as there is one. `work` must be the same
    /// every time but for the turn, and wait for nothing.
    pub fn step(
        &mut self,
        inputs: [&Tensor; 2],
        turn: Turn,
        params: &Params,
        work: impl Fn([&Tensor; 2], Turn) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let shapes = inputs.map(|input| input.shape().clone());
        if let Some(recorded) = self.recorded.as_ref().filter(|recorded| recorded.shapes() == shapes) {
            if !self.seen.is_empty() {
                self.seen.clear();
                self.queue.make_room()?;
            }
            return recorded.replay(inputs, turn);
        }
        self.rest()?;
        let place = self.seen.iter().position(|(seen, _)| *seen == shapes);
        let place = place.unwrap_or_else(|| {
            self.seen.push((shapes, 0));
            self.seen.len() - 1
        });
        self.seen[place].1 += 1;
        if self.seen[place].1 > Self::FIRST && !self.failed {
            // A recording of other shapes goes first: two would hold twice the memory.
            self.recorded = None;
            match Recorded::new(&self.queue, inputs, params, &work) {
                Ok(recorded) => {
                    self.seen.clear();
                    return self.recorded.insert(recorded).replay(inputs, turn);
                }
                Err(error) => {
                    self.failed = true;
                    self.warning = Some(format!("training steps are not recorded, and slower for it: {error}"));
                }
            }
        }
        work(inputs, turn)
    }

    /// Makes room for other work, where there is a recording that holds memory.
    pub fn rest(&self) -> Result<()> {
        self.recorded.as_ref().map_or(Ok(()), |_| Ok(self.queue.make_room()?))
    }

    /// What to tell of a recording that failed, once.
    pub fn warning(&mut self) -> Option<String> {
        self.warning.take()
    }
}

/// A recording with all that it reads and writes.
struct Recorded {
    recording: Box<dyn Recording>,
    queue: Queue,
    /// Images and targets.
    inputs: [Var; 2],
    turn: Array,
    outcome: Outcome,
    /// What the outcome lies in, and where the recording has what it copies there.
    _results: (Many, Rooms, Column),
}

impl Recorded {
    fn new(
        queue: &Queue,
        inputs: [&Tensor; 2],
        params: &Params,
        work: &impl Fn([&Tensor; 2], Turn) -> Result<Outcome>,
    ) -> Result<Self> {
        let inputs = [Var::from_tensor(inputs[0])?, Var::from_tensor(inputs[1])?];
        let weights: Vec<&Weight> = params.trainable().collect();
        let logits = inputs[1].elem_count();
        let sizes: Vec<usize> = weights.iter().map(|weight| weight.count()).chain([logits, 1]).collect();
        let many = Many::new(queue, &sizes)?;
        let results = Rooms::uncleared(&many, sizes.iter().copied())?;
        let mut made = many.column(vec![0; many.len()])?;
        let turn = queue.array(2, DType::I64)?;
        let gather = || many.launch("copy_many", many.all(), args![&results.column, &made]);
        // A kernel is loaded at its first launch, which must not be a recorded one; so far there is nothing to copy.
        gather()?;
        let (places, recording) = queue.record(|| {
            let [images, targets] = inputs.each_ref().map(Var::as_detached_tensor);
            let outcome = work([&images, &targets], Turn { place: Some(turn.view().address), ..Turn::default() })?;
            let places = places(queue, &outcome, &weights)?;
            gather()?;
            Ok::<_, Error>(places)
        })?;
        made.set(queue, places.clone())?;
        let mut gradients = Gradients::default();
        for (which, weight) in weights.iter().enumerate().filter(|(which, _)| places[*which] != 0) {
            gradients.insert(weight.var(), results.tensor(which, weight.var().dims())?);
        }
        let outcome = Outcome {
            gradients,
            logits: results.tensor(weights.len(), inputs[1].dims())?,
            loss: results.tensor(weights.len() + 1, &[])?,
        };
        Ok(Self { recording, queue: queue.clone(), inputs, turn, outcome, _results: (many, results, made) })
    }

    fn shapes(&self) -> [Shape; 2] {
        self.inputs.each_ref().map(|input| input.shape().clone())
    }

    fn replay(&self, inputs: [&Tensor; 2], turn: Turn) -> Result<Outcome> {
        for (own, given) in self.inputs.iter().zip(inputs) {
            own.set(given)?;
        }
        self.queue.rewrite(&self.turn, &[turn.step, turn.part])?;
        self.recording.replay()?;
        // The next step writes over these; the gradients have been used by then.
        let kept = |tensor: &Tensor| tensor.force_contiguous();
        let Outcome { gradients, logits, loss } = &self.outcome;
        Ok(Outcome { gradients: gradients.clone(), logits: logits.clone(), loss: kept(loss)? })
    }
}

/// Where the parts of an outcome lie; null for a parameter without a gradient.
fn places(queue: &Queue, outcome: &Outcome, weights: &[&Weight]) -> Result<Vec<u64>> {
    let gradients = weights.iter().map(|weight| outcome.gradients.get(weight.var()));
    let all = gradients.chain([Some(&outcome.logits), Some(&outcome.loss)]);
    let place = |tensor: Option<&Tensor>| match tensor {
        None => Ok(0),
        Some(tensor) if tensor.dtype() == DType::F32 => Ok(queue.view(tensor)?.address),
        Some(tensor) => Err(Error::bug(format!("a step's results are f32, got {:?}", tensor.dtype()))),
    };
    all.map(place).collect()
}
