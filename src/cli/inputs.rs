//! What `predict` and `eval` are given: a trained model and images.

use crate::{
    backbone::{self, Model},
    data::{self, Interpolation},
    error::{Context, Error, Result},
    event::Prediction,
    exec,
    spec::RunSpec,
    store::{Run, Store},
    tensor::{Device, Key},
    train::{self, Images, Normalize},
};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
pub struct InputArgs {
    /// A finished run, by its id or the beginning of it
    #[arg(long, conflicts_with_all = ["backbone", "weights"], required_unless_present = "backbone")]
    run: Option<String>,
    /// A backbone by timm's name, with weights from a file
    #[arg(long, requires = "weights")]
    backbone: Option<String>,
    /// The safetensors file with the backbone's weights
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Width and height that images are resized to [default: the run's; 224 with --backbone]
    #[arg(long, value_name = "PIXELS")]
    input_size: Option<usize>,
    /// Number of classes of the weights file
    #[arg(long, default_value_t = 2, value_name = "N")]
    classes: usize,
    /// Folder with the images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// CSV with img_name (or img_path) and target: the rows' order, and what metrics compare with
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Results folder that runs are looked up in
    #[arg(long, default_value = "results", value_name = "DIR")]
    results: PathBuf,
}

/// A model ready to score images.
struct Classifier {
    model: Model,
    images: Images,
    interpolation: Interpolation,
}

/// Scores every image, in the order of the labels, or of their names.
pub fn score(args: &InputArgs) -> Result<Vec<Prediction>> {
    const BATCH: usize = 16;
    let classifier = args.classifier()?;
    let items = args.items()?;
    let mut rows = Vec::with_capacity(items.len());
    for items in items.chunks(BATCH) {
        rows.extend(classifier.score(&args.images, items)?);
    }
    Ok(rows)
}

impl InputArgs {
    fn classifier(&self) -> Result<Classifier> {
        match (&self.run, &self.backbone, &self.weights) {
            (Some(run), ..) => self.of_run(run),
            (None, Some(backbone), Some(weights)) => self.of_file(backbone, weights),
            _ => Err(Error::user("give --run ID, or --backbone NAME with --weights FILE")),
        }
    }

    fn of_run(&self, run: &str) -> Result<Classifier> {
        let store = Store::read(&exec::store_path(&self.results))?;
        let run = store.find_run(run)?;
        let spec: RunSpec = toml::from_str(&run.spec).map_err(Error::bug)?;
        let weights = self.checkpoint(&store, &run)?;
        let mut images = Images::new(&spec, &Device::Cpu)?;
        images.size = self.input_size.unwrap_or(images.size);
        let model = build(&spec.backbone.name, store.classes(&run.id)?.len(), &weights)?;
        Ok(Classifier { model, images, interpolation: spec.input.interpolation })
    }

    /// The run's best checkpoint, in the folder of whichever sweep made it.
    fn checkpoint(&self, store: &Store, run: &Run) -> Result<PathBuf> {
        let file =
            |sweep: &str| self.results.join(sweep).join("runs").join(&run.id).join("checkpoints/best.safetensors");
        let serves = store.serves(&run.id)?;
        serves.iter().map(|serves| file(&serves.sweep)).find(|path| path.exists()).ok_or_else(|| {
            Error::user(format!(
                "run {} has no checkpoint: it is {}, or keep = \"none\" removed it",
                run.id, run.status
            ))
        })
    }

    fn of_file(&self, name: &str, weights: &Path) -> Result<Classifier> {
        let pretrained = backbone::find(name)?.pretrained;
        let normalize = Normalize { mean: pretrained.mean, std: pretrained.std };
        let images = Images { size: self.input_size.unwrap_or(224), normalize, device: Device::Cpu };
        let model = build(name, self.classes, weights)?;
        Ok(Classifier { model, images, interpolation: Interpolation::default() })
    }

    /// Names and targets; without labels, every image of the folder with target 0.
    fn items(&self) -> Result<Vec<data::Item>> {
        let Some(labels) = &self.labels else {
            let names = data::folder::image_names(&self.images)?;
            return Ok(names.into_iter().map(|name| data::Item { name, ..data::Item::default() }).collect());
        };
        let rows = data::labels::read(labels, None)?.into_iter();
        Ok(rows.map(|row| data::Item { name: row.name, target: row.target.unwrap_or(0), group: None }).collect())
    }
}

/// A backbone with the weights of a file, classifier included.
fn build(name: &str, classes: usize, weights: &Path) -> Result<Model> {
    let options = backbone::Options { classes, drop_rate: 0.0, drop_path: 0.0 };
    let model = backbone::build(name, &options, &Device::Cpu, Key::new(0))?;
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
    fn score(&self, folder: &Path, items: &[data::Item]) -> Result<Vec<Prediction>> {
        let size = self.images.size;
        let decoded: Result<Vec<Vec<f32>>> =
            items.par_iter().map(|item| self.pixels(&folder.join(&item.name))).collect();
        let images = train::image_tensor(decoded?.concat(), items.len(), size, &self.images.device)?;
        let logits = self.model.net.forward(&images, &crate::tensor::Pass::eval())?;
        let scores = train::softmax(&logits)?;
        let row = |(item, scores): (&data::Item, Vec<f32>)| Prediction {
            image: item.name.clone(),
            target: item.target,
            scores,
        };
        Ok(items.iter().zip(scores).map(row).collect())
    }

    fn pixels(&self, path: &Path) -> Result<Vec<f32>> {
        let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
        let image = data::decode::decode(&bytes).context(|| path.display().to_string())?;
        let image = data::resize::resize(&image, self.images.size, self.images.size, self.interpolation)?;
        Ok(self.images.normalize.apply(&image.pixels))
    }
}

/// The number of classes and the metrics of scored images.
pub fn metrics(rows: &[Prediction]) -> Result<BTreeMap<String, f64>> {
    let classes = rows.first().map_or(0, |row| row.scores.len());
    if let Some(row) = rows.iter().find(|row| row.target as usize >= classes) {
        return Err(Error::user(format!("{}: target {} but the model has {classes} classes", row.image, row.target)));
    }
    Ok(train::score(rows, classes))
}
