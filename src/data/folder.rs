use super::{Item, Listing, OnBadImage, Source};
use crate::{
    error::{Context, Error, Result},
    event::Split,
    tensor::Key,
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A folder with one sub-folder of images for each class, as torchvision's `ImageFolder`: `root/train/CLASS/..` and
/// `root/val/CLASS/..` (or `valid`, `validation`), or `root/CLASS/..` and a share of it split off for validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Folder {
    /// The folder with the classes, or with `train` and `val`.
    #[garde(skip)]
    pub root: PathBuf,
    /// The validation images' folder, where it is not `root/val`; relative to `root`.
    #[garde(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<PathBuf>,
    /// The share of each class that is split off for validation where there is no folder for it; 0.2 unless given.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_fraction: Option<f64>,
    /// Another number splits off other images.
    #[garde(skip)]
    pub split_seed: u64,
    /// The video or identity of an image is its name below the folder of its class, up to the first of these characters:
    /// `"_"` makes `id07` of `real/id07_0001.jpg`, `"/"` of `real/id07/0001.jpg`. Images that share it never stand on
    /// both sides of a split or of a fold.
    #[garde(inner(length(min = 1)))]
    #[schemars(length(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_until: Option<String>,
    /// What becomes of images that cannot be decoded.
    #[garde(skip)]
    pub on_bad_image: OnBadImage,
}

/// What counts as an image; everything else is passed over.
const EXTENSIONS: [&str; 8] = ["bmp", "jfif", "jpe", "jpeg", "jpg", "png", "pjpeg", "webp"];

/// Images that cannot be read: passed over, but not in silence.
const UNREADABLE: [&str; 11] = ["avif", "gif", "heic", "heif", "jp2", "jxl", "pgm", "ppm", "psd", "tif", "tiff"];

/// What a validation folder is called.
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];

/// Where the images of a data set lie.
enum Layout {
    Folders { train: PathBuf, val: PathBuf },
    Share { root: PathBuf, val: f64 },
}

impl Folder {
    fn layout(&self) -> Result<Layout> {
        let train = self.root.join("train");
        let val = VALIDATION.iter().map(|name| self.root.join(name)).find(|val| val.is_dir() && train.is_dir());
        match (&self.val, self.val_fraction) {
            (Some(_), Some(_)) => Err(Error::user("data.folder: give either `val` or `val_fraction`")),
            (Some(val), None) => {
                let train = if train.is_dir() { train } else { self.root.clone() };
                Ok(Layout::Folders { train, val: self.root.join(val) })
            }
            (None, Some(_)) if val.is_some() => Err(Error::user(format!(
                "data.folder: {} holds train and val already; leave out `val_fraction`",
                self.root.display()
            ))),
            (None, share) => match val {
                Some(val) => Ok(Layout::Folders { train, val }),
                None => self.no_split(&train).map(|root| Layout::Share { root, val: share.unwrap_or(0.2) }),
            },
        }
    }

    /// The root, where its sub-folders are classes: a `train` with classes in it is none.
    fn no_split(&self, train: &Path) -> Result<PathBuf> {
        let folders = |of: &Path| -> Result<Vec<String>> {
            visible(of)?.iter().filter(|entry| entry.is_dir()).map(|entry| file_name(entry)).collect()
        };
        if !train.is_dir() || folders(train)?.len() < 2 || visible(train)?.iter().any(|entry| is_image(entry)) {
            return Ok(self.root.clone());
        }
        let others: Vec<String> = folders(&self.root)?.into_iter().filter(|name| name != "train").collect();
        let of_root = self.root.display();
        Err(Error::user(match others.first() {
            Some(other) => format!(
                "data.folder: {of_root} holds `train`, which has classes in it, but no `val` beside it: name the validation \
                 images' folder, such as val = {other:?} ({of_root} has {})",
                others.join(", ")
            ),
            None => format!(
                "data.folder: {of_root} holds `train` alone: write root = {:?}, and a share is split off for validation",
                train.display().to_string()
            ),
        }))
    }

    /// Gives each image its group.
    fn grouped(&self, mut images: Vec<Item>) -> Result<Vec<Item>> {
        let Some(until) = &self.group_until else { return Ok(images) };
        let mut found = false;
        for item in &mut images {
            let below = item.name.split_once('/').map_or(item.name.as_str(), |(_, below)| below);
            let group = below.split_once(until.as_str()).map(|(group, _)| group);
            found |= group.is_some();
            item.group = Some(group.unwrap_or(below).to_string());
        }
        match found {
            true => Ok(images),
            false => Err(Error::user(format!(
                "data.folder: no image name has the `{until}` of `group_until`, such as {}",
                images.first().map_or("", |item| item.name.as_str())
            ))),
        }
    }

    /// Splits off a share of each class: those whose names draw the lowest numbers, so that an image that comes or
    /// goes moves hardly any other.
    fn share(&self, classes: &[String], images: Vec<Item>, share: f64) -> (Vec<Item>, Vec<Item>) {
        let key = Key::new(self.split_seed).named("split");
        if self.group_until.is_some() {
            return share_of_groups(images, share, key);
        }
        let draw = |item: &Item| (key.named(&item.name).rng().uniform(), item.name.clone());
        let mut chosen = std::collections::HashSet::new();
        for class in 0..classes.len() {
            let mut drawn: Vec<_> = images.iter().filter(|item| item.target as usize == class).map(draw).collect();
            drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            let count = (drawn.len() as f64 * share).round() as usize;
            chosen.extend(drawn.into_iter().take(count).map(|(_, name)| name));
        }
        images.into_iter().partition(|item| !chosen.contains(&item.name))
    }
}

impl Source for Folder {
    fn list(&self) -> Result<Listing> {
        if self.root.as_os_str().is_empty() {
            return Err(Error::user("data.folder needs `root`, the folder with one sub-folder for each class"));
        }
        let layout = self.layout()?;
        let (root, except) = match &layout {
            Layout::Folders { train, val } => (train, val.canonicalize().ok()),
            Layout::Share { root, .. } => (root, None),
        };
        let classes = classes(root, except.as_deref())?;
        let passed = RefCell::new(PassedOver::default());
        let images = |root| images(root, &classes, &mut passed.borrow_mut()).and_then(|images| self.grouped(images));
        let (train, val) = match &layout {
            Layout::Folders { val, .. } => {
                known_classes(val, &classes)?;
                (images(root)?, images(val)?)
            }
            Layout::Share { val, .. } => self.share(&classes, images(root)?, *val),
        };
        if val.is_empty() || train.is_empty() {
            let side = if val.is_empty() { "validation" } else { "training" };
            return Err(Error::user(format!("{}: no {side} images", root.display())));
        }
        Ok(Listing { classes, train, val, warnings: passed.into_inner().warning().into_iter().collect() })
    }

    fn path(&self, item: &Item, split: Split) -> Option<PathBuf> {
        let folder = match (self.layout().ok()?, split) {
            (Layout::Folders { train, .. }, Split::Train) => train,
            (Layout::Folders { val, .. }, _) => val,
            (Layout::Share { root, .. }, _) => root,
        };
        Some(folder.join(&item.name))
    }

    fn on_bad_image(&self) -> OnBadImage {
        self.on_bad_image
    }
}

/// Splits off whole groups, those whose names draw the lowest numbers, until they hold the share of the images.
fn share_of_groups(images: Vec<Item>, share: f64, key: Key) -> (Vec<Item>, Vec<Item>) {
    let mut sizes = BTreeMap::<String, usize>::new();
    images.iter().filter_map(|item| item.group.clone()).for_each(|group| *sizes.entry(group).or_default() += 1);
    let mut drawn: Vec<_> =
        sizes.into_iter().map(|(name, size)| (key.named(&name).rng().uniform(), name, size)).collect();
    drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    let wanted = (images.len() as f64 * share).round() as usize;
    let mut held = 0;
    let chosen = drawn.into_iter().take_while(|(.., size)| {
        held += size;
        held - size / 2 <= wanted
    });
    let chosen: std::collections::HashSet<String> = chosen.map(|(_, name, _)| name).collect();
    images.into_iter().partition(|item| !item.group.as_ref().is_some_and(|group| chosen.contains(group)))
}

/// The sub-folders of `root`, sorted by name.
fn classes(root: &Path, except: Option<&Path>) -> Result<Vec<String>> {
    let mut classes = Vec::new();
    for entry in visible(root)? {
        if entry.is_dir() && except.is_none_or(|except| entry.canonicalize().is_ok_and(|path| path != except)) {
            classes.push(file_name(&entry)?);
        }
    }
    match classes.len() {
        0 | 1 => Err(Error::user(format!(
            "{}: expected a sub-folder of images for each class, at least two; found {}",
            root.display(),
            classes.first().map_or("none", |name| name.as_str())
        ))),
        _ => Ok(classes),
    }
}

fn known_classes(val: &Path, classes: &[String]) -> Result<()> {
    for entry in visible(val)? {
        let name = file_name(&entry)?;
        if entry.is_dir() && !classes.contains(&name) {
            let known = classes.join(", ");
            return Err(Error::user(format!("{}: the training images have no class {name} ({known})", val.display())));
        }
    }
    Ok(())
}

/// Pictures of kinds that cannot be read, by extension.
#[derive(Default)]
struct PassedOver(BTreeMap<String, usize>);

impl PassedOver {
    fn look_at(&mut self, path: &Path) {
        if let Some(kind) = extension(path).filter(|kind| UNREADABLE.contains(&kind.as_str())) {
            *self.0.entry(kind).or_default() += 1;
        }
    }

    fn warning(&self) -> Option<String> {
        let kinds: Vec<String> = self.0.iter().map(|(kind, count)| format!("{count} .{kind}")).collect();
        let what = || format!("left out: {}; JPEG, PNG, WebP and BMP can be read", kinds.join(", "));
        (!kinds.is_empty()).then(what)
    }
}

/// Every image below `root/CLASS`, named by its path below `root`, sorted.
fn images(root: &Path, classes: &[String], passed: &mut PassedOver) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (target, class) in classes.iter().enumerate() {
        let folder = root.join(class);
        if !folder.is_dir() {
            continue;
        }
        let before = items.len();
        walk(&folder, class, &mut Vec::new(), &mut |path, name| match is_image(path) {
            true => items.push(Item { name, target: target as u32, group: None }),
            false => passed.look_at(path),
        })?;
        if items.len() == before {
            return Err(Error::user(format!("{}: no images ({})", folder.display(), EXTENSIONS.join(", "))));
        }
    }
    Ok(items)
}

/// Every image below a folder, named by its path below it, sorted; without classes.
pub fn image_names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in visible(root)? {
        let name = file_name(&entry)?;
        if entry.is_dir() {
            walk(&entry, &name, &mut Vec::new(), &mut |path, name| names.extend(is_image(path).then_some(name)))?;
        } else if is_image(&entry) {
            names.push(name);
        }
    }
    match names.is_empty() {
        true => Err(Error::user(format!("{}: no images ({})", root.display(), EXTENSIONS.join(", ")))),
        false => Ok(names),
    }
}

/// Tells every file of a folder and of what is nested in it; a link back to where it came from is not followed.
fn walk(folder: &Path, name: &str, above: &mut Vec<PathBuf>, found: &mut impl FnMut(&Path, String)) -> Result<()> {
    let real = folder.canonicalize().context(|| folder.display().to_string())?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    for entry in visible(folder)? {
        let name = format!("{name}/{}", file_name(&entry)?);
        if entry.is_dir() {
            walk(&entry, &name, above, found)?;
        } else {
            found(&entry, name);
        }
    }
    above.pop();
    Ok(())
}

/// What a folder holds, sorted, without hidden files.
fn visible(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::user(format!("{}: {error}", folder.display())))?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.context(|| folder.display().to_string())?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    extension(path).is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) && path.is_file()
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase())
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_string).ok_or_else(|| Error::user(format!("{}: the name is not UTF-8", path.display())))
}
