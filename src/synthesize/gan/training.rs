//! The game of the two networks.

use super::{
    Gan,
    descent::Descent,
    diff_augment::{Change, diff_augment},
    discriminator::Discriminator,
    generator::Generator,
};
use crate::{
    data::{Interpolation, Progress, Split, one_hot, resize::resize},
    error::{Cause, Error, Result},
    optim::adam::Adam,
    synthesize::{Sink, Training},
    tensor::{
        Builder, Device, Image, Key, Params, Pass, Tensor, Weight,
        gpu::{self, Averages, Queue},
        ops::{self, Activation, Gradients, Tape, untracked},
        safetensors::{self, Array, Stored},
        weights,
    },
};
use rayon::prelude::*;
use std::{collections::BTreeMap, path::Path};

/// Steps between checkpoints: seconds of work. A GPU is waited for no more often.
const CHECKPOINT_EVERY: u64 = 50;
/// Images made at a time.
const PAINTED: usize = 64;
/// Batches of noise that batch normalization's statistics are taken over.
const STATISTICS_BATCHES: u64 = 16;

/// Both networks, their optimizers, the average that makes the images, and how far they are.
pub struct Trainer<'a> {
    gan: &'a Gan,
    device: Device,
    /// Whether there is something to wait for.
    on_gpu: bool,
    real: Real,
    params: Params,
    generator: Generator,
    discriminator: Discriminator,
    /// The discriminator's, then the generator's.
    players: [Descent; 2],
    /// Of the generator's parameters and statistics, in order.
    average: Vec<Tensor>,
    /// What moves it on a GPU.
    averages: Option<Averages>,
    step: u64,
    /// The losses of the last steps, that nobody has looked at yet.
    unread: Vec<[Tensor; 2]>,
}

/// What one step came to, of the discriminator first.
pub struct Played {
    /// Scalars.
    pub losses: [Tensor; 2],
    pub gradients: [Gradients; 2],
    /// The images that both were judged by.
    pub made: Tensor,
}

/// The training images at the size of the network, between -1 and 1.
struct Real {
    pixels: Vec<f32>,
    targets: Vec<u32>,
    classes: usize,
    size: usize,
}

impl Real {
    fn new(split: &Split, classes: usize, size: usize) -> Result<Self> {
        let image = |index: usize| -> Result<Vec<u8>> {
            let image = Image { width: split.size, height: split.size, pixels: split.pixels(index)?.to_vec() };
            Ok(resize(&image, size, size, Interpolation::Bilinear)?.pixels)
        };
        let images = (0..split.items.len()).into_par_iter().map(image).collect::<Result<Vec<_>>>()?;
        let pixels = images.into_iter().flatten().map(|value| f32::from(value) / 127.5 - 1.0).collect();
        Ok(Self { pixels, targets: split.items.iter().map(|item| item.target).collect(), classes, size })
    }

    /// Images `(N, size, size, 3)` of these indices and their one-hot classes `(N, classes)`.
    fn batch(&self, indices: &[usize], device: &Device) -> Result<(Tensor, Tensor)> {
        let bytes = self.size * self.size * 3;
        let pixels: Vec<f32> =
            indices.iter().flat_map(|index| &self.pixels[index * bytes..][..bytes]).copied().collect();
        let images = gpu::upload(&pixels, (indices.len(), self.size, self.size, 3), device)?;
        let targets = indices.iter().map(|&index| self.targets[index]);
        Ok((images, classes_of(targets, self.classes, device)?))
    }
}

/// `(N, classes)` with a one at each target.
fn classes_of(targets: impl Iterator<Item = u32>, classes: usize, device: &Device) -> Result<Tensor> {
    let targets: Vec<u32> = targets.collect();
    Ok(gpu::upload(&one_hot(&targets, classes), (targets.len(), classes), device)?)
}

/// Standard normal `(count, length)`.
fn noise(count: usize, length: usize, key: Key, device: &Device) -> Result<Tensor> {
    let mut rng = key.rng();
    let values: Vec<f32> = (0..count * length).map(|_| rng.normal() as f32).collect();
    Ok(gpu::upload(&values, (count, length), device)?)
}

impl<'a> Trainer<'a> {
    /// Fresh networks for these training images. A GPU computes in f32, with algorithms that give the same every time:
    /// what it makes is kept, and made again it should be the same.
    pub fn new(gan: &'a Gan, split: &Split, classes: usize, device: &Device) -> Result<Self> {
        gpu::set_mode(device, gpu::Mode { tf32: false, deterministic: true })?;
        let builder = Builder::new(device, Key::new(gan.seed).named("gan"));
        let generator = Generator::new(&builder.pp("generator"), gan.noise, classes, gan.size, gan.width)?;
        let discriminator = Discriminator::new(&builder.pp("discriminator"), classes, gan.size, gan.width)?;
        let params = builder.params();
        let adam = |lr: f64| Adam { lr, betas: [0.0, 0.9], ..Adam::default() };
        let players = [
            Descent::new(adam(gan.discriminator_lr), params.iter(), "discriminator.")?,
            Descent::new(adam(gan.generator_lr), params.iter(), "generator.")?,
        ];
        let real = Real::new(split, classes, gan.size)?;
        let average = generator_weights(&params).map(value).collect::<Result<Vec<_>>>()?;
        let averages = Queue::of_device(device)?.map(|queue| Averages::new(&queue, &average)).transpose()?;
        let (device, on_gpu) = (device.clone(), averages.is_some());
        let unread = Vec::new();
        Ok(Self {
            gan,
            device,
            on_gpu,
            real,
            params,
            generator,
            discriminator,
            players,
            average,
            averages,
            step: 0,
            unread,
        })
    }

    /// Every parameter by name, `generator.` and `discriminator.` in front.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Trains to the end, from the checkpoint of a training that was cut off where there is one.
    pub fn train(&mut self, training: &Training, checkpoint: &Path) -> Result<()> {
        let total = u64::from(self.gan.steps);
        if checkpoint.exists() && self.load(checkpoint).is_err() {
            // Damaged: what can be computed again is no reason to stop.
            *self = Self::new(self.gan, training.split, self.real.classes, &self.device.clone())?;
        }
        while self.step < total {
            self.step()?;
            (training.progress)(Progress::Synthesizing { done: self.step as usize, total: total as usize });
            let saves = self.step.is_multiple_of(CHECKPOINT_EVERY) || self.step == total;
            if saves || !self.on_gpu {
                self.check()?;
            }
            if saves {
                self.save(checkpoint)?;
            }
        }
        Ok(())
    }

    /// One step of both players on images that (seed, step) draw.
    fn step(&mut self) -> Result<()> {
        let key = Key::new(self.gan.seed).named("gan step").with(self.step);
        let (count, device, classes) = (self.gan.batch_size, &self.device, self.real.classes);
        let draw = |name: &str| -> Vec<usize> {
            let mut rng = key.named(name).rng();
            (0..count).map(|_| rng.below(self.real.targets.len())).collect()
        };
        let (real, real_classes) = self.real.batch(&draw("real"), device)?;
        // Made images are of the classes of the training images, as often.
        let made_classes = draw("made").into_iter().map(|index| self.real.targets[index]);
        let made_classes = classes_of(made_classes, classes, device)?;
        let noise = noise(count, self.gan.noise, key.named("noise"), device)?;
        let mut draws = key.named("augment").rng();
        let mut changes = || (0..count).map(|_| self.gan.diff_augment.draw(self.gan.size, &mut draws)).collect();
        let changes = [changes(), changes(), changes()];
        let played = self.play(&real, &real_classes, &noise, &made_classes, changes)?;
        self.unread.push(played.losses);
        self.follow()
    }

    /// Looks at the losses of the steps since the last time.
    fn check(&mut self) -> Result<()> {
        let unread: Vec<Tensor> = std::mem::take(&mut self.unread).into_iter().flatten().collect();
        let first = self.step - unread.len() as u64 / 2;
        if unread.is_empty() {
            return Ok(());
        }
        let losses = Tensor::stack(&unread, 0)?.to_vec1::<f32>()?;
        match losses.iter().position(|loss| !loss.is_finite()) {
            None => Ok(()),
            Some(place) => Err(Error::new(
                Cause::NonFinite,
                format!(
                    "synthesize.gan: a loss is no longer finite at step {}; lower the learning rates",
                    first + 1 + place as u64 / 2
                ),
            )),
        }
    }

    /// The discriminator's step, then the generator's against the new discriminator, on the same made images, as many as
    /// real ones. `changes` are of the real images, of the made ones, and of the made ones as the generator is judged by.
    pub fn play(
        &mut self,
        real: &Tensor,
        real_classes: &Tensor,
        noise: &Tensor,
        made_classes: &Tensor,
        changes: [Option<Vec<Change>>; 3],
    ) -> Result<Played> {
        let [real_changes, made_changes, judged_changes] = changes;
        let (share, on) = (1.0 / real.dim(0)? as f64, Pass::train(Key::new(0)));
        let mut of_generator = Tape::default();
        let made = of_generator.record(|| self.generator.forward(noise, made_classes, &on))?;
        let both = Tensor::cat(&[changed(real, real_changes)?, changed(&made.detach(), made_changes)?], 0)?;
        let classes = Tensor::cat(&[real_classes, made_classes], 0)?;
        let mut of_discriminator = Tape::default();
        let discriminator =
            of_discriminator.record(|| hinge(&self.discriminator.forward(&both, &classes, &on)?, share))?;
        self.step += 1;
        let by_discriminator = of_discriminator.backward(&discriminator)?;
        self.players[0].step(self.step, &by_discriminator)?;
        let generator = of_generator.record(|| {
            let judged = changed(&made, judged_changes)?;
            ops::total(&self.discriminator.forward(&judged, made_classes, &Pass::eval())?, -share)
        })?;
        let by_generator = of_generator.backward(&generator)?;
        self.players[1].step(self.step, &by_generator)?;
        let losses = [discriminator.detach(), generator.detach()];
        Ok(Played { losses, gradients: [by_discriminator, by_generator], made: made.detach() })
    }

    /// Takes the step into the average, the first steps faster.
    fn follow(&mut self) -> Result<()> {
        let keep = self.gan.ema.min((1.0 + self.step as f64) / (10.0 + self.step as f64));
        if let Some(averages) = &mut self.averages {
            let news: Vec<&Tensor> = generator_weights(&self.params).map(|weight| weight.var().as_tensor()).collect();
            return Ok(averages.follow(&self.average, &news, keep)?);
        }
        for (average, weight) in self.average.iter_mut().zip(generator_weights(&self.params)) {
            let new = value(weight)?;
            *average = match new.dtype().is_float() {
                true => ((&*average * keep)? + (new * (1.0 - keep))?)?,
                false => new,
            };
        }
        Ok(())
    }

    /// Makes the images, of every class in turn, with the averaged generator.
    pub fn paint(&self, training: &Training, sink: &mut Sink) -> Result<()> {
        for (weight, average) in generator_weights(&self.params).zip(&self.average) {
            weight.var().set(average)?;
        }
        self.take_statistics()?;
        let (key, classes, size) = (Key::new(self.gan.seed).named("gan images"), self.real.classes, self.gan.size);
        let label = |target: usize| training.class(self.gan.label.as_deref(), target);
        for start in (0..self.gan.images).step_by(PAINTED) {
            let count = PAINTED.min(self.gan.images - start);
            let targets = || (start..start + count).map(|index| index % classes);
            let noise = noise(count, self.gan.noise, key.with(start as u64), &self.device)?;
            let of = classes_of(targets().map(|target| target as u32), classes, &self.device)?;
            let images = self.generator.forward(&noise, &of, &Pass::eval())?;
            let values: Vec<f32> = images.flatten_all()?.to_vec1()?;
            for (image, target) in values.chunks_exact(size * size * 3).zip(targets()) {
                let pixels = image.iter().map(|value| ((value + 1.0) * 127.5).round() as u8).collect();
                sink(Image { width: size, height: size, pixels }, label(target))?;
            }
        }
        Ok(())
    }

    /// Batch normalization's statistics of the averaged weights, over a few batches of noise: the average of those that the
    /// moving weights had does not fit them, and washes images out. BigGAN's "standing statistics", arXiv:1809.11096.
    fn take_statistics(&self) -> Result<()> {
        let key = Key::new(self.gan.seed).named("gan statistics");
        for seen in 1..=STATISTICS_BATCHES {
            let noise = noise(PAINTED, self.gan.noise, key.with(seen), &self.device)?;
            let classes = (0..PAINTED).map(|index| (index % self.real.classes) as u32);
            let classes = classes_of(classes, self.real.classes, &self.device)?;
            let pass = Pass { momentum: Some(1.0 / seen as f64), ..Pass::train(key) };
            untracked(|| self.generator.forward(&noise, &classes, &pass))?;
        }
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<()> {
        let mut arrays = weights::arrays(&self.params)?;
        for player in &self.players {
            arrays.extend(player.arrays()?);
        }
        for (weight, average) in generator_weights(&self.params).zip(&self.average) {
            arrays.push(Array::of_tensor(format!("ema:{}", weight.name()), average)?);
        }
        safetensors::write(path, &arrays, &BTreeMap::from([(STEP.into(), self.step.to_string())]))
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let stored = Stored::read(path)?;
        let step = stored.metadata().get(STEP).and_then(|step| step.parse().ok());
        let step = step.ok_or_else(|| Error::user(format!("{} holds no step", path.display())))?;
        weights::load(&self.params, &stored, None, None)?;
        self.players.iter_mut().try_for_each(|player| player.restore(&stored))?;
        for (weight, average) in generator_weights(&self.params).zip(&mut self.average) {
            *average = stored.tensor(&format!("ema:{}", weight.name()))?.to_device(&self.device)?;
        }
        self.step = step;
        Ok(())
    }
}

/// The checkpoint's metadata key of the steps made.
const STEP: &str = "runner.step";

fn generator_weights(params: &Params) -> impl Iterator<Item = &Weight> {
    params.iter().filter(|weight| weight.name().starts_with("generator."))
}

fn value(weight: &Weight) -> Result<Tensor> {
    Ok(weight.var().as_detached_tensor().copy()?)
}

fn changed(images: &Tensor, changes: Option<Vec<Change>>) -> Result<Tensor> {
    match changes {
        Some(changes) => diff_augment(images, changes),
        None => Ok(images.clone()),
    }
}

/// `share` of the sum of `max(0, 1 - score)` over the first half of `scores (2 N)`, of real images, and of
/// `max(0, 1 + score)` over the other one, of made ones.
fn hinge(scores: &Tensor, share: f64) -> Result<Tensor> {
    let (count, device) = (scores.dim(0)?, scores.device());
    let signs: Vec<f32> = (0..count).map(|place| if place < count / 2 { -1.0 } else { 1.0 }).collect();
    let (signs, ones) = (gpu::upload(&signs, count, device)?, gpu::upload(&vec![1.0; count], count, device)?);
    ops::total(&ops::activate(&ops::scale_add(scores, &signs, &ones)?, Activation::Relu)?, share)
}
