use super::{
    output,
    sheet::{self, Row, Tile},
};
use crate::{
    augment::{self, Augment, AugmentSpec, Scope},
    data::{self, Channels, Item},
    error::{Context, Result},
    event::Split,
    spec::{Experiment, ExperimentFile, RunSpec},
    tensor::{Image, Key},
    train::Normalize,
};
use maud::{DOCTYPE, PreEscaped, html};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// The experiment file
    file: PathBuf,
    /// Folder for the sheets and the page
    #[arg(long, default_value = "preview", value_name = "DIR")]
    out: PathBuf,
    /// Draws of each augmentation; draw N is what epoch N of seed 0 does to the image
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50))]
    draws: u32,
    /// Sets a value, e.g. --set data.ffdi.root=data/phase1
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// One experiment's sheet.
struct Sheet {
    name: String,
    file: String,
    /// The list of augmentations, one a line.
    list: Vec<String>,
    png: Vec<u8>,
}

/// Draws a sheet for every experiment, and a page of all.
pub fn run(args: &Args) -> Result<u8> {
    let file = ExperimentFile::load(&args.file, &args.set)?;
    std::fs::create_dir_all(&args.out).context(|| args.out.display().to_string())?;
    let mut sheets = Vec::new();
    for experiment in &file.experiments {
        let sheet = draw(experiment, args.draws)?;
        write(&args.out.join(&sheet.file), &sheet.png)?;
        output::line(format_args!("{:<24} {}", sheet.name, args.out.join(&sheet.file).display()))?;
        sheets.push(sheet);
    }
    let page = args.out.join("index.html");
    write(&page, html(&file.name, &sheets).as_bytes())?;
    output::line(format_args!("{:<24} {}", "all on one page", page.display()))?;
    Ok(0)
}

fn write(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).context(|| format!("cannot write {}", path.display()))
}

fn draw(experiment: &Experiment, draws: u32) -> Result<Sheet> {
    let gallery = Gallery::open(&experiment.spec, draws)?;
    let list: Vec<String> = experiment.spec.augment.iter().map(written).collect();
    let rows = gallery.rows(&list)?;
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let file = format!("{}.png", experiment.name.chars().map(safe).collect::<String>());
    Ok(Sheet { name: experiment.name.clone(), file, list, png: sheet::png(&rows, experiment.spec.input.size)? })
}

/// An entry of the list as the file would have it.
fn written(entry: &AugmentSpec) -> String {
    toml::Value::try_from(entry).map_or(entry.name().into(), |value| value.to_string())
}

/// What happens to an image in one draw.
type Change<'a> = dyn Fn(&mut Image, &augment::Context, Key) -> Result<()> + 'a;

/// The images an experiment is shown on.
struct Gallery<'a> {
    spec: &'a RunSpec,
    classes: Vec<String>,
    draws: u32,
    normalize: Normalize,
    /// With each image's place among the training images; classes take turns.
    images: Vec<(usize, Item, Image)>,
}

impl<'a> Gallery<'a> {
    fn open(spec: &'a RunSpec, draws: u32) -> Result<Self> {
        let source = spec.data.as_dyn();
        let listing = source.list()?;
        let count = (draws as usize + 1).clamp(2, 8).min(listing.train.len());
        let side = spec.input.loaded();
        let mut images = Vec::new();
        for place in in_turns(&listing.train, listing.classes.len()).into_iter().take(count) {
            let item = listing.train[place].clone();
            let bytes = source.bytes(&item, Split::Train)?;
            let image = data::decode::decode(&bytes).context(|| item.name.clone())?;
            images.push((place, item, data::resize::resize(&image, side, side, spec.input.interpolation)?));
        }
        // Colours are what a person can look at, whatever the network sees.
        let normalize = Normalize { channels: Channels::Rgb, ..Normalize::new(spec)? };
        Ok(Self { spec, classes: listing.classes, draws, normalize, images })
    }

    /// Every augmentation by itself on one image of each class, then the list as a whole.
    fn rows(&self, list: &[String]) -> Result<Vec<Row>> {
        let entries = || self.spec.augment.iter().enumerate();
        let (single, batch): (Vec<_>, Vec<_>) =
            entries().partition(|(_, entry)| entry.as_dyn().scope() == Scope::Sample);
        let mut rows = Vec::new();
        for (place, entry) in &single {
            rows.extend(self.draws_of(&list[*place], &|image, context, key| {
                entry.as_dyn().sample_in(image, context, &mut key.with(*place as u64).rng())
            })?);
        }
        if single.len() > 1 {
            rows.extend(self.draws_of("all of them", &|image, context, key| {
                augment::sample(&self.spec.augment, image, context, key)
            })?);
        }
        for (place, entry) in batch {
            rows.extend(self.batches(place, entry.as_dyn(), &list[place])?);
        }
        if rows.is_empty() {
            rows.push(self.plain("no augmentation".into()));
        }
        Ok(rows)
    }

    /// What validation sees of an image.
    fn middle(&self, image: &Image) -> Image {
        let mut image = image.clone();
        image.center_crop(self.spec.input.size);
        image
    }

    fn plain(&self, label: String) -> Row {
        let tile = |(_, item, image): &(usize, Item, Image)| Tile {
            image: self.middle(image),
            caption: self.classes[item.target as usize].clone(),
        };
        Row { label, tiles: self.images.iter().map(tile).collect() }
    }

    /// A row for the first image of each of two classes: as it is, and every draw.
    fn draws_of(&self, label: &str, change: &Change) -> Result<Vec<Row>> {
        let Normalize { mean, std, .. } = self.normalize;
        let size = self.spec.input.size;
        let row = |(sample, item, image): &(usize, Item, Image)| {
            let class = item.target as usize;
            let context = augment::Context { class, classes: &self.classes, size, mean, std };
            let class = &self.classes[class];
            let mut tiles = vec![Tile { image: self.middle(image), caption: format!("{class}, as it is") }];
            for epoch in 0..self.draws {
                let mut changed = image.clone();
                let key = Key::new(0).named("augment").with(u64::from(epoch)).with(*sample as u64);
                change(&mut changed, &context, key)?;
                changed.center_crop(size);
                tiles.push(Tile { image: changed, caption: format!("draw {epoch}") });
            }
            Ok(Row { label: label.to_string(), tiles })
        };
        self.images.iter().take(2).map(row).collect()
    }

    /// A small batch as it is, and what one augmentation makes of it and its targets in two draws.
    fn batches(&self, place: usize, entry: &dyn Augment, label: &str) -> Result<Vec<Row>> {
        let (samples, classes, size) = (self.images.len(), self.classes.len(), self.spec.input.size);
        let mut rows = vec![self.plain(format!("{label}: the batch as it is"))];
        for epoch in 0..self.draws.min(2) {
            let mut images: Vec<f32> =
                self.images.iter().flat_map(|(_, _, image)| self.normalize.apply(&self.middle(image).pixels)).collect();
            let mut targets = vec![0.0; samples * classes];
            for (row, (_, item, _)) in targets.chunks_exact_mut(classes).zip(&self.images) {
                row[item.target as usize] = 1.0;
            }
            let mut batch = augment::Batch {
                images: &mut images,
                targets: &mut targets,
                samples,
                height: size,
                width: size,
                classes,
            };
            let key = Key::new(0).named("mix").with(u64::from(epoch)).with(0).with(0);
            entry.batch(&mut batch, &mut key.with(place as u64).rng());
            let pictures = images.chunks_exact(size * size * 3).map(|values| bytes(values, &self.normalize, size));
            let captions = targets.chunks_exact(classes).map(|row| self.target(row));
            let tiles = pictures.zip(captions).map(|(image, caption)| Tile { image, caption }).collect();
            rows.push(Row { label: format!("{label}: draw {epoch}"), tiles });
        }
        Ok(rows)
    }

    /// `real 0.30, fake 0.70`, or the class alone where there is only one.
    fn target(&self, row: &[f32]) -> String {
        let there: Vec<(&String, f32)> =
            self.classes.iter().zip(row.iter().copied()).filter(|(_, share)| *share > 0.0).collect();
        match there.as_slice() {
            [(class, _)] => class.to_string(),
            several => {
                several.iter().map(|(class, share)| format!("{class} {share:.2}")).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// Places of the items such that classes take turns as long as they last.
fn in_turns(items: &[Item], classes: usize) -> Vec<usize> {
    let mut seen = vec![0; classes];
    let mut places: Vec<(usize, u32, usize)> = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        let turn = &mut seen[item.target as usize];
        places.push((*turn, item.target, place));
        *turn += 1;
    }
    places.sort_unstable();
    places.into_iter().map(|(_, _, place)| place).collect()
}

/// Normalized values as the bytes they would be.
fn bytes(values: &[f32], normalize: &Normalize, size: usize) -> Image {
    let byte = |(at, value): (usize, &f32)| {
        ((value * normalize.std[at % 3] + normalize.mean[at % 3]) * 255.0).round().clamp(0.0, 255.0) as u8
    };
    Image { width: size, height: size, pixels: values.iter().enumerate().map(byte).collect() }
}

/// One page that needs no other file.
fn html(name: &str, sheets: &[Sheet]) -> String {
    let style = "body{font-family:sans-serif;margin:2em;color:#222;background:#fff}img{max-width:100%;border:1px solid #ddd}\
                 code{display:block;white-space:pre-wrap}";
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Augmentations of " (name) }
                style { (PreEscaped(style)) }
            }
            body {
                h1 { "Augmentations of " (name) }
                p { "Draw N is what epoch N of seed 0 does to the image, each augmentation by itself and then all in order." }
                @for sheet in sheets {
                    h2 { (sheet.name) }
                    @for line in &sheet.list { code { (line) } }
                    p { img alt=(format!("contact sheet of {}", sheet.name)) src=(format!("data:image/png;base64,{}", base64(&sheet.png))); }
                }
            }
        }
    }
    .into_string()
}

/// Bytes as text, RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, at| word << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let there = digit <= group.len();
            let index = (word >> (18 - 6 * digit)) as usize & 63;
            text.push(if there { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    /// The test vectors of RFC 4648.
    #[test]
    fn base64_of_the_rfc() {
        let known =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (plain, coded) in known {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
