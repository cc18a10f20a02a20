pub mod blend;
pub mod jitter;

use super::{Sink, Synthesizer, Training};
use crate::{
    data::Progress,
    error::{Error, Result},
    tensor::{Image, Key},
};
use blend::Blend;
use garde::Validate;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fakes made by blending a real face with a slightly changed copy of itself: the trace of every face swap without
/// anything else to learn. Self-Blended Images, Shiohara & Yamasaki 2022, arXiv:2204.08376.
///
/// The original finds the face by its landmarks. Here the mask is a smooth random blob around the middle of the image,
/// so the images should show one face each, cropped and upright.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct SelfBlend {
    /// Images to make, from every image of the source class in turn.
    #[garde(range(min = 1, max = 1_000_000))]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub images: usize,
    /// The share of made images in an epoch, drawn from them in turn; default: each made image once an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0, max = 0.95)))]
    #[schemars(range(min = 0.0, max = 0.95))]
    pub share: Option<f64>,
    /// The class whose images are blended; default: the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub source: Option<String>,
    /// The class that the blended images are given; default: the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub label: Option<String>,
    /// How much of the changed copy shows inside the mask: each image takes one of these.
    #[garde(length(min = 1), inner(range(min = 0.0, max = 1.0)))]
    #[schemars(length(min = 1), inner(range(min = 0.0, max = 1.0)))]
    pub ratios: Vec<f64>,
    /// Another seed makes other images.
    #[garde(skip)]
    pub seed: u64,
}

impl Default for SelfBlend {
    fn default() -> Self {
        let ratios = vec![0.25, 0.5, 0.75, 1.0, 1.0, 1.0];
        Self { images: 400, share: None, source: None, label: None, ratios, seed: 0 }
    }
}

/// Images made at a time.
const CHUNK: usize = 256;

impl SelfBlend {
    /// The blended image of a face.
    pub fn blended(&self, face: &Image, key: Key) -> Image {
        let mut rng = key.rng();
        let ratio = self.ratios.get(rng.below(self.ratios.len())).copied().unwrap_or(1.0);
        let blend = Blend::draw(ratio as f32, &mut rng);
        let (mut source, mut target) = (face.clone(), face.clone());
        jitter::jitter(if rng.chance(0.5) { &mut source } else { &mut target }, &mut rng);
        blend.apply(&source, &target)
    }
}

impl Synthesizer for SelfBlend {
    fn count(&self) -> usize {
        self.images
    }

    fn share(&self) -> Option<f64> {
        self.share
    }

    fn check(&self, classes: &[String], _input_size: usize) -> Result<(), (&'static str, String)> {
        super::known("source", self.source.as_deref(), classes)?;
        super::known("label", self.label.as_deref(), classes)?;
        let name = |name: &Option<String>, at: usize| name.clone().or_else(|| classes.get(at).cloned());
        match (name(&self.source, 0), name(&self.label, 1)) {
            (_, None) => Err(("label", "the data set has one class, so blended images have no other".into())),
            (source, label) if source == label => {
                let (key, class) = (if self.label.is_some() { "label" } else { "source" }, label.unwrap_or_default());
                Err((key, format!("blended images of class `{class}` would be given that class; name another")))
            }
            _ => Ok(()),
        }
    }

    fn recipe(&self) -> Result<String> {
        super::json(&Self { share: None, ..self.clone() })
    }

    fn make(&self, training: &Training, sink: &mut Sink) -> Result<()> {
        let (split, source) = (training.split, training.class(self.source.as_deref(), 0));
        let faces: Vec<usize> = (0..split.real()).filter(|&index| split.items[index].target == source).collect();
        if faces.is_empty() {
            let class = &training.classes[source as usize];
            return Err(Error::user(format!("synthesize.self_blend: no training image is of class `{class}`")));
        }
        let label = training.class(self.label.as_deref(), 1);
        let key = Key::new(self.seed).named("self_blend");
        let face = |index: usize| -> Result<Image> {
            let pixels = split.pixels(faces[index % faces.len()])?.to_vec();
            Ok(Image { width: split.size, height: split.size, pixels })
        };
        for start in (0..self.images).step_by(CHUNK) {
            let end = self.images.min(start + CHUNK);
            let made =
                (start..end).into_par_iter().map(|index| Ok(self.blended(&face(index)?, key.with(index as u64))));
            made.collect::<Result<Vec<_>>>()?.into_iter().try_for_each(|image| sink(image, label))?;
            (training.progress)(Progress::Synthesizing { done: end, total: self.images });
        }
        Ok(())
    }
}
