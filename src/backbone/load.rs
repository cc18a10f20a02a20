//! Weights of a file into a backbone.

use super::{
    Architecture, BACKBONES, Entry, Model, Options, hybrid, positions,
    pretrained::{Places, Progress, fetch},
};
use crate::{
    error::{Error, Result},
    tensor::{
        Builder, Device, Weight,
        safetensors::Stored,
        weights::{self, Rules},
    },
};
use std::path::{Path, PathBuf};

/// Loads a safetensors file with timm's names, by this program or by timm, into a model.
///
/// A classifier of another number of classes keeps its fresh values; returned are the names of its parameters then.
/// Positions of another image size are resampled, as timm does. A file that does not fit is the user's error, which says
/// what the file looks like.
pub fn load_weights(model: &Model, path: &Path) -> Result<Vec<String>> {
    let stored = Stored::read(path)?;
    let rules =
        Rules { classifier: Some(model.architecture.classifier()), adapt: Some(positions::ADAPT), ..Rules::default() };
    weights::load_by(&model.params, &stored, &rules).map_err(|error| {
        let text = format!("{error}\n  {} was asked for; {}", model.name, describe(&stored));
        Error::new(error.cause, text)
    })
}

/// Loads the pretrained weights of [`Architecture::pretrained_names`], a file each, into a model: of a hybrid each into
/// its half. Returns the names of the classifier's parameters where those keep their fresh values.
pub fn load_halves(model: &Model, paths: &[PathBuf]) -> Result<Vec<String>> {
    match (&model.architecture, paths) {
        (Architecture::One(_), [path]) => load_weights(model, path),
        (Architecture::Hybrid(_), [cnn, vit]) => {
            let rules = Rules { partial: true, adapt: Some(positions::ADAPT), ..Rules::default() };
            let half = model.params.renamed(|name| name.strip_prefix(hybrid::CNN));
            weights::load_by(&half, &Stored::read(cnn)?, &rules)?;
            let half = model.params.renamed(|name| (!name.starts_with(hybrid::EMBED)).then_some(name));
            let rules = Rules { classifier: Some(model.architecture.classifier()), ..rules };
            weights::load_by(&half, &Stored::read(vit)?, &rules)
        }
        _ => Err(Error::bug(format!("{} files of pretrained weights for {}", paths.len(), model.name))),
    }
}

/// The files of timm's pretrained weights for a model, from wherever they are found first.
pub fn fetch_pretrained(model: &Model, places: &Places, progress: Progress) -> Result<Vec<PathBuf>> {
    let names = model.architecture.pretrained_names();
    names.iter().map(|name| fetch(name, places, &mut *progress)).collect()
}

/// Loads timm's pretrained weights into a model, from wherever they are found first: the files they came from, and the
/// names of the classifier's parameters where those keep their fresh values.
pub fn load_pretrained(model: &Model, places: &Places, progress: Progress) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let paths = fetch_pretrained(model, places, progress)?;
    let fresh = load_halves(model, &paths)?;
    Ok((paths, fresh))
}

/// "the file looks like .."
fn describe(stored: &Stored) -> String {
    // The largest that fits: a resnet18 fits into a resnet34. Of equals, as ViT and DeiT are, the first.
    let fitting = BACKBONES.iter().rev().filter_map(|entry| Some((fit(entry, stored)?, entry)));
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
    (entry.build)(&builder, &Options { classes: 1, drop_rate: 0.0, drop_path: 0.0, image_size: 224 }).ok()?;
    let params = builder.params();
    let body = |weight: &&Weight| !weight.is_buffer() && !weight.name().starts_with(entry.classifier);
    let found = |weight: &Weight| {
        let (name, ours) = (weight.name(), weight.var().dims());
        stored.shape(name).is_some_and(|theirs| theirs == ours || (positions::ADAPT.fits)(name, theirs, ours))
    };
    params.iter().filter(body).all(found).then(|| params.count())
}
