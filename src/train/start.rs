//! What a run starts from.

use super::{Emit, Job, groups};
use crate::{
    backbone::{self, Model, pretrained::Places},
    error::{Result, log},
    event::Event,
    spec::{BackboneSpec, UsePretrained},
    tensor::Key,
};
use std::path::PathBuf;

/// The model with its starting weights: fresh, from a file, or timm's pretrained ones; some of them frozen.
pub fn model(job: &Job, key: Key, emit: &mut Emit) -> Result<Model> {
    let spec = &job.spec.backbone;
    let options = backbone::Options {
        in_channels: job.spec.input.channels.count(),
        drop_rate: spec.drop_rate,
        drop_path: spec.drop_path,
        image_size: job.spec.input.size,
        ..backbone::Options::new(job.data.classes.len())
    };
    let model = backbone::build(&spec.name, &options, &job.device, key.named("init"))?;
    let fresh = match (&spec.weights, pretrained_weights(&model, spec, emit)?) {
        (Some(file), _) => backbone::load_weights(&model, file.as_ref())?,
        (None, Some(files)) => backbone::load_halves(&model, &files)?,
        (None, None) => Vec::new(),
    };
    if !fresh.is_empty() {
        log(format_args!("{}: the classifier starts fresh ({})", spec.name, fresh.join(", ")));
    }
    freeze(&model, &job.spec.freeze)?;
    Ok(model)
}

/// The files of timm's pretrained weights, where the run starts from them.
fn pretrained_weights(model: &Model, spec: &BackboneSpec, emit: &mut Emit) -> Result<Option<Vec<PathBuf>>> {
    if spec.weights.is_some() || spec.pretrained == UsePretrained::No {
        return Ok(None);
    }
    match backbone::fetch_pretrained(model, &Places::from_env(), &mut |_, _| {}) {
        Err(error) if spec.pretrained == UsePretrained::IfAvailable => {
            log(&error);
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
        groups::check(pattern, "freeze", model)?;
        model.params.iter().filter(|weight| weight.matches(pattern)).for_each(|weight| weight.set_frozen(true));
    }
    Ok(())
}
