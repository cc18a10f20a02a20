//! What `predict` and `eval` are given: trained models, images, and how their scores become one.

use super::{
    device::DeviceArgs,
    models::{self, Classifier},
    validation,
};
use crate::{
    data::{
        self, Item,
        views::{self, View},
    },
    error::{Context, Error, Result},
    event::{Prediction, Values},
    metric::{Pooling, Scores, temperature},
    tensor::{Image, gpu::Queue},
    train::{self, Plain, Probabilities},
};
use rayon::prelude::*;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("model").required(true).args(["runs", "backbone"])))]
pub struct InputArgs {
    /// A finished run by its id or the beginning of it; or a sweep, an experiment or SWEEP/EXPERIMENT for all finished
    /// runs of it. Several are an ensemble
    #[arg(long = "run", value_name = "RUN", conflicts_with = "weights")]
    pub runs: Vec<String>,
    /// A backbone by timm's name, with weights from a file
    #[arg(long, requires = "weights")]
    pub backbone: Option<String>,
    /// The safetensors file with the backbone's weights
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Width and height that images are resized to [default: the run's; 224 with --backbone]
    #[arg(long, value_name = "PIXELS")]
    pub input_size: Option<usize>,
    /// Number of classes of the weights file
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub classes: usize,
    /// Folder with the images
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// CSV with img_name (or img_path) and target: the rows' order, and what metrics compare with
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Results folder that runs are looked up in
    #[arg(long, default_value = "results", value_name = "DIR")]
    pub results: PathBuf,
    /// Test-time augmentation: the first N of 8 symmetries, or any of flips, rotations, scales, multicrop, hflip, vflip,
    /// rot90, rot180, rot270, scale0.9, .. with commas between; the image itself is always among them
    #[arg(long, default_value = "1", value_name = "VIEWS", value_parser = views)]
    pub tta: Views,
    /// What is averaged over views and runs
    #[arg(long, value_enum, default_value_t)]
    pub average: Pooling,
    /// Weight of each run: equal, fit (least log loss on the stored validation predictions), or numbers such as 2,1,1
    #[arg(long, default_value = "equal", value_name = "HOW")]
    pub ensemble_weights: String,
    /// Divides logits by the temperature that fits the stored validation predictions best
    #[arg(long)]
    pub calibrate: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// The views of one image.
#[derive(Clone, Debug)]
pub struct Views(pub Vec<View>);

fn views(text: &str) -> std::result::Result<Views, String> {
    views::parse(text).map(Views).map_err(|error| error.to_string())
}

/// What happens to a decoded image before it is scored, given its name.
pub type Change<'a> = dyn Fn(&str, Image) -> Result<Image> + Sync + 'a;

/// Models, views and weights that score an image as one.
pub struct Scorer {
    pub models: Vec<Classifier>,
    pub views: Vec<View>,
    pub average: Pooling,
    /// One for each model, summing to one.
    pub weights: Vec<f64>,
    /// The models' stored validation predictions, pooled but not calibrated; `None` where there are none to use.
    pub validation: Option<Vec<Prediction>>,
    /// The temperature that fits them.
    pub temperature: Option<f64>,
    /// Whether scores are divided by it.
    pub calibrated: bool,
    folder: PathBuf,
    /// Images of one forward pass.
    batch: usize,
}

impl Scorer {
    pub fn new(args: &InputArgs) -> Result<Self> {
        let computer = args.device.open()?;
        let models = models::load(args, &computer)?;
        let stored = validation::stored(&args.results, &models)?;
        let weights = validation::weights(&args.ensemble_weights, args.average, &models, stored.as_deref())?;
        let validation = stored.map(|stored| validation::pool(&stored, args.average, &weights));
        let temperature = validation.as_deref().and_then(|rows| with_scores(rows, temperature::fit));
        if args.calibrate && temperature.is_none() {
            return Err(Error::user(
                "--calibrate needs validation predictions of the same images from every run, and there are none; \
                 name runs of one data set with --run",
            ));
        }
        Ok(Self {
            models,
            views: args.tta.0.clone(),
            average: args.average,
            weights,
            validation,
            temperature,
            calibrated: args.calibrate,
            folder: args.images.clone(),
            batch: if Queue::of_device(&computer.device)?.is_some() { 64 } else { 16 },
        })
    }

    /// Scores images in their order, each changed by `change` once it is decoded.
    pub fn score(&self, items: &[Item], change: &Change) -> Result<Vec<Prediction>> {
        let chunks: Vec<&[Item]> = items.chunks(self.batch).collect();
        // Of each model, of each view.
        let one = || self.views.iter().map(|_| Probabilities::default()).collect::<Vec<_>>();
        let mut seen: Vec<Vec<Probabilities>> = self.models.iter().map(|_| one()).collect();
        train::ahead(
            chunks.len(),
            |place| self.prepare(chunks[place], change),
            |_, batch| {
                for ((model, views), seen) in self.models.iter().zip(&batch).zip(&mut seen) {
                    views.iter().zip(seen).try_for_each(|(view, seen)| seen.push(model.logits(view)?))?;
                }
                Ok(())
            },
        )?;
        let scores = seen.into_iter().map(|views| self.over_views(views)).collect::<Result<Vec<_>>>()?;
        let row = |(place, item): (usize, &Item)| {
            let each: Vec<&[f32]> = scores.iter().map(|model| model[place].as_slice()).collect();
            let scores = self.average.mean(&each, &self.weights);
            Prediction { image: item.name.clone(), target: item.target, scores }
        };
        Ok(self.calibrate(items.iter().enumerate().map(row).collect()))
    }

    /// What each model sees of each view.
    fn prepare(&self, items: &[Item], change: &Change) -> Result<Vec<Vec<Plain>>> {
        let decoded: Vec<Image> =
            items.par_iter().map(|item| change(&item.name, self.decode(item)?)).collect::<Result<_>>()?;
        self.models.iter().map(|model| model.prepare(&decoded, &self.views)).collect()
    }

    /// A model's probabilities, averaged over the views.
    fn over_views(&self, views: Vec<Probabilities>) -> Result<Vec<Vec<f32>>> {
        let views = views.into_iter().map(Probabilities::read).collect::<Result<Vec<_>>>()?;
        let weights = vec![1.0 / views.len().max(1) as f64; views.len()];
        let images = views.first().map_or(0, Vec::len);
        let mean = |image: usize| {
            let each: Vec<&[f32]> = views.iter().map(|view| view[image].as_slice()).collect();
            self.average.mean(&each, &weights)
        };
        Ok((0..images).map(mean).collect())
    }

    fn decode(&self, item: &Item) -> Result<Image> {
        let path = self.folder.join(&item.name);
        let bytes = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        data::decode::decode(&bytes).context(|| path.display().to_string())
    }

    /// The stored validation predictions, calibrated where scores are.
    pub fn calibrated_validation(&self) -> Option<Vec<Prediction>> {
        self.validation.clone().map(|rows| self.calibrate(rows))
    }

    fn calibrate(&self, mut rows: Vec<Prediction>) -> Vec<Prediction> {
        if let Some(temperature) = self.temperature.filter(|_| self.calibrated) {
            rows.iter_mut().for_each(|row| row.scores = temperature::scale(&row.scores, temperature));
        }
        rows
    }
}

impl InputArgs {
    /// Names and targets; without labels, every image of the folder with target 0.
    pub fn items(&self) -> Result<Vec<Item>> {
        let Some(labels) = &self.labels else {
            let names = data::folder::image_names(&self.images)?;
            return Ok(names.into_iter().map(|name| Item { name, ..Item::default() }).collect());
        };
        let rows = data::labels::read(labels, None)?.into_iter();
        Ok(rows.map(|row| Item { name: row.name, target: row.target.unwrap_or(0), group: None }).collect())
    }
}

/// Leaves images as they are.
pub fn unchanged(_: &str, image: Image) -> Result<Image> {
    Ok(image)
}

/// A value of scored rows.
pub fn with_scores<T>(rows: &[Prediction], value: impl FnOnce(&Scores) -> T) -> T {
    let probabilities: Vec<f32> = rows.iter().flat_map(|row| row.scores.iter().copied()).collect();
    let targets: Vec<u32> = rows.iter().map(|row| row.target).collect();
    value(&Scores { probabilities: &probabilities, targets: &targets, classes: classes(rows) })
}

/// How many classes the rows have scores of.
pub fn classes(rows: &[Prediction]) -> usize {
    rows.first().map_or(0, |row| row.scores.len())
}

/// The metrics of scored images.
pub fn metrics(rows: &[Prediction]) -> Result<Values> {
    let classes = classes(rows);
    if let Some(row) = rows.iter().find(|row| row.target as usize >= classes) {
        return Err(Error::user(format!("{}: target {} but the model has {classes} classes", row.image, row.target)));
    }
    Ok(train::score(rows, classes))
}
