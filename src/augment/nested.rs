//! What entries that hold a list of other entries share.

use super::{
    AugmentSpec, Context, Scope,
    change::{self, Change},
};
use crate::tensor::Rng;

/// A list works on single images or on batches, not on both.
pub fn one_scope(entries: &[AugmentSpec], _: &()) -> garde::Result {
    let of = |scope| entries.iter().find(|entry| entry.as_dyn().scope() == scope).map(AugmentSpec::name);
    match (of(Scope::Sample), of(Scope::Batch)) {
        (Some(sample), Some(batch)) => {
            Err(garde::Error::new(format!("{sample} works on single images, {batch} on batches; use two lists")))
        }
        _ => Ok(()),
    }
}

/// The scope of a list of one scope.
pub fn scope(entries: &[AugmentSpec]) -> Scope {
    entries.first().map_or(Scope::Sample, |entry| entry.as_dyn().scope())
}

/// The changes of every entry in order.
pub fn changes_of_all(entries: &[AugmentSpec], size: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    for entry in entries {
        let left = change::size_after(&all, size);
        all.extend(entry.as_dyn().changes(left, context, rng));
    }
    all
}

/// The size that the list leaves, one entry after the other.
pub fn output_size(entries: &[AugmentSpec], size: [usize; 2], target: usize) -> Result<[usize; 2], String> {
    entries.iter().try_fold(size, |size, entry| {
        entry.as_dyn().output_size(size, target).map_err(|why| format!("`{}`: {why}", entry.name()))
    })
}

/// What is wrong with a list that some images skip: those that do not would leave it at another size.
pub fn keeps_size(entries: &[AugmentSpec], size: [usize; 2], target: usize) -> Result<[usize; 2], String> {
    let left = output_size(entries, size, target)?;
    if left == size {
        return Ok(size);
    }
    Err(format!("images that skip it stay at {} px, the others leave it at {}", pixels(size), pixels(left)))
}

/// `640 x 480`.
pub fn pixels([width, height]: [usize; 2]) -> String {
    format!("{width} x {height}")
}

pub fn check(entries: &[AugmentSpec], input_size: usize) -> Result<(), String> {
    entries.iter().try_for_each(|entry| entry.as_dyn().check(input_size))
}

pub fn check_classes(entries: &[AugmentSpec], classes: &[String]) -> Result<(), String> {
    entries.iter().try_for_each(|entry| entry.as_dyn().check_classes(classes))
}
