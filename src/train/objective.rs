//! What a training step minimizes: the loss of the logits and the terms that a recipe adds.

use super::{Job, batches::Batch, teacher::Teacher};
use crate::{
    backbone::Model,
    error::Result,
    loss::{LossSpec, Targets, terms},
    spec::RunSpec,
    tensor::{DType, Pass, Tensor},
};

/// The loss and the terms of one run.
pub struct Objective<'a> {
    spec: &'a RunSpec,
    /// The specification's, its weights made of the training images where it leaves them to these.
    pub criterion: LossSpec,
    teacher: Option<Teacher>,
}

impl<'a> Objective<'a> {
    /// With the teacher, where the run has one.
    pub fn new(job: &'a Job<'a>) -> Result<Self> {
        let classes = job.data.classes.len();
        let load = |distill| Teacher::load(distill, job.spec, job.dir, classes, &job.device);
        let mut counts = vec![0; classes];
        job.data.train.items.iter().for_each(|item| counts[item.target as usize] += 1);
        let mut criterion = job.spec.loss.clone();
        criterion.as_dyn_mut().settle(&counts);
        Ok(Self { spec: job.spec, criterion, teacher: job.spec.distill.as_ref().map(load).transpose()? })
    }

    /// The logits `(N, classes)` of a batch with these pooled features, and its mean loss with all terms.
    pub fn loss(&self, model: &Model, features: &Tensor, batch: &Batch, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let logits = model.net.logits(features, pass)?;
        let targets = Targets { probabilities: &batch.targets, classes: batch.classes.as_deref() };
        let mut loss = self.criterion.as_dyn().loss(&logits, &targets)?;
        if let (Some(supcon), Some(classes)) = (&self.spec.supcon, &batch.classes) {
            loss = (loss
                + (terms::supervised_contrastive(&features.to_dtype(DType::F32)?, classes, supcon.temperature)?
                    * supcon.weight)?)?;
        }
        if let (Some(distill), Some(teacher)) = (&self.spec.distill, &self.teacher) {
            let term = terms::distillation(&logits, &teacher.logits(&batch.images)?, distill.temperature)?;
            loss = ((loss * (1.0 - distill.weight))? + (term * distill.weight)?)?;
        }
        Ok((logits, loss))
    }
}
