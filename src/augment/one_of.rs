use super::{Augment, AugmentSpec, Batch, Scope, random_horizontal_flip, random_vertical_flip};
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Applies one entry of a list, each as likely: `one_of = [{ mixup = {} }, { cutmix = {} }]`. Entries that work on single
/// images and entries that work on batches cannot be mixed; an entry written twice is twice as likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(extend("minItems" = 1))]
pub struct OneOf(#[garde(length(min = 1), custom(one_scope), dive)] pub Vec<AugmentSpec>);

impl Default for OneOf {
    /// One of the two flips.
    fn default() -> Self {
        Self(vec![
            AugmentSpec::random_horizontal_flip(random_horizontal_flip::RandomHorizontalFlip::default()),
            AugmentSpec::random_vertical_flip(random_vertical_flip::RandomVerticalFlip::default()),
        ])
    }
}

fn one_scope(entries: &[AugmentSpec], _: &()) -> garde::Result {
    let of = |scope| entries.iter().find(|entry| entry.as_dyn().scope() == scope).map(AugmentSpec::name);
    match (of(Scope::Sample), of(Scope::Batch)) {
        (Some(sample), Some(batch)) => {
            Err(garde::Error::new(format!("{sample} works on single images, {batch} on batches; use two lists")))
        }
        _ => Ok(()),
    }
}

impl OneOf {
    fn pick(&self, rng: &mut Rng) -> Option<&dyn Augment> {
        self.0.get(rng.below(self.0.len())).map(AugmentSpec::as_dyn)
    }
}

impl Augment for OneOf {
    fn scope(&self) -> Scope {
        self.0.first().map_or(Scope::Sample, |entry| entry.as_dyn().scope())
    }

    fn sample(&self, image: &mut Image, rng: &mut Rng) -> Result<()> {
        self.pick(rng).map_or(Ok(()), |entry| entry.sample(image, rng))
    }

    fn batch(&self, batch: &mut Batch, rng: &mut Rng) -> Result<()> {
        self.pick(rng).map_or(Ok(()), |entry| entry.batch(batch, rng))
    }

    fn check(&self, input_size: usize) -> std::result::Result<(), String> {
        self.0.iter().try_for_each(|entry| entry.as_dyn().check(input_size))
    }
}
