//! One run, from a resolved specification to a selected checkpoint.

mod average;
mod batches;
mod checkpoint;
mod evaluate;
mod progress;
pub mod speed;
mod update;

pub use batches::{Images, Normalize};
pub use evaluate::{Evaluation, evaluate, score, softmax};

use crate::{
    backbone::{self, Model, pretrained::Places},
    data::Dataset,
    error::{Cause, Error, Result},
    event::{Event, Split, Values},
    loss::Targets,
    schedule::{self, Clock},
    spec::{BackboneSpec, Keep, Precision, RunSpec, UsePretrained},
    tensor::{Key, Pass, Tensor},
};
use average::Average;
use batches::Batches;
use checkpoint::Folder;
use progress::Progress;
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};
use update::Updater;

/// Everything a run needs. It depends on nothing else: same job, same bits on the CPU.
pub struct Job<'a> {
    pub spec: &'a RunSpec,
    pub seed: u64,
    pub data: &'a Dataset,
    pub device: candle_core::Device,
    /// Holds `checkpoints/`; a checkpoint found there is continued from.
    pub dir: &'a Path,
    /// Threads of the pool the run computes in.
    pub threads: usize,
    /// Counts from 1; goes into [`Event::Started`].
    pub attempt: u32,
    /// The most images of one forward pass, where memory forces fewer than `batch_size`: gradients are accumulated.
    pub micro_batch: Option<usize>,
}

/// Where a run tells what happens.
pub type Emit<'a> = dyn FnMut(Event) -> Result<()> + 'a;

/// Trains, evaluates and checkpoints, telling `emit` what happens.
///
/// When `stop` becomes true it writes a checkpoint at the next step and returns `Cause::Interrupted`. An error of `emit`
/// ends the run. Emits everything but `Event::Failed`, which is the caller's.
pub fn run(job: &Job, emit: &mut Emit, stop: &AtomicBool) -> Result<()> {
    let mut trainer = Trainer::new(job, emit)?;
    trainer.resume(emit)?;
    trainer.announce(emit)?;
    while !trainer.done() {
        trainer.train_epoch(emit, stop)?;
        trainer.validate(emit)?;
        trainer.save(emit)?;
    }
    trainer.finish(emit)
}

struct Trainer<'a> {
    job: &'a Job<'a>,
    model: Model,
    updater: Updater,
    average: Option<Average>,
    batches: Batches<'a>,
    folder: Folder,
    progress: Progress,
    /// The best epoch's evaluation, where this process made it.
    best: Option<Evaluation>,
}

impl<'a> Trainer<'a> {
    fn new(job: &'a Job<'a>, emit: &mut Emit) -> Result<Self> {
        check_precision(job)?;
        let key = Key::new(job.seed);
        let model = start_model(job, key, emit)?;
        freeze(&model, &job.spec.freeze)?;
        let batches = Batches::new(job, key)?;
        Ok(Self {
            updater: Updater::new(&job.spec.optimizer, &model.params, job.spec.weight_decay_on),
            average: job.spec.ema.as_ref().map(|ema| Average::new(ema, &model.params)).transpose()?,
            folder: Folder::create(job.dir)?,
            progress: Progress::default(),
            best: None,
            batches,
            model,
            job,
        })
    }

    fn resume(&mut self, emit: &mut Emit) -> Result<()> {
        match self.folder.load(&self.model.params, &mut self.updater, self.average.as_mut()) {
            Ok(Some(progress)) => self.progress = progress,
            Ok(None) => {}
            Err(error) => {
                let message = format!("the checkpoint cannot be read, so the run starts over ({error})");
                emit(Event::Warning { message })?;
            }
        }
        Ok(())
    }

    fn announce(&self, emit: &mut Emit) -> Result<()> {
        emit(Event::Started {
            attempt: self.job.attempt,
            device: device_name(&self.job.device),
            threads: self.job.threads,
            epoch: self.progress.epoch,
            epochs: self.job.spec.epochs,
            steps_per_epoch: self.batches.steps_per_epoch(),
            parameters: self.model.params.count() as u64,
        })
    }

    fn done(&self) -> bool {
        self.progress.epoch >= self.job.spec.epochs || self.progress.stopped_early(self.job.spec)
    }

    fn train_epoch(&mut self, emit: &mut Emit, stop: &AtomicBool) -> Result<()> {
        let began = Instant::now();
        let epoch = self.progress.epoch;
        let order = self.batches.order(epoch);
        while self.progress.step_in_epoch < self.batches.steps_per_epoch() {
            if stop.load(Ordering::Relaxed) {
                self.progress.seconds += began.elapsed().as_secs_f64();
                self.folder.save(&self.model.params, &self.updater, self.average.as_ref(), &self.progress)?;
                return Err(Error::new(Cause::Interrupted, format!("stopped in epoch {}", epoch + 1)));
            }
            let values = self.step(&order)?;
            if self.progress.step.is_multiple_of(self.job.spec.log_every) {
                emit(Event::Step { epoch: epoch + 1, step: self.progress.step, values })?;
            }
        }
        let values = self.progress.end_epoch();
        self.progress.seconds += began.elapsed().as_secs_f64();
        emit(Event::Epoch { epoch: self.progress.epoch, split: Split::Train, values })
    }

    /// One optimizer step: the batches it accumulates, backward, update, average.
    fn step(&mut self, order: &[usize]) -> Result<Values> {
        let spec = self.job.spec;
        let clock = self.progress.clock(self.batches.steps_per_epoch(), spec.epochs);
        let (lr, momentum) = rates(spec, &clock);
        let chunks = self.batches.chunks(order, self.progress.step_in_epoch);
        let mut total = 0.0;
        for (place, chunk) in chunks.iter().enumerate() {
            let batch = self.batches.load(chunk, self.progress.epoch)?;
            let key = Key::new(self.job.seed).named("drop").with(self.progress.step).with(place as u64);
            let logits = self.model.net.forward(&batch.images, &Pass::train(key))?;
            let targets = Targets { probabilities: &batch.targets, classes: batch.classes.as_deref() };
            let loss = (spec.loss.as_dyn().loss(&logits, &targets)? * chunk.weight)?;
            let value = f64::from(loss.to_scalar::<f32>()?);
            self.finite(value)?;
            total += value;
            self.updater.accumulate(&loss.backward()?)?;
            self.progress.count(&batch, &logits, value / chunk.weight)?;
        }
        self.updater.step(lr, momentum, spec.clip_grad_norm).map_err(|error| self.at_step(error))?;
        self.progress.step_done();
        if let Some(average) = &mut self.average {
            average.update(&self.model.params, self.progress.step)?;
        }
        Ok(Values::from([("loss".into(), total), ("lr".into(), lr)]))
    }

    fn finite(&self, loss: f64) -> Result<()> {
        match loss.is_finite() {
            true => Ok(()),
            false => Err(self.at_step(Error::new(
                Cause::NonFinite,
                format!("the loss became {loss}; try a smaller learning rate, warmup or clip_grad_norm"),
            ))),
        }
    }

    fn at_step(&self, error: Error) -> Error {
        let (step, epoch) = (self.progress.step + 1, self.progress.epoch + 1);
        Error::new(error.cause, format!("step {step} (epoch {epoch}): {error}"))
    }

    /// Evaluates when this epoch's turn has come, and keeps the best.
    fn validate(&mut self, emit: &mut Emit) -> Result<()> {
        let (spec, epoch) = (self.job.spec, self.progress.epoch);
        if !epoch.is_multiple_of(spec.eval_every) && epoch != spec.epochs {
            return Ok(());
        }
        let evaluation = self.with_average(|trainer| trainer.evaluate())?;
        emit(Event::Epoch { epoch, split: Split::Val, values: evaluation.values.clone() })?;
        if self.progress.record(spec, &evaluation.values)? {
            self.with_average(|trainer| trainer.folder.save_best(&trainer.model.params, epoch))?;
            self.best = Some(evaluation);
        }
        Ok(())
    }

    fn evaluate(&self) -> Result<Evaluation> {
        let spec = self.job.spec;
        evaluate(&self.model, spec.loss.as_dyn(), &self.job.data.val, &self.batches.images, self.batches.micro_batch)
    }

    /// Runs `work` with the averaged weights in place of the trained ones, where there is an average.
    fn with_average<T>(&mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let Some(average) = self.average.take() else { return work(self) };
        let trained = average.swap_in(&self.model.params)?;
        let result = work(self);
        trained.restore(&self.model.params)?;
        self.average = Some(average);
        result
    }

    fn save(&self, emit: &mut Emit) -> Result<()> {
        self.folder.save(&self.model.params, &self.updater, self.average.as_ref(), &self.progress)?;
        emit(Event::Checkpoint { epoch: self.progress.epoch, best: self.progress.best_epoch == self.progress.epoch })
    }

    /// Tells the selected epoch's predictions and what the run came to, and clears what is not kept.
    fn finish(mut self, emit: &mut Emit) -> Result<()> {
        let best = match self.best.take() {
            Some(best) => best,
            None => {
                self.folder.load_best(&self.model.params)?;
                self.evaluate()?
            }
        };
        let epoch = self.progress.best_epoch;
        let classes = self.job.data.classes.clone();
        emit(Event::Predictions { epoch, split: Split::Val, classes, rows: best.rows })?;
        let mut summary = best.values;
        summary.insert("seconds".into(), self.progress.seconds);
        summary.insert("images_per_second".into(), self.progress.images as f64 / self.progress.seconds.max(1e-9));
        emit(Event::Finished { best_epoch: epoch, summary })?;
        match self.job.spec.keep {
            Keep::All => Ok(()),
            Keep::Best => self.folder.remove_last(),
            Keep::None => self.folder.remove_last().and_then(|()| self.folder.remove_best()),
        }
    }
}

/// The step's learning rate, behind the warm-up where there is one, and its momentum where the schedule cycles it.
fn rates(spec: &RunSpec, clock: &Clock) -> (f64, Option<f64>) {
    let (base, schedule) = (spec.optimizer.as_dyn().lr(), spec.scheduler.as_dyn());
    match &spec.warmup {
        None => (schedule.lr(base, clock), schedule.momentum(clock)),
        Some(warmup) => {
            let steps = warmup.length.steps(clock.steps_per_epoch);
            let lr = schedule::warmed_up(base, warmup.start_factor, steps, clock, schedule);
            (lr, schedule.momentum(&clock.after(steps)))
        }
    }
}

fn check_precision(job: &Job) -> Result<()> {
    match (job.spec.precision, job.device.is_cpu()) {
        (Precision::Auto | Precision::F32, _) => Ok(()),
        (other, true) => Err(Error::user(format!(
            "precision {other:?} needs CUDA; the CPU computes in f32 (write \"auto\" or \"f32\")"
        ))),
        (_, false) => Ok(()),
    }
}

/// The model with its starting weights: fresh, from a file, or timm's pretrained ones.
fn start_model(job: &Job, key: Key, emit: &mut Emit) -> Result<Model> {
    let spec = &job.spec.backbone;
    let options = backbone::Options {
        classes: job.data.classes.len(),
        drop_rate: spec.drop_rate,
        drop_path: spec.drop_path,
        image_size: job.spec.input.size,
    };
    let model = backbone::build(&spec.name, &options, &job.device, key.named("init"))?;
    let fresh = match (&spec.weights, pretrained_weights(&model, spec, emit)?) {
        (Some(file), _) => backbone::load_weights(&model, file.as_ref())?,
        (None, Some(files)) => backbone::load_halves(&model, &files)?,
        (None, None) => Vec::new(),
    };
    if !fresh.is_empty() {
        eprintln!("{}: the classifier starts fresh ({})", spec.name, fresh.join(", "));
    }
    Ok(model)
}

/// The files of timm's pretrained weights, where the run starts from them.
fn pretrained_weights(model: &Model, spec: &BackboneSpec, emit: &mut Emit) -> Result<Option<Vec<PathBuf>>> {
    if spec.weights.is_some() || spec.pretrained == UsePretrained::No {
        return Ok(None);
    }
    match backbone::fetch_pretrained(model, &Places::from_env(), &mut |_, _| {}) {
        Err(error) if spec.pretrained == UsePretrained::IfAvailable => {
            eprintln!("{error}");
            let message = format!("{} started from scratch: its pretrained weights were not available", spec.name);
            emit(Event::Warning { message })?;
            Ok(None)
        }
        file => file.map(Some),
    }
}

/// Freezes the parameters whose names match a pattern; a pattern that matches nothing is a mistake.
fn freeze(model: &Model, patterns: &[String]) -> Result<()> {
    for pattern in patterns {
        let matching: Vec<_> = model.params.iter().filter(|weight| matches(pattern, weight.name())).collect();
        if matching.is_empty() {
            let names: Vec<&str> = model.params.iter().map(|weight| weight.name()).take(5).collect();
            return Err(Error::user(format!(
                "freeze = \"{pattern}\" matches no parameter; names look like {}",
                names.join(", ")
            )));
        }
        matching.iter().for_each(|weight| weight.set_frozen(true));
    }
    Ok(())
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(tail, &rest[at..]))
        }),
    }
}

fn device_name(device: &candle_core::Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// A tensor of images ready for a backbone.
pub fn image_tensor(pixels: Vec<f32>, count: usize, size: usize, device: &candle_core::Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(pixels, (count, size, size, 3), device)?)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        assert!(matches("layer1.*", "layer1.0.conv1.weight"));
        assert!(matches("*bn*.bias", "layer1.0.bn1.bias"));
        assert!(matches("fc.weight", "fc.weight"));
        assert!(!matches("fc", "fc.weight"));
        assert!(!matches("layer1.*", "layer2.0.conv1.weight"));
    }
}
