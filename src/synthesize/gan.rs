mod descent;
pub mod diff_augment;
pub mod discriminator;
pub mod generator;
pub mod spectral;
mod training;

use super::{Sink, Synthesizer, Training};
use crate::error::{Cause, Error, Result};
use diff_augment::Policy;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use training::{Played, Trainer};

/// Images made by a class-conditional generative adversarial network that is trained on the training images.
///
/// A DCGAN generator (arXiv:1511.06434) against a projection discriminator (arXiv:1802.05637) under spectral
/// normalization (arXiv:1802.05957), with the hinge loss, Adam(0, 0.9) and DiffAugment (arXiv:2006.10738). Trained once
/// for each training split and specification, on the sweep's first device, and shared by every run; a GPU's images are
/// others than the CPU's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Gan {
    /// Images to make, of every class as many.
    #[garde(range(min = 1, max = 1_000_000))]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub images: usize,
    /// The share of made images in an epoch, drawn from them in turn; default: each made image once an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0, max = 0.95)))]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub share: Option<f64>,
    /// The class that every made image is given, say "fake"; default: the class it was made to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub label: Option<String>,
    /// Width and height of the images, a power of two not above `input.size`; they are resized to that as all images.
    #[garde(range(min = 8, max = 256))]
    #[schemars(range(min = 8, max = 256))]
    pub size: usize,
    /// Steps of training, each one of the discriminator and one of the generator.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub steps: u32,
    /// Real images, and made ones, of one step.
    #[garde(range(min = 2, max = 4096))]
    #[schemars(range(min = 2, max = 4096))]
    pub batch_size: usize,
    /// Channels of both networks at full resolution; twice as many at each coarser one, at most four times.
    #[garde(range(min = 4, max = 512))]
    #[schemars(range(min = 4, max = 512))]
    pub width: usize,
    /// Numbers of noise that an image is made from.
    #[garde(range(min = 1, max = 1024))]
    #[schemars(range(min = 1, max = 1024))]
    pub noise: usize,
    /// Learning rate of the generator.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub generator_lr: f64,
    /// Learning rate of the discriminator, higher than the generator's: two time scales, arXiv:1706.08500. With equal
    /// ones the generator soon makes one and the same image of a class.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub discriminator_lr: f64,
    /// Decay of the average of the generator's weights that makes the images.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ema: f64,
    /// Shows the discriminator all images changed at random: so a GAN can learn from few images.
    #[garde(skip)]
    pub diff_augment: Policy,
    /// Another seed trains another network.
    #[garde(skip)]
    pub seed: u64,
}

impl Default for Gan {
    fn default() -> Self {
        Self {
            images: 400,
            share: None,
            label: None,
            size: 32,
            steps: 1500,
            batch_size: 32,
            width: 24,
            noise: 64,
            generator_lr: 1e-4,
            discriminator_lr: 4e-4,
            ema: 0.995,
            diff_augment: Policy::default(),
            seed: 0,
        }
    }
}

/// Width and height of the coarsest map of both networks.
const COARSEST: usize = 4;

/// How often the resolution doubles.
fn levels(size: usize) -> usize {
    (size / COARSEST).ilog2() as usize
}

/// Channels of the map of width and height `side`.
fn channels(size: usize, width: usize, side: usize) -> usize {
    width * (size / side).min(4)
}

impl Synthesizer for Gan {
    fn count(&self) -> usize {
        self.images
    }

    fn share(&self) -> Option<f64> {
        self.share
    }

    fn check(&self, classes: &[String], input_size: usize) -> Result<(), (&'static str, String)> {
        let Self { size, .. } = *self;
        if !size.is_power_of_two() {
            let near = (size.next_power_of_two() / 2).max(8);
            return Err(("size", format!("{size} is no power of two; write {near} or {}", size.next_power_of_two())));
        }
        if size > input_size {
            let what =
                format!("{size} is more than `input.size`, {input_size}: the training images do not show so much");
            return Err(("size", what));
        }
        super::known("label", self.label.as_deref(), classes)
    }

    fn recipe(&self) -> Result<String> {
        super::json(&Self { share: None, ..self.clone() })
    }

    fn on_device(&self) -> bool {
        true
    }

    fn make(&self, training: &Training, sink: &mut Sink) -> Result<()> {
        self.train_and_paint(training, sink).map_err(|error| match error.cause {
            Cause::OutOfMemory => Error::new(
                error.cause,
                format!("synthesize.gan: {error}; a smaller `batch_size` or `width` takes less memory"),
            ),
            _ => error,
        })
    }
}

impl Gan {
    fn train_and_paint(&self, training: &Training, sink: &mut Sink) -> Result<()> {
        // Neither the number nor the class of the images changes the networks.
        let recipe = super::json(&Self { images: 1, share: None, label: None, ..self.clone() })?;
        let checkpoint = training.file(&training.by_device(recipe), "safetensors");
        let mut trainer = Trainer::new(self, training.split, training.classes.len(), &training.device()?)?;
        trainer.train(training, &checkpoint)?;
        trainer.paint(training, sink)
    }
}
