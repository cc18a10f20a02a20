use super::{Augment, AugmentSpec, Context, Scope, change::Change, mixing::Mixing, nested, random_horizontal_flip};
use crate::tensor::Rng;
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

    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
        match rng.chance(self.p) {
            true => nested::changes_of_all(&self.augment, size, context, rng),
            false => Vec::new(),
        }
    }

    fn mixes(&self, samples: usize, size: [usize; 2], rng: &mut Rng) -> Vec<Mixing> {
        match rng.chance(self.p) {
            true => self.augment.iter().flat_map(|entry| entry.as_dyn().mixes(samples, size, rng)).collect(),
            false => Vec::new(),
        }
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
