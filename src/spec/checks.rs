//! Checks that look at several keys at once, or beyond the file: at the registries, the data, the disk.

use super::{
    UsePretrained,
    images::Images,
    mistake::{Mistake, Mistakes},
    resolve::Merged,
    run::{Mode, RunSpec},
};
use crate::{
    augment::Scope,
    backbone,
    data::{DataSpec, Fold, Listing, Subset},
    duration::Duration,
    error::{Cause, Error},
    metric::{self, METRICS},
    tensor::params::matches,
};
use std::path::Path;

/// What the data sets of a file hold, each looked at once.
#[derive(Default)]
pub struct Data {
    listings: Vec<(DataSpec, std::result::Result<Listing, String>)>,
    cuts: Vec<(Cutting, std::result::Result<Counts, String>)>,
}

/// What decides which images a run trains on.
type Cutting = (DataSpec, Option<Fold>, Option<Subset>);

/// Images of each class.
#[derive(Clone)]
struct Counts {
    train: Vec<usize>,
    val: Vec<usize>,
}

impl Data {
    /// The images of each class that a run's fold and subset leave; a message where they cannot be cut.
    fn counts(&mut self, spec: &RunSpec) -> Option<std::result::Result<Counts, String>> {
        let cutting = (spec.data.clone(), spec.fold.clone(), spec.subset.clone());
        if let Some((_, counts)) = self.cuts.iter().find(|(known, _)| *known == cutting) {
            return Some(counts.clone());
        }
        let listing = self.list(&spec.data)?.as_ref().ok()?;
        let cut = listing.cut(spec.fold.as_ref(), spec.subset.as_ref());
        let counts = cut.map_err(|error| error.to_string()).map(|cut| {
            let items: Vec<_> = listing.train.iter().chain(&listing.val).collect();
            let count = |places: &[usize]| {
                let mut counts = vec![0; listing.classes.len()];
                places.iter().for_each(|&place| counts[items[place].target as usize] += 1);
                counts
            };
            Counts { train: count(&cut.train), val: count(&cut.val) }
        });
        self.cuts.push((cutting, counts.clone()));
        Some(counts)
    }

    /// What a run sees of its images; `None` where that cannot be told.
    pub fn images(&mut self, spec: &RunSpec) -> Option<Images> {
        let Counts { train, val } = self.counts(spec)?.ok()?;
        let classes = self.list(&spec.data)?.as_ref().ok()?.classes.clone();
        Some(Images { classes, train, val })
    }

    /// The listing; a message for what the user got wrong; `None` where the machine failed, which is no mistake of the file.
    fn list(&mut self, spec: &DataSpec) -> Option<&std::result::Result<Listing, String>> {
        if let Some(at) = self.listings.iter().position(|(known, _)| known == spec) {
            return self.listings.get(at).map(|(_, listing)| listing);
        }
        let listing = match spec.as_dyn().list() {
            Err(error) if error.cause != Cause::User => return None,
            Err(error) => Err(error.to_string()),
            Ok(listing) => Ok(listing),
        };
        self.listings.push((spec.clone(), listing));
        self.listings.last().map(|(_, listing)| listing)
    }
}

/// Runs every check.
pub fn check(spec: &RunSpec, merged: &Merged, data: &mut Data, mistakes: &mut Mistakes) {
    let mut checks = Checks { spec, merged, mistakes };
    checks.backbone();
    checks.weights();
    checks.select();
    checks.augment();
    checks.sizes();
    checks.progressive();
    checks.sampler();
    checks.lengths();
    checks.freeze();
    checks.groups();
    checks.recipe();
    checks.data(data);
    checks.cut(data);
}

struct Checks<'a> {
    spec: &'a RunSpec,
    merged: &'a Merged,
    mistakes: &'a mut Mistakes,
}

impl Checks<'_> {
    /// Says what is wrong with these keys, at the first of them that is written. Nothing where one of them was already
    /// found wrong: its stand-in value proves nothing.
    fn say(&mut self, paths: &[&str], what: impl Into<String>, help: &[String]) {
        let near = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let wrong = |path: &&str| self.merged.pruned.iter().any(|pruned| near(path, pruned) || near(pruned, path));
        if paths.iter().any(wrong) {
            return;
        }
        let written = paths.iter().find_map(|path| self.merged.tree.find(path.split('.')));
        let (place, scope) = match written {
            Some((_, place)) => (place, String::new()),
            None => (&self.merged.place, format!("{}: ", self.merged.scope)),
        };
        let mut mistake = Mistake::new(format!("{scope}{}", what.into()), place);
        mistake.help.extend(help.iter().cloned());
        self.mistakes.push(mistake);
    }

    fn backbone(&mut self) {
        let spec = &self.spec.backbone;
        let parsed = match &spec.hybrid {
            None => backbone::Architecture::parse(&spec.name).map_err(|error| ("backbone.name".to_string(), error)),
            Some(hybrid) => {
                if self.merged.tree.find(["backbone", "name"]).is_some() {
                    let help = ["keep one: `name` is one backbone, `hybrid` two in one".into()];
                    self.say(&["backbone.hybrid"], "`name` and `hybrid` exclude each other", &help);
                }
                let parsed = backbone::Hybrid::new(&hybrid.cnn, hybrid.stage, &hybrid.vit);
                let at = |(key, error)| (format!("backbone.hybrid.{key}"), error);
                parsed.map(backbone::Architecture::Hybrid).map_err(at)
            }
        };
        match parsed {
            Err((path, error)) => self.say_error(&[path.as_str()], &error),
            Ok(architecture) => {
                if let Err(error) = architecture.check_size(self.spec.input.size) {
                    self.say_error(&["input.size", "backbone.name"], &error);
                }
            }
        }
    }

    /// Says a registry's error, whose help stands behind a semicolon.
    fn say_error(&mut self, paths: &[&str], error: &Error) {
        let text = error.to_string();
        let (what, help) = text.split_once("; ").unwrap_or((&text, ""));
        let help: Vec<String> = help.split("? ").filter(|part| !part.is_empty()).map(question).collect();
        self.say(paths, what, &help);
    }

    fn weights(&mut self) {
        let Some(file) = &self.spec.backbone.weights else { return };
        if self.spec.backbone.pretrained != UsePretrained::No {
            let help = ["keep one: `weights` starts from that file, `pretrained` from timm's weights".into()];
            self.say(
                &["backbone.weights", "backbone.pretrained"],
                "`weights` and `pretrained` exclude each other",
                &help,
            );
        }
        if !Path::new(file).is_file() {
            self.say(&["backbone.weights"], format!("there is no file {file}"), &[here()]);
        }
    }

    fn select(&mut self) {
        let (select, written) = (&self.spec.select, self.merged.tree.find(["select", "metric"]).is_some());
        let Some(right) = better(&select.metric) else {
            // The default needs no check of the file.
            if written {
                let known = METRICS.iter().map(|metric| metric.name).chain(["loss"]);
                let help = Mistake::new("", &self.merged.place).names(&select.metric, "known metrics", known).help;
                self.say(&["select.metric"], format!("there is no metric `{}`", select.metric), &help);
            }
            return;
        };
        if select.mode != right {
            let (mode, word) = if right == Mode::Max { ("max", "larger") } else { ("min", "smaller") };
            let what = format!("`select` would pick the worst epoch: {word} `{}` is better", select.metric);
            self.say(&["select.mode", "select.metric"], what, &[format!("write mode = \"{mode}\", or leave it out")]);
        }
    }

    /// Follows the size of an image through the list, to what the model takes.
    fn sizes(&mut self) {
        let input = &self.spec.input;
        let target = input.size;
        if input.loaded() < target {
            let what = format!("`load_size` of {} px leaves nothing to crop {target} px from", input.loaded());
            return self.say(
                &["input.load_size", "input.size"],
                what,
                &["images are cropped from `load_size` to `size`".into()],
            );
        }
        self.list_from(input.loaded(), target);
    }

    /// The same from one size of decoded images to one size that the model takes.
    fn list_from(&mut self, loaded: usize, target: usize) {
        let (mut size, mut changed) = ([loaded; 2], None);
        for (index, entry) in self.spec.augment.iter().enumerate() {
            let path = format!("augment.{index}");
            match entry.as_dyn().output_size(size, target) {
                Err(why) => return self.say(&[&path], format!("`{}`: {why}", entry.name()), &[]),
                Ok(after) if after != size => (size, changed) = (after, Some(path)),
                Ok(_) => {}
            }
        }
        if let Some(path) = changed.filter(|_| size.iter().any(|&side| side < target)) {
            let takes = if target == self.spec.input.size { "`input.size`" } else { "the size of `progressive`" };
            let what = format!("the list leaves images of {} x {} px, {takes} is {target}", size[0], size[1]);
            self.say(
                &[&path, "input.size"],
                what,
                &["`random_crop`, `random_resized_crop` and `center_crop` without a `size` leave `input.size`".into()],
            );
        }
    }

    fn augment(&mut self) {
        let mut batch = None;
        for (index, entry) in self.spec.augment.iter().enumerate() {
            let path = format!("augment.{index}");
            if let Err(why) = entry.as_dyn().check(self.spec.input.size) {
                self.say(&[&path, "input.size"], format!("`{}`: {why}", entry.name()), &[]);
            }
            match (entry.as_dyn().scope(), batch) {
                (Scope::Batch, _) => {
                    batch = Some(entry.name());
                    self.batch_of_one(&path, entry.name());
                }
                (Scope::Sample, Some(mixer)) => {
                    let what = format!(
                        "`{}` works on single images and stands behind `{mixer}`, which mixes a batch",
                        entry.name()
                    );
                    self.say(&[&path], what, &[format!("put `{}` in front of `{mixer}`", entry.name())]);
                }
                (Scope::Sample, None) => {}
            }
        }
    }

    fn batch_of_one(&mut self, path: &str, mixer: &str) {
        if self.spec.batch_size == 1 {
            let what = format!("`{mixer}` mixes the images of a batch, and `batch_size` is 1");
            self.say(&[path, "batch_size"], what, &["raise `batch_size`, or leave it out".into()]);
        }
    }

    /// Things that must fit into the training's length.
    fn lengths(&mut self) {
        let epochs = self.spec.epochs;
        if let Some(Duration::Epochs(length)) = self.spec.warmup.as_ref().map(|warmup| warmup.length)
            && length >= f64::from(epochs)
        {
            let what = format!("a warm-up of {length} epochs leaves nothing of {epochs} epochs of training");
            self.say(&["warmup.length", "epochs"], what, &["shorten `warmup.length` or raise `epochs`".into()]);
        }
        if self.spec.eval_every > epochs {
            let what = format!("`eval_every` is {}, and training ends after {epochs} epochs", self.spec.eval_every);
            self.say(
                &["eval_every", "epochs"],
                what,
                &[format!("the last epoch is evaluated anyway: write at most {epochs}")],
            );
        }
        let evaluations = epochs.div_ceil(self.spec.eval_every.max(1));
        if let Some(stop) = self.spec.early_stop.as_ref().filter(|stop| stop.patience >= evaluations) {
            let what = format!(
                "`early_stop` can never act: its patience is {}, and there are {evaluations} evaluations",
                stop.patience
            );
            self.say(
                &["early_stop.patience", "epochs", "eval_every"],
                what,
                &["lower `patience` or raise `epochs`".into()],
            );
        }
    }

    fn freeze(&mut self) {
        for (index, pattern) in self.spec.freeze.iter().enumerate() {
            let path = format!("freeze.{index}");
            let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '*' | '-');
            let help = ["parameter names are written as in timm, `*` stands for anything: \"layer1.*\"".to_string()];
            if pattern.is_empty() || !pattern.chars().all(right) {
                self.say(&[&path], format!("{pattern:?} can match no parameter"), &help);
            } else if pattern.chars().all(|c| c == '*') {
                self.say(&[&path], format!("{pattern:?} freezes every parameter: nothing is left to train"), &help);
            }
        }
    }

    fn groups(&mut self) {
        if self.spec.groups.is_empty() {
            return;
        }
        let Ok(names) = backbone::parameter_names(&self.spec.backbone.name) else { return };
        for (index, group) in self.spec.groups.iter().enumerate() {
            if !names.iter().any(|name| matches(&group.pattern, name)) {
                let path = format!("groups.{index}");
                let what = format!("{:?} matches no parameter of {}", group.pattern, self.spec.backbone.name);
                let like = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
                self.say(&[&path, "groups"], what, &[format!("`*` stands for anything; names look like {like}")]);
            }
        }
    }

    /// Parts of a recipe that exclude each other or come too late.
    fn recipe(&mut self) {
        let epochs = self.spec.epochs;
        if let Some(swa) = &self.spec.swa {
            if self.spec.ema.is_some() {
                let help = ["keep one: both put averaged weights in place of the trained ones".to_string()];
                self.say(&["swa", "ema"], "`swa` and `ema` exclude each other", &help);
            }
            if swa.start > epochs {
                let what = format!("`swa` starts in epoch {}, and training ends after {epochs}", swa.start);
                self.say(&["swa.start", "epochs"], what, &["lower `swa.start` or raise `epochs`".into()]);
            }
        }
        if self.spec.soup.is_some() && epochs <= self.spec.eval_every {
            let what = "`soup` averages evaluated epochs, and only the last one is evaluated";
            self.say(&["soup", "epochs", "eval_every"], what, &["lower `eval_every` or raise `epochs`".into()]);
        }
        let mixer = self.spec.augment.iter().find(|entry| entry.as_dyn().scope() == Scope::Batch);
        if let (Some(_), Some(mixer)) = (&self.spec.supcon, mixer) {
            let what = format!("`supcon` compares classes, and `{}` mixes the labels of a batch", mixer.name());
            self.say(&["supcon", "augment"], what, &["leave out one of them".into()]);
        }
    }

    fn data(&mut self, data: &mut Data) {
        let family = format!("data.{}", self.spec.data.name());
        let listing = match data.list(&self.spec.data) {
            None => return,
            Some(Err(why)) => return self.say(&[&family], why, &[here()]),
            Some(Ok(listing)) => listing,
        };
        if let Err(why) = self.spec.loss.as_dyn().check(listing.classes.len()) {
            let path = format!("loss.{}", self.spec.loss.name());
            self.say(&[&path, "loss"], format!("`{path}`: {why}"), &[]);
        }
        for (index, entry) in self.spec.augment.iter().enumerate() {
            if let Err(why) = entry.as_dyn().check_classes(&listing.classes) {
                self.say(&[&format!("augment.{index}")], format!("`{}`: {why}", entry.name()), &[]);
            }
        }
        if let Some(synthesize) = &self.spec.synthesize
            && let Err((key, why)) = synthesize.as_dyn().check(&listing.classes, self.spec.input.size)
        {
            let path = format!("synthesize.{}", synthesize.name());
            self.say(&[&format!("{path}.{key}"), &path], format!("`{path}.{key}`: {why}"), &[]);
        }
    }

    /// What fold, subset and sampler make of the data.
    fn cut(&mut self, data: &mut Data) {
        if self.spec.subset.as_ref().is_some_and(|subset| subset.fraction.or(subset.per_class.map(|_| 1.0)).is_none()) {
            let help = ["for example subset = { fraction = 0.5 }, or { per_class = 100 }".into()];
            self.say(&["subset"], "`subset` needs `fraction` or `per_class`", &help);
        }
        let family = format!("data.{}", self.spec.data.name());
        let counts = match data.counts(self.spec) {
            None => return,
            Some(Ok(counts)) => counts,
            Some(Err(why)) => return self.say(&["fold.of", "fold.index", "fold", &family], why, &[]),
        };
        self.selectable(&counts.val, data);
        let (mut images, batch) = (counts.train.iter().sum(), self.spec.batch_size);
        if let Some(sampler) = &self.spec.sampler {
            images = sampler.as_dyn().draws(images);
            if let Err(why) = sampler.as_dyn().check(&counts.train) {
                let path = format!("sampler.{}", sampler.name());
                self.say(&[&path, "sampler"], format!("`{path}`: {why}"), &[]);
            }
        }
        if self.spec.drop_last && images < batch {
            let what = format!("`drop_last` leaves nothing: {images} training images make no batch of {batch}");
            self.say(&["drop_last", "batch_size", &family], what, &[format!("lower `batch_size` to at most {images}")]);
        }
    }

    /// The metric that selects must be defined on the validation images: most need one of each class.
    fn selectable(&mut self, val: &[usize], data: &mut Data) {
        let there: Vec<u32> = (0..val.len() as u32).filter(|class| val[*class as usize] > 0).collect();
        let defined = metric::defined(&there, val.len());
        let wanted = &self.spec.select.metric;
        let known = METRICS.iter().any(|metric| metric.name == wanted);
        let Some(Ok(listing)) = data.list(&self.spec.data) else { return };
        let absent = listing.classes.iter().zip(val).find(|(_, count)| **count == 0).map(|(class, _)| class);
        if let Some(class) = absent.filter(|_| known && !defined.contains(&wanted.as_str())) {
            let what = format!("`{wanted}` is not defined on these validation images: none is of class `{class}`");
            let help = format!("split them otherwise, or select by one of {}, loss", defined.join(", "));
            let family = format!("data.{}", self.spec.data.name());
            self.say(&["select.metric", "fold", &family], what, &[help]);
        }
    }

    fn sampler(&mut self) {
        if self.spec.sampler.is_some() && !self.spec.shuffle {
            let help = ["leave out `shuffle`: a sampler draws at random".into()];
            self.say(&["shuffle", "sampler"], "`sampler` and `shuffle = false` exclude each other", &help);
        }
    }

    fn progressive(&mut self) {
        let Some(progressive) = &self.spec.progressive else { return };
        let full = self.spec.input.size;
        if let Err(why) = progressive.check(full) {
            self.say(&["progressive", "input.size"], format!("`progressive`: {why}"), &[]);
        }
        let name = &self.spec.backbone.name;
        if backbone::Architecture::parse(name).is_ok_and(|architecture| !architecture.takes_any_size()) {
            let what = format!("`progressive` changes the size of images, and `{name}` takes one size");
            self.say(&["progressive", "backbone.name"], what, &["use a convolutional backbone".into()]);
        }
        for size in progressive.smaller(full) {
            if let Err(error) =
                backbone::Architecture::parse(name).and_then(|architecture| architecture.check_size(size))
            {
                return self.say_error(&["progressive.from", "progressive"], &error);
            }
            for (index, entry) in self.spec.augment.iter().enumerate() {
                if let Err(why) = entry.as_dyn().check(size) {
                    let what = format!("`{}` while images have {size} pixels (`progressive`): {why}", entry.name());
                    return self.say(&[&format!("augment.{index}"), "progressive"], what, &[]);
                }
            }
            self.list_from(self.spec.input.loaded_for(size), size);
        }
    }
}

fn question(part: &str) -> String {
    if part.starts_with("did you mean") { format!("{}?", part.trim_end_matches('?')) } else { part.into() }
}

/// Which direction of a metric is better; `None` for a metric there is not.
pub fn better(metric: &str) -> Option<Mode> {
    let known = METRICS.iter().find(|known| known.name == metric).map(|known| known.larger_is_better);
    let larger = if metric == "loss" { Some(false) } else { known };
    larger.map(|larger| if larger { Mode::Max } else { Mode::Min })
}

/// Where relative paths start.
fn here() -> String {
    let here = std::env::current_dir().map_or("the working directory".into(), |path| path.display().to_string());
    format!("relative paths start at {here}")
}

/// Whether a name can be a file's name everywhere, and what is wrong where it cannot.
pub fn file_name(name: &str) -> std::result::Result<(), &'static str> {
    let right = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=' | ',');
    match name {
        "" => Err("is empty"),
        _ if name.chars().count() > 80 => Err("is longer than 80 characters"),
        _ if name.starts_with(['.', '-']) => Err("starts with a dot or a dash"),
        _ if !name.chars().all(right) => Err("has characters that file names should not have"),
        _ => Ok(()),
    }
}
