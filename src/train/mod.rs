//! One run, from a resolved specification to a selected checkpoint.

mod ahead;
pub mod average;
mod batches;
mod checkpoint;
mod evaluate;
mod forward;
mod gradients;
pub mod groups;
mod images;
mod maker;
mod objective;
pub mod prefix;
mod progress;
mod rates;
mod recorded;
mod soup;
pub mod speed;
mod start;
mod tally;
pub mod teacher;
pub mod update;

pub use ahead::ahead;
pub use evaluate::{Evaluation, Probabilities, evaluate, score};
pub use images::{Images, Normalize, Plain};

use crate::{
    backbone::Model,
    data::Dataset,
    error::{Cause, Error, Result},
    event::{Event, Split},
    spec::{Keep, Precision, RunSpec},
    tensor::{Key, gpu},
};
use ahead::Ahead;
use average::Average;
use batches::{Batches, Loaded};
use checkpoint::Folder;
use groups::Groups;
use objective::Objective;
use progress::{Progress, selected};
use rates::rates;
use recorded::Recorder;
use soup::Soup;
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};
use tally::Tally;
use update::Updater;

/// Everything a run needs. It depends on nothing else: same job, same bits on the CPU.
pub struct Job<'a> {
    pub spec: &'a RunSpec,
    pub seed: u64,
    pub data: &'a Dataset,
    pub device: candle_core::Device,
    /// Holds `checkpoints/`; a checkpoint found there is continued from.
    pub dir: &'a Path,
    /// Pauses after this epoch, where that is not the last; the schedule still sees all of them.
    pub until: Option<u32>,
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
/// When `stop` becomes true it writes a checkpoint at the next step and returns `Cause::Interrupted`; where the job ends
/// early it says [`Event::Paused`] in place of [`Event::Finished`]. An error of `emit` ends the run. Emits everything but `Event::Failed`, which is the caller's.
pub fn run(job: &Job, emit: &mut Emit, stop: &AtomicBool) -> Result<()> {
    let mut trainer = Trainer::resume(job, emit)?;
    trainer.announce(emit)?;
    while !trainer.done() {
        if trainer.pauses() {
            return emit(Event::Paused { epoch: trainer.progress.epoch });
        }
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
    objective: Objective<'a>,
    folder: Folder,
    progress: Progress,
    tally: Tally,
    /// Where steps are recorded and replayed.
    recorder: Option<Recorder>,
    /// The best epoch's evaluation, where this process made it.
    best: Option<Evaluation>,
}

impl<'a> Trainer<'a> {
    fn new(job: &'a Job<'a>, emit: &mut Emit) -> Result<Self> {
        check_precision(job)?;
        let tf32 = job.spec.precision == Precision::Tf32;
        gpu::set_mode(&job.device, gpu::Mode { tf32, deterministic: job.spec.deterministic })?;
        let key = Key::new(job.seed);
        let model = start::model(job, key, emit)?;
        let batches = Batches::new(job, key)?;
        Ok(Self {
            updater: updater(job, &model)?,
            objective: Objective::new(job)?,
            average: Average::new(job.spec, &model.params)?,
            folder: Folder::create(job.dir)?,
            progress: Progress::default(),
            tally: Tally::default(),
            recorder: recorded::suits(job.spec).then(|| Recorder::new(&model.params)).transpose()?.flatten(),
            best: None,
            batches,
            model,
            job,
        })
    }

    /// At the last checkpoint that can be read, or at the start where there is none.
    fn resume(job: &'a Job<'a>, emit: &mut Emit) -> Result<Self> {
        let mut trainer = Self::new(job, emit)?;
        loop {
            let error = match trainer.load() {
                Err(error) if error.cause == Cause::User => error,
                loaded => return loaded.map(|()| trainer),
            };
            let earlier = trainer.folder.step_back()?;
            let then = if earlier { "goes on from the one before" } else { "starts over" };
            emit(Event::Warning { message: format!("the checkpoint cannot be read, so the run {then} ({error})") })?;
            // What was read of it must not stay behind.
            trainer = Self::new(job, emit)?;
        }
    }

    fn load(&mut self) -> Result<()> {
        let Some(progress) = self.folder.load(&self.model.params, &mut self.updater, self.average.as_mut())? else {
            return Ok(());
        };
        let soup = self.job.spec.soup.as_ref().map_or(0, |soup| soup.epochs);
        self.folder.check_selected(progress.best_epoch, &progress.best_epochs(soup, self.job.spec))?;
        self.progress = progress;
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

    /// Whether it has come as far as it was asked to.
    fn pauses(&self) -> bool {
        self.progress.step_in_epoch == 0 && self.job.until.is_some_and(|until| self.progress.epoch >= until)
    }

    fn train_epoch(&mut self, emit: &mut Emit, stop: &AtomicBool) -> Result<()> {
        let began = Instant::now();
        let epoch = self.progress.epoch;
        let batches = self.batches.clone();
        let order = batches.order(epoch);
        let steps = self.progress.step_in_epoch..batches.steps_per_epoch();
        // The next step's images are made ready while a device works on this one's.
        let mut steps = Ahead::new(steps.map(|step| batches.step(&order, step, epoch)));
        while let Some(loaded) = steps.take()? {
            if stop.load(Ordering::Relaxed) {
                return self.interrupt(began);
            }
            let lr = steps.meanwhile(|| self.step(&loaded))?;
            self.tell_step(lr, emit)?;
        }
        self.settle()?;
        let values = self.progress.end_epoch();
        if let Some(average) = &mut self.average {
            average.after_epoch(&self.model.params, self.progress.epoch)?;
        }
        self.progress.seconds += began.elapsed().as_secs_f64();
        emit(Event::Epoch { epoch: self.progress.epoch, split: Split::Train, values })
    }

    /// Writes a checkpoint within an epoch that `began` then, and says that the run was interrupted.
    fn interrupt(&mut self, began: Instant) -> Result<()> {
        self.settle()?;
        self.progress.seconds += began.elapsed().as_secs_f64();
        self.folder.save(&self.model.params, &self.updater, self.average.as_ref(), &self.progress)?;
        Err(Error::new(Cause::Interrupted, format!("stopped in epoch {}", self.progress.epoch + 1)))
    }

    /// Tells what the step just made came to, where it is one to be logged.
    fn tell_step(&mut self, lr: f64, emit: &mut Emit) -> Result<()> {
        if let Some(message) = self.recorder.as_mut().and_then(Recorder::warning) {
            emit(Event::Warning { message })?;
        }
        let log = self.progress.step.is_multiple_of(self.job.spec.log_every);
        // The CPU has the numbers at hand; a GPU would have to be waited for.
        let loss = if log || self.job.device.is_cpu() { self.settle()? } else { None };
        if !log {
            return Ok(());
        }
        let values = loss.map(|loss| ("loss".to_string(), loss)).into_iter().chain([("lr".to_string(), lr)]);
        emit(Event::Step { epoch: self.progress.epoch + 1, step: self.progress.step, values: values.collect() })
    }

    /// One optimizer step: gradients, a second time where the optimizer wants them higher up, update, average. Returns its
    /// learning rate.
    fn step(&mut self, loaded: &[Loaded]) -> Result<f64> {
        let spec = self.job.spec;
        let clock = self.progress.clock(self.batches.steps_per_epoch(), spec.epochs);
        let (lr, momentum) = rates(spec, &clock);
        self.gradients(loaded, true)?;
        if let Some(sharpness) = spec.optimizer.as_dyn().sharpness() {
            let raised = self.updater.climb(sharpness).map_err(|error| self.at_step(error))?;
            self.gradients(loaded, false)?;
            raised.restore()?;
        }
        self.updater.step(lr, momentum, spec.clip_grad_norm).map_err(|error| self.at_step(error))?;
        self.progress.step_done();
        if let Some(average) = &mut self.average {
            average.after_step(&self.model.params, self.progress.step)?;
        }
        Ok(lr)
    }

    /// Reads what the steps so far came to: the loss of the last one, where it has not been read yet.
    fn settle(&mut self) -> Result<Option<f64>> {
        let loss = self.tally.settle(&mut self.progress)?;
        self.updater.check().map_err(|error| self.at_step(error))?;
        Ok(loss)
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
        self.recorder.as_ref().map_or(Ok(()), Recorder::rest)?;
        self.with_average(|trainer| {
            let evaluation = trainer.evaluate()?;
            emit(Event::Epoch { epoch, split: Split::Val, values: evaluation.values.clone() })?;
            if trainer.progress.record(spec, &evaluation.values)? {
                trainer.folder.save_best(&trainer.model.params, epoch)?;
                trainer.best = Some(evaluation);
            }
            trainer.keep_best_epochs()
        })
    }

    /// Keeps this epoch's weights where they are among the best so far, and no others.
    fn keep_best_epochs(&self) -> Result<()> {
        let (spec, epoch) = (self.job.spec, self.progress.epoch);
        let for_soup = spec.soup.as_ref().map_or(0, |soup| soup.epochs);
        let best = self.progress.best_epochs(for_soup.max(spec.keep_best.unwrap_or(0)), spec);
        if best.is_empty() {
            return Ok(());
        }
        if best.contains(&epoch) {
            self.folder.save_epoch(&self.model.params, epoch)?;
        }
        self.folder.keep_epochs(&best, epoch)
    }

    /// Averages the best epochs, best first, where the run is to end so: the mean becomes the best checkpoint. Returns how
    /// many it took.
    fn cook_soup(&mut self) -> Result<Option<usize>> {
        let spec = self.job.spec;
        let Some(recipe) = &spec.soup else { return Ok(None) };
        let epochs = self.progress.best_epochs(recipe.epochs, spec);
        let [best, rest @ ..] = epochs.as_slice() else { return Ok(None) };
        self.folder.load_epoch(&self.model.params, *best)?;
        let mut served = self.evaluate()?;
        let mut soup = Soup::new(&self.model.params, selected(spec, &served.values)?)?;
        for epoch in rest {
            self.folder.load_epoch(&self.model.params, *epoch)?;
            let mut tasted = None;
            let loss = || selected(spec, &tasted.insert(self.evaluate()?).values);
            if soup.taste(&self.model.params, loss)? {
                served = tasted.unwrap_or(served);
            }
        }
        soup.serve(&self.model.params)?;
        self.folder.save_best(&self.model.params, self.progress.best_epoch)?;
        self.best = Some(served);
        Ok(Some(soup.taken()))
    }

    fn evaluate(&self) -> Result<Evaluation> {
        let Batches { images, val, micro_batch, .. } = &self.batches;
        let (criterion, val) = (self.objective.criterion.as_dyn(), (&self.job.data.val, val.as_ref()));
        evaluate(&self.model, criterion, val, images, *micro_batch)
    }

    /// Runs `work` with the averaged weights in place of the trained ones, where there is an average.
    fn with_average<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let epoch = self.progress.epoch;
        let Some(average) = self.average.take_if(|average| average.ready(epoch)) else { return work(self) };
        let trained = average.swap_in(&self.model.params)?;
        let statistics = average.take_statistics(&self.model, &self.batches, epoch, Key::new(self.job.seed));
        let result = statistics.and_then(|()| work(self));
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
        let averaged = self.cook_soup()?;
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
        summary.extend(averaged.map(|epochs| ("epochs_averaged".into(), epochs as f64)));
        emit(Event::Finished { best_epoch: epoch, summary })?;
        let kept = self.progress.best_epochs(self.job.spec.keep_best.unwrap_or(0), self.job.spec);
        self.folder.keep_epochs(&kept, self.progress.epoch)?;
        self.folder.remove_previous()?;
        match self.job.spec.keep {
            Keep::All => Ok(()),
            Keep::Best => self.folder.remove_last(),
            Keep::Last => self.folder.remove_best(),
            Keep::None => self.folder.remove_last().and_then(|()| self.folder.remove_best()),
        }
    }
}

fn check_precision(job: &Job) -> Result<()> {
    let gpu = gpu::Queue::of_device(&job.device)?.is_some();
    match (job.spec.precision, !gpu) {
        (Precision::Auto | Precision::F32, _) => Ok(()),
        (other, true) => Err(Error::user(format!(
            "precision {other:?} needs CUDA; the CPU computes in f32 (write \"auto\" or \"f32\")"
        ))),
        (_, false) => Ok(()),
    }
}

/// The optimizer around the model's parameters; f16 has too short a range for gradients, so losses are scaled for it.
fn updater(job: &Job, model: &Model) -> Result<Updater> {
    let mut updater = Updater::new(&job.spec.optimizer, &model.params, &Groups::new(job.spec, model)?)?;
    if job.spec.precision == Precision::F16 {
        updater.scale_losses()?;
    }
    Ok(updater)
}

fn device_name(device: &candle_core::Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}
