//! From what `--run` or `--backbone` name to models that score images.

use super::{device::Computer, inputs::InputArgs};
use crate::{
    backbone::{self, Model},
    data::{
        self, Channels, Interpolation,
        views::{self, View},
    },
    error::{Error, Result},
    exec,
    spec::RunSpec,
    store::{Run, Status, Store},
    tensor::{Image, Key, Pass, Tensor},
    train::{Images, Normalize, Plain},
};
use rayon::prelude::*;
use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

/// A model ready to score images.
pub struct Classifier {
    /// How messages call it.
    pub name: String,
    /// The run it comes from.
    pub run: Option<Run>,
    model: Model,
    images: Images,
    /// Width and height that images are resized to before their middle is taken.
    loaded: usize,
    interpolation: Interpolation,
}

/// Every model that the arguments name, each once.
pub fn load(args: &InputArgs, computer: &Computer) -> Result<Vec<Classifier>> {
    if let (Some(backbone), Some(weights)) = (&args.backbone, &args.weights) {
        return Ok(vec![of_file(args, computer, backbone, weights)?]);
    }
    let store = Store::read(&exec::store_path(&args.results))?;
    let mut runs: Vec<Run> = Vec::new();
    for name in &args.runs {
        for run in named(&store, name)? {
            if !runs.iter().any(|known| known.id == run.id) {
                runs.push(run);
            }
        }
    }
    let models = runs.into_iter().map(|run| of_run(args, computer, &store, run)).collect::<Result<Vec<_>>>()?;
    let classes = |model: &Classifier| model.run.as_ref().map_or(Ok(Vec::new()), |run| store.classes(&run.id));
    let first = models.first().map_or(Ok(Vec::new()), classes)?;
    for model in &models {
        let other = classes(model)?;
        if other != first {
            let [first, other] = [first, other].map(|names| names.join(", "));
            return Err(Error::user(format!("{} tells {other} apart, the first run {first}", model.name)));
        }
    }
    Ok(models)
}

/// The finished runs of a sweep, of `sweep/experiment` or of an experiment, or the one run whose id begins like this.
fn named(store: &Store, name: &str) -> Result<Vec<Run>> {
    let sweeps = store.sweeps()?;
    let (sweep, experiment) = name.split_once('/').map_or((name, None), |(sweep, name)| (sweep, Some(name)));
    let mut found = Vec::new();
    if let Some(sweep) = sweeps.iter().find(|known| known.name == sweep) {
        found = store.runs(&sweep.name)?;
        found.retain(|at| experiment.is_none_or(|experiment| at.experiment == experiment));
    } else if experiment.is_none() {
        for sweep in &sweeps {
            let mut runs = store.runs(&sweep.name)?;
            runs.retain(|at| at.experiment == name);
            if !found.is_empty() && !runs.is_empty() {
                return Err(Error::user(format!("several sweeps have an experiment `{name}`: write SWEEP/{name}")));
            }
            found.extend(runs);
        }
    }
    if found.is_empty() {
        return Ok(vec![store.find_run(name)?]);
    }
    let total = found.len();
    let finished: Vec<Run> = found.into_iter().map(|at| at.run).filter(|run| run.status == Status::Finished).collect();
    match finished.is_empty() {
        true => Err(Error::user(format!("none of the {total} runs of `{name}` has finished"))),
        false => Ok(finished),
    }
}

fn of_run(args: &InputArgs, computer: &Computer, store: &Store, run: Run) -> Result<Classifier> {
    let spec: RunSpec = toml::from_str(&run.spec).map_err(Error::bug)?;
    let weights = checkpoint(&args.results, store, &run)?;
    let images = images(computer, args.input_size.unwrap_or(spec.input.size), Normalize::new(&spec)?);
    let loaded = spec.input.loaded_for(images.size);
    let model = build(&spec.backbone.name, store.classes(&run.id)?.len(), &images, &weights)?;
    let name = format!("{} ({}, seed {})", run.id, spec.backbone.name, run.seed);
    Ok(Classifier { name, run: Some(run), model, images, loaded, interpolation: spec.input.interpolation })
}

/// The run's best checkpoint, in the folder of whichever sweep made it.
fn checkpoint(results: &Path, store: &Store, run: &Run) -> Result<PathBuf> {
    let file = |sweep: &str| results.join(sweep).join("runs").join(&run.id).join("checkpoints/best.safetensors");
    let serves = store.serves(&run.id)?;
    serves.iter().map(|serves| file(&serves.sweep)).find(|path| path.exists()).ok_or_else(|| {
        Error::user(format!("run {} has no checkpoint: it is {}, or keep = \"none\" removed it", run.id, run.status))
    })
}

/// A computer's images; in which format a run was trained does not matter to its weights.
fn images(computer: &Computer, size: usize, normalize: Normalize) -> Images {
    Images::of(size, normalize, &computer.device, computer.precision.dtype())
}

fn of_file(args: &InputArgs, computer: &Computer, name: &str, weights: &Path) -> Result<Classifier> {
    let pretrained = backbone::Architecture::parse(name)?.pretrained();
    let normalize = Normalize { channels: Channels::Rgb, mean: pretrained.mean, std: pretrained.std };
    let images = images(computer, args.input_size.unwrap_or(224), normalize);
    let model = build(name, args.classes, &images, weights)?;
    let name = format!("{} ({name})", weights.display());
    Ok(Classifier { name, run: None, model, loaded: images.size, images, interpolation: Interpolation::default() })
}

/// A backbone for such images with the weights of a file, classifier included.
fn build(name: &str, classes: usize, images: &Images, weights: &Path) -> Result<Model> {
    let in_channels = images.normalize.channels.count();
    let options = backbone::Options { in_channels, image_size: images.size, ..backbone::Options::new(classes) };
    let model = backbone::build(name, &options, &images.device, Key::new(0))?;
    let replaced = backbone::load_weights(&model, weights)?;
    match replaced.is_empty() {
        true => Ok(model),
        false => Err(Error::user(format!(
            "{} holds a classifier for another number of classes than {classes}; say --classes N",
            weights.display()
        ))),
    }
}

impl Classifier {
    /// Each view of decoded images, as the model sees them.
    pub fn prepare(&self, decoded: &[Image], views: &[View]) -> Result<Vec<Plain>> {
        let size = self.images.size;
        let render = |image: &Image| views::render(views, self.middle(image)?.as_ref(), size, self.interpolation);
        let rendered: Vec<Vec<Image>> = decoded.par_iter().map(render).collect::<Result<_>>()?;
        let pictures = |view: usize| rendered.iter().map(|images| &images[view]).collect::<Vec<_>>();
        (0..views.len()).map(|view| self.images.of_pictures(&pictures(view))).collect()
    }

    /// The logits `(N, classes)` of prepared images, on the model's device.
    pub fn logits(&self, images: &Plain) -> Result<Tensor> {
        self.model.net.forward(&self.images.load(images)?, &Pass::eval())
    }

    /// What the model sees of a picture: all of it, or the middle where training cropped.
    fn middle<'i>(&self, image: &'i Image) -> Result<Cow<'i, Image>> {
        if self.loaded == self.images.size {
            return Ok(Cow::Borrowed(image));
        }
        let mut image = data::resize::resize(image, self.loaded, self.loaded, self.interpolation)?;
        image.center_crop(self.images.size);
        Ok(Cow::Owned(image))
    }
}
