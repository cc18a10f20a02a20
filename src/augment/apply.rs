use super::{Augment, AugmentSpec, Batch, Context, Scope, change::Change, nested, random_horizontal_flip};
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Applies a whole list, or none of it: `apply = { p = 0.3, augment = [{ color_jitter = {} }, { random_erasing = {} }] }`.
/// torchvision's `RandomApply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Apply {
    /// Probability that the list is applied.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// What is applied, in order: all on single images, or all on batches.
    #[garde(length(min = 1), custom(nested::one_scope), dive)]
    #[schemars(length(min = 1))]
    pub augment: Vec<AugmentSpec>,
}

impl Default for Apply {
    /// A flip, as an example.
    fn default() -> Self {
        Self {
            p: 0.5,
            augment: vec![AugmentSpec::random_horizontal_flip(random_horizontal_flip::RandomHorizontalFlip::default())],
        }
    }
}

impl Augment for Apply {
    fn scope(&self) -> Scope {
        nested::scope(&self.augment)
    }

    fn sample_in(&self, image: &mut Image, context: &Context, rng: &mut Rng) -> Result<()> {
        if rng.chance(self.p) { nested::sample_all(&self.augment, image, context, rng) } else { Ok(()) }
    }

    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Option<Vec<Change>> {
        match rng.chance(self.p) {
            true => nested::changes_of_all(&self.augment, size, context, rng),
            false => Some(Vec::new()),
        }
    }

    fn batch(&self, batch: &mut Batch, rng: &mut Rng) -> Result<()> {
        if !rng.chance(self.p) {
            return Ok(());
        }
        self.augment.iter().try_for_each(|entry| entry.as_dyn().batch(batch, rng))
    }

    fn output_size(&self, size: [usize; 2], target: usize) -> std::result::Result<[usize; 2], String> {
        match self.p {
            1.0 => nested::output_size(&self.augment, size, target),
            _ => nested::keeps_size(&self.augment, size, target),
        }
    }

    fn check(&self, input_size: usize) -> std::result::Result<(), String> {
        nested::check(&self.augment, input_size)
    }

    fn check_classes(&self, classes: &[String]) -> std::result::Result<(), String> {
        nested::check_classes(&self.augment, classes)
    }
}
