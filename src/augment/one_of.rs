use super::{
    Augment, AugmentSpec, Context, Scope, change::Change, mixing::Mixing, nested, random_horizontal_flip,
    random_vertical_flip,
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Applies one entry of a list, each as likely: `one_of = [{ mixup = {} }, { cutmix = {} }]`. Entries that work on single
/// images and entries that work on batches cannot be mixed; an entry written twice is twice as likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(extend("minItems" = 1))]
pub struct OneOf(#[garde(length(min = 1), custom(nested::one_scope), dive)] pub Vec<AugmentSpec>);

impl Default for OneOf {
    /// One of the two flips.
    fn default() -> Self {
        Self(vec![
            AugmentSpec::random_horizontal_flip(random_horizontal_flip::RandomHorizontalFlip::default()),
            AugmentSpec::random_vertical_flip(random_vertical_flip::RandomVerticalFlip::default()),
        ])
    }
}

impl OneOf {
    fn pick(&self, rng: &mut Rng) -> Option<&dyn Augment> {
        self.0.get(rng.below(self.0.len())).map(AugmentSpec::as_dyn)
    }
}

impl Augment for OneOf {
    fn scope(&self) -> Scope {
        nested::scope(&self.0)
    }

    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
        self.pick(rng).map_or(Vec::new(), |entry| entry.changes(size, context, rng))
    }

    fn mixes(&self, samples: usize, size: [usize; 2], rng: &mut Rng) -> Vec<Mixing> {
        self.pick(rng).map_or(Vec::new(), |entry| entry.mixes(samples, size, rng))
    }

    /// Every entry must leave the same size.
    fn output_size(&self, size: [usize; 2], target: usize) -> std::result::Result<[usize; 2], String> {
        let left = |entry| nested::output_size(std::slice::from_ref(entry), size, target);
        let Some((first, others)) = self.0.split_first() else { return Ok(size) };
        let leaves = left(first)?;
        for entry in others {
            let other = left(entry)?;
            if other != leaves {
                return Err(format!(
                    "`{}` leaves {} px, `{}` {}",
                    first.name(),
                    nested::pixels(leaves),
                    entry.name(),
                    nested::pixels(other)
                ));
            }
        }
        Ok(leaves)
    }

    fn check(&self, input_size: usize) -> std::result::Result<(), String> {
        nested::check(&self.0, input_size)
    }

    fn check_classes(&self, classes: &[String]) -> std::result::Result<(), String> {
        nested::check_classes(&self.0, classes)
    }
}
