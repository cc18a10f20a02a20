//! Procedural portraits, real and forged: the data set of a machine without data.

mod canvas;
mod face;
mod forge;

use super::{Source, synthetic::Synthetic};
use crate::{
    error::{Context, Error, Result},
    event::Split,
    tensor::Key,
};
use face::{Camera, Face};
pub use forge::Forgery;
use libjpeg_turbo_rs::{PixelFormat, Subsampling};
use rayon::prelude::*;
use std::{fs, path::Path};

/// Enters the fingerprint: raise it when the same parameters give other images.
pub const VERSION: u32 = 1;

/// Every image is written alike, so that neither format nor quality tells the classes apart.
const QUALITY: u8 = 92;

/// One portrait as a JPEG of `side x side` pixels, forged with a trace of this strength or real; what it shows depends on
/// `key` alone.
pub fn portrait(key: Key, side: usize, forgery: Option<(Forgery, f32)>) -> Result<Vec<u8>> {
    let face = Face::draw(key);
    let mut photo = face.photograph(side, &Camera::draw(key), &mut key.named("noise").rng());
    if let Some((forgery, strength)) = forgery {
        photo = forgery.apply(&photo, face.pose, strength, key);
    }
    let pixels = photo.to_image().pixels;
    libjpeg_turbo_rs::compress(&pixels, side, side, PixelFormat::Rgb, QUALITY, Subsampling::S420)
        .map_err(|error| Error::bug(format!("encoding a synthetic image: {error}")))
}

/// Writes a synthetic set in the layout of [`super::ffdi::Ffdi`] into a folder that is new or empty.
pub fn write_ffdi(set: &Synthetic, folder: &Path) -> Result<()> {
    let place = || folder.display().to_string();
    fs::create_dir_all(folder).context(place)?;
    if fs::read_dir(folder).context(place)?.next().is_some() {
        return Err(Error::user(format!("{} is not empty; name a new folder", folder.display())));
    }
    let listing = set.list()?;
    for (split, name) in [(Split::Train, "trainset"), (Split::Val, "valset")] {
        let (items, images) = (listing.split(split), folder.join(name));
        fs::create_dir(&images).context(place)?;
        items
            .par_iter()
            .try_for_each(|item| fs::write(images.join(&item.name), set.bytes(item, split)?).context(place))?;
        let rows: String = items.iter().map(|item| format!("{},{}\n", item.name, item.target)).collect();
        fs::write(folder.join(format!("{name}_label.txt")), format!("img_name,target\n{rows}")).context(place)?;
    }
    Ok(())
}
