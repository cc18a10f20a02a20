//! The gradients of a step.

use super::{
    Trainer,
    batches::{Batch, Loaded},
    forward::{self, Ends, Outcome},
};
use crate::{
    error::Result,
    tensor::{Key, Pass, Tensor, Turn, ops},
};

impl Trainer<'_> {
    /// Forward and backward over the batches of a step. What a second time sees is the same, so it neither counts nor enters
    /// running statistics.
    pub(super) fn gradients(&mut self, loaded: &[Loaded], first: bool) -> Result<()> {
        for (place, Loaded { host, weight }) in loaded.iter().enumerate() {
            let batch = self.batches.upload(host)?;
            let turn = Turn { step: self.progress.step, part: place as u64, place: None };
            let Outcome { gradients, logits, loss } = match first && loaded.len() == 1 {
                true => self.recorded(&batch, turn)?,
                false => self.outcome(&batch, turn, (!first).then_some(0.0), *weight)?,
            };
            if first {
                self.tally.add(&self.progress, &batch, &logits, &loss, *weight)?;
            }
            self.updater.accumulate(&gradients)?;
        }
        Ok(())
    }

    /// What comes of a step's only batch, by a recording as soon as there is one.
    fn recorded(&mut self, batch: &Batch, turn: Turn) -> Result<Outcome> {
        let Some(mut recorder) = self.recorder.take() else { return self.outcome(batch, turn, None, 1.0) };
        let work = |[images, targets]: [&Tensor; 2], turn: Turn| {
            let classes = batch.classes.clone();
            self.outcome(&Batch { images: images.clone(), targets: targets.clone(), classes }, turn, None, 1.0)
        };
        let made = recorder.step([&batch.images, &batch.targets], turn, &self.model.params, work);
        self.recorder = Some(recorder);
        made
    }

    /// What comes of a batch that has this weight in its step.
    fn outcome(&self, batch: &Batch, turn: Turn, momentum: Option<f64>, weight: f64) -> Result<Outcome> {
        let key = Key::new(self.job.seed).named("drop");
        let pass = Pass { turn: Some(turn), momentum, ..Pass::train(key) };
        let head = |features: &Tensor| {
            let (logits, loss) = self.objective.loss(&self.model, features, batch, &pass)?;
            let loss = ops::affine(&loss, weight, 0.0)?;
            Ok(Ends { scaled: self.updater.scaled(&loss)?, logits, loss })
        };
        let checkpointing = self.job.spec.backbone.grad_checkpointing;
        forward::outcome(self.model.net.as_ref(), &batch.images, &pass, checkpointing, head)
    }
}
