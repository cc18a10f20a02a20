//! Images that are made from the training images and mixed into training: never into validation.
//!
//! What was made is kept under `synthesized/` of the cache, for each training split, decode setting and specification, and
//! apart where a GPU made it: made once, shared by every run and process, found again after an interruption.

mod grid;

use crate::{
    data::{
        Dataset, Decode, Interpolation, Item, Progress, Split,
        appended::{self, Appended},
        resize::resize,
    },
    error::{Context, Error, Result, nearest},
    tensor::{Device, Image, gpu::Queue, safetensors},
};
pub use grid::sample_sheet;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Enters the names of the files: raise it when the same parameters make other images.
const VERSION: u32 = 3;

/// Takes one made image of any size and its class.
pub type Sink<'a> = dyn FnMut(Image, u32) -> Result<()> + 'a;

/// A way to make images from a training split.
pub trait Synthesizer: Send + Sync {
    /// The number of images it makes.
    fn count(&self) -> usize;

    /// The share of made images in an epoch; `None`: every one of them once.
    fn share(&self) -> Option<f64>;

    /// What is wrong with these parameters for these classes and this size of images: the key, and why.
    fn check(&self, classes: &[String], input_size: usize) -> Result<(), (&'static str, String)>;

    /// All parameters that decide what is made, as JSON.
    fn recipe(&self) -> Result<String>;

    /// Whether [`Training::device`] computes the images: a GPU's are others than the CPU's.
    fn on_device(&self) -> bool {
        false
    }

    /// Makes the images, in order; what they show depends on `training` and the parameters alone, and on a GPU on its
    /// model and libraries.
    fn make(&self, training: &Training, sink: &mut Sink) -> Result<()>;
}

crate::components! {
    /// The `synthesize` of an experiment.
    pub enum SynthesizerSpec: Synthesizer {
        gan::Gan,
        self_blend::SelfBlend,
    }
}

/// The device for what networks make.
pub enum On {
    Cpu,
    /// Opened only where there is something to make.
    Gpu(Box<dyn Fn() -> Result<Device> + Send + Sync>),
}

impl On {
    /// A device that is open.
    pub fn of(device: &Device) -> Result<Self> {
        let device = device.clone();
        Ok(match Queue::of_device(&device)? {
            None => Self::Cpu,
            Some(_) => Self::Gpu(Box::new(move || Ok(device.clone()))),
        })
    }
}

/// What a synthesizer may look at and where it may keep what it has so far.
pub struct Training<'a> {
    pub split: &'a Split,
    pub classes: &'a [String],
    pub progress: &'a (dyn Fn(Progress) + Sync),
    on: &'a On,
    folder: PathBuf,
    /// Hash of the images, names and classes of the split.
    identity: String,
}

impl<'a> Training<'a> {
    /// The training split of `data`, with files in `folder`.
    pub fn new(
        data: &'a Dataset,
        interpolation: Interpolation,
        folder: &Path,
        on: &'a On,
        progress: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self> {
        let split = &data.train;
        let items: Vec<_> = split.items.iter().take(split.real()).map(|item| (&item.name, item.target)).collect();
        let identity = json(&(VERSION, &data.fingerprint, &data.classes, split.size, interpolation, items))?;
        Ok(Self { split, classes: &data.classes, progress, on, folder: folder.into(), identity: hash(&identity) })
    }

    /// Opens the device.
    pub fn device(&self) -> Result<Device> {
        match self.on {
            On::Cpu => Ok(Device::Cpu),
            On::Gpu(open) => open(),
        }
    }

    /// A recipe that says too what kind of device it is made on.
    pub fn by_device(&self, recipe: String) -> String {
        match self.on {
            On::Cpu => recipe,
            On::Gpu(_) => format!("{recipe} on a GPU"),
        }
    }

    /// The file that holds what `recipe` makes of this split.
    pub fn file(&self, recipe: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", hash(&format!("{}{recipe}", self.identity))))
    }

    /// The class of this name; `otherwise` where none is named.
    pub fn class(&self, name: Option<&str>, otherwise: usize) -> u32 {
        name.and_then(|name| self.classes.iter().position(|class| class == name)).unwrap_or(otherwise) as u32
    }
}

/// Makes what the cache does not hold yet and appends it to the training split.
pub fn add(
    data: &mut Dataset,
    spec: &SynthesizerSpec,
    decode: Decode,
    cache: &Path,
    on: &On,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<()> {
    let folder = cache.join("synthesized");
    fs::create_dir_all(&folder).context(|| folder.display().to_string())?;
    let training = Training::new(data, decode.interpolation, &folder, on, progress)?;
    let images = open(spec, &training, decode)?;
    let name = |index: usize| format!("{}/{index:06}", spec.name());
    let item = |index| Item { name: name(index), target: images.target(index), group: None };
    let items = (0..images.len()).map(item).collect();
    let per_epoch = per_epoch(spec.as_dyn(), data.train.real());
    data.train.append(items, images, per_epoch);
    Ok(())
}

/// How many made images an epoch shows beside `real` ones.
fn per_epoch(spec: &dyn Synthesizer, real: usize) -> usize {
    spec.share().map_or(spec.count(), |share| (real as f64 * share / (1.0 - share)).round() as usize)
}

fn open(spec: &SynthesizerSpec, training: &Training, decode: Decode) -> Result<Appended> {
    let (synthesizer, size) = (spec.as_dyn(), decode.size);
    let recipe = format!("{}{}", spec.name(), synthesizer.recipe()?);
    let recipe = if synthesizer.on_device() { training.by_device(recipe) } else { recipe };
    let path = training.file(&recipe, "images");
    let count = synthesizer.count();
    if let Some(images) = Appended::open(&path, size, count) {
        return Ok(images);
    }
    let place = || format!("synthesized images in {}", training.folder.display());
    let _lock = lock(&training.folder, training).context(place)?;
    // Another process may have made them while this one waited.
    if let Some(images) = Appended::open(&path, size, count) {
        return Ok(images);
    }
    safetensors::remove_unfinished(&training.folder)?;
    appended::write(&path, size, count, |write| {
        synthesizer
            .make(training, &mut |image, target| write(&resize(&image, size, size, decode.interpolation)?, target))
    })?;
    Appended::open(&path, size, count).ok_or_else(|| Error::bug(format!("{} cannot be read at once", path.display())))
}

/// Waits until no other process makes images: two trainings at once would only slow each other down.
fn lock(folder: &Path, training: &Training) -> Result<File> {
    let file = File::create(folder.join("lock"))?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        (training.progress)(Progress::Waiting);
        // Where a file system knows no locks, two may work at once: that costs time, not correctness.
        let _ = file.lock();
    }
    Ok(file)
}

/// Checks the name of a class that a key gives.
fn known(key: &'static str, name: Option<&str>, classes: &[String]) -> Result<(), (&'static str, String)> {
    let Some(name) = name.filter(|name| classes.iter().all(|class| class != name)) else { return Ok(()) };
    let near = nearest(name, classes.iter().map(String::as_str));
    let hint = near.map_or_else(|| format!("it has {}", classes.join(", ")), |near| format!("did you mean `{near}`?"));
    Err((key, format!("the data set has no class `{name}`; {hint}")))
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::bug)
}

fn hash(text: &str) -> String {
    safetensors::hex(&Sha256::digest(text.as_bytes())[..8])
}
