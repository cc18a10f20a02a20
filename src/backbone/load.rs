//! Weights of a file into a backbone.

use super::{
    BACKBONES, Entry, Model, Options,
    pretrained::{Places, Progress, fetch},
};
use crate::{
    error::{Error, Result},
    tensor::{Builder, Device, Weight, safetensors::Stored, weights},
};
use std::path::{Path, PathBuf};

/// Loads a safetensors file with timm's names, by this program or by timm, into a model.
///
/// A classifier of another number of classes keeps its fresh values; returned are the names of its parameters then. A
/// file that does not fit is the user's error, which says what the file looks like.
pub fn load_weights(model: &Model, path: &Path) -> Result<Vec<String>> {
    let stored = Stored::read(path)?;
    weights::load(&model.params, &stored, None, Some(model.entry.classifier)).map_err(|error| {
        let text = format!("{error}\n  {} was asked for; {}", model.entry.name, describe(&stored));
        Error::new(error.cause, text)
    })
}

/// Loads timm's pretrained weights into a model built under `name`, from wherever they are found first: the file they came
/// from, and the names of the classifier's parameters where those keep their fresh values.
pub fn load_pretrained(
    model: &Model,
    name: &str,
    places: &Places,
    progress: Progress,
) -> Result<(PathBuf, Vec<String>)> {
    let path = fetch(name, places, progress)?;
    let fresh = load_weights(model, &path)?;
    Ok((path, fresh))
}

/// "the file looks like .."
fn describe(stored: &Stored) -> String {
    // The largest that fits: a resnet18 fits into a resnet34.
    let fitting = BACKBONES.iter().filter_map(|entry| Some((fit(entry, stored)?, entry)));
    let Some((_, entry)) = fitting.max_by_key(|(count, _)| *count) else {
        return format!("the file's {} arrays are of no backbone known here", stored.names().len());
    };
    let classes = stored.shape(&format!("{}.weight", entry.classifier)).and_then(|shape| shape.first());
    match classes {
        Some(classes) => format!("the file looks like {} with {classes} classes", entry.name),
        None => format!("the file looks like {} without a classifier", entry.name),
    }
}

/// The number of a backbone's parameters, if the file has every one in its shape, the classifier's aside.
fn fit(entry: &Entry, stored: &Stored) -> Option<usize> {
    let builder = Builder::blank(&Device::Cpu);
    (entry.build)(&builder, &Options::new(1)).ok()?;
    let params = builder.params();
    let body = |weight: &&Weight| !weight.is_buffer() && !weight.name().starts_with(entry.classifier);
    let found = |weight: &Weight| stored.shape(weight.name()) == Some(weight.var().dims());
    params.iter().filter(body).all(found).then(|| params.count())
}
