//! The decoded cache: one memory-mapped file for each data set and decode setting, holding every image of both splits
//! at its final size. Every run of every sweep shares it, in this process and in others.
//!
//! ```text
//! header      one page: magic, version, sizes, counts, SHA-256 of table and notes
//! pixels      size * size * 3 bytes an image, training images first
//! table       a checksum of 8 bytes an image; 0 where there is none (a bad image that was left out)
//! notes       what was left out and why: a line for each, `index<TAB>reason`
//! ```
//! A file is written beside its place, synced and renamed: what stands under the final name is whole.

use super::{
    Decode, Interpolation, Item, Listing, OnBadImage, Progress, Source, decode::decode, labels, resize::resize,
};
use crate::{
    error::{Cause, Context, Error, Result},
    event,
};
use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

const MAGIC: &[u8; 8] = b"RUNNERPX";
/// Raise it when the same bytes decode to other pixels, or the layout changes.
const VERSION: u32 = 1;
const HEADER: usize = 4096;
/// Pixels decoded before they are written: what building needs of memory.
const CHUNK: usize = 32 << 20;
/// Pixels checked when a file is opened; of a larger file as many, evenly spread.
const CHECKED: usize = 256 << 20;

/// The images of a data set, decoded, in the order of its listing.
pub struct Images {
    map: Mmap,
    path: PathBuf,
    /// Bytes of one image.
    bytes: usize,
    count: usize,
    /// Whether each image's checksum was compared, once and for all.
    checked: Vec<AtomicBool>,
}

/// Why there is no usable file.
enum Unusable {
    Absent,
    Damaged(String),
}

/// What a file should hold.
pub struct Wanted<'a> {
    pub source: &'a dyn Source,
    pub listing: &'a Listing,
    pub fingerprint: &'a str,
    pub settings: Decode,
    pub folder: &'a Path,
}

impl Images {
    /// Image `index` of the listing; empty where there is no such image, it was left out, or its pixels are not those
    /// that were written.
    pub fn get(&self, index: usize) -> &[u8] {
        let pixels = self.pixels(index);
        let whole = |checked: &AtomicBool| checked.load(Ordering::Relaxed) || self.check(index, checked);
        if self.checked.get(index).is_some_and(whole) { pixels } else { &[] }
    }

    fn pixels(&self, index: usize) -> &[u8] {
        let start = HEADER + index * self.bytes;
        if index < self.count { self.map.get(start..start + self.bytes).unwrap_or_default() } else { &[] }
    }

    /// Compares an image with its checksum; an image that was left out has none.
    fn check(&self, index: usize, checked: &AtomicBool) -> bool {
        let whole = !self.has(index) || checksum(self.pixels(index)) == self.checksum(index);
        checked.store(whole, Ordering::Relaxed);
        whole
    }

    /// Takes a file that turned out to be damaged away, so that it is built again when it is next opened.
    pub fn discard(&self) {
        let _ = fs::remove_file(&self.path);
    }

    fn table(&self) -> &[u8] {
        let start = HEADER + self.count * self.bytes;
        self.map.get(start..start + self.count * 8).unwrap_or_default()
    }

    fn checksum(&self, index: usize) -> u64 {
        let entry = self.table().get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(entry.unwrap_or_default())
    }

    /// Whether the image could be decoded.
    pub fn has(&self, index: usize) -> bool {
        self.checksum(index) != 0
    }

    /// Each image that was left out, and why.
    pub fn notes(&self) -> Vec<(usize, String)> {
        let start = HEADER + self.count * (self.bytes + 8);
        let text = String::from_utf8_lossy(self.map.get(start..).unwrap_or_default());
        let note = |line: &str| {
            let (index, reason) = line.split_once('\t')?;
            Some((index.parse().ok()?, reason.to_string()))
        };
        text.lines().filter_map(note).collect()
    }

    fn open(path: &Path, wanted: &Wanted) -> Result<Self, Unusable> {
        let file = File::open(path).map_err(|_| Unusable::Absent)?;
        let damaged = |what: &str| Unusable::Damaged(format!("the decoded cache {} {what}", path.display()));
        // SAFETY: a file of this name is never written to again: it came here by a rename, and is only ever replaced by
        // another rename, which leaves this mapping with the old file.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| damaged(&format!("cannot be mapped: {error}")))?;
        let count = wanted.count();
        let checked = std::iter::repeat_with(AtomicBool::default).take(count).collect();
        let images = Self { map, path: path.into(), bytes: wanted.image_bytes(), count, checked };
        let notes = HEADER + images.count * (images.bytes + 8);
        let expected = images.map.get(notes..).map(|notes| header(wanted, notes.len(), images.table(), notes));
        match expected {
            None => Err(damaged("is cut short")),
            Some(expected) if images.map[..HEADER] != expected => Err(damaged("has a wrong header")),
            _ if !images.intact() => Err(damaged("has changed since it was written")),
            _ => Ok(images),
        }
    }

    /// Compares checksums, of all images or of an even sample; the others are compared when they are first used.
    fn intact(&self) -> bool {
        let step = (self.count * self.bytes).div_ceil(CHECKED).max(1);
        let sample: Vec<usize> = (0..self.count).step_by(step).collect();
        sample.par_iter().all(|&index| self.check(index, &self.checked[index]))
    }
}

impl Wanted<'_> {
    fn image_bytes(&self) -> usize {
        self.settings.size * self.settings.size * 3
    }

    fn count(&self) -> usize {
        self.listing.train.len() + self.listing.val.len()
    }

    fn file_name(&self) -> String {
        let filter = match self.settings.interpolation {
            Interpolation::Nearest => "nearest",
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
            Interpolation::Lanczos => "lanczos",
        };
        format!("{}-{}-{filter}-v{VERSION}", self.fingerprint, self.settings.size)
    }

    fn item(&self, index: usize) -> (&Item, event::Split) {
        let train = &self.listing.train;
        match train.get(index) {
            Some(item) => (item, event::Split::Train),
            None => (&self.listing.val[index - train.len()], event::Split::Val),
        }
    }

    /// The images, from the cache or decoded into it, and a warning where a damaged file had to be replaced.
    pub fn open(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<(Arc<Images>, Option<String>)> {
        let path = self.folder.join(self.file_name());
        if let Ok(images) = Images::open(&path, self) {
            return Ok((Arc::new(images), None));
        }
        let place = || format!("the decoded cache in {}", self.folder.display());
        fs::create_dir_all(self.folder).context(place)?;
        let _lock = self.lock(progress).context(place)?;
        // Another process may have built it while this one waited.
        let warning = match Images::open(&path, self) {
            Ok(images) => return Ok((Arc::new(images), None)),
            Err(Unusable::Absent) => None,
            Err(Unusable::Damaged(reason)) => Some(format!("{reason}; it was built again")),
        };
        self.remove_leftovers();
        self.build(&path, progress)?;
        match Images::open(&path, self) {
            Ok(images) => Ok((Arc::new(images), warning)),
            Err(Unusable::Absent) => Err(Error::new(Cause::Environment, format!("{} vanished", path.display()))),
            Err(Unusable::Damaged(reason)) => Err(Error::new(Cause::Environment, format!("{reason} at once"))),
        }
    }

    /// Waits until no other process builds this file. Where a file system knows no locks, two may build at once: that
    /// costs time, not correctness.
    fn lock(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<File> {
        let file = File::create(self.folder.join(format!("{}.lock", self.file_name())))?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            progress(Progress::Waiting);
            let _ = file.lock();
        }
        Ok(file)
    }

    fn temporary_prefix(&self) -> String {
        format!("{}.tmp-", self.file_name())
    }

    /// Removes what a build that was killed left behind.
    fn remove_leftovers(&self) {
        let ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&self.temporary_prefix());
        let entries = fs::read_dir(self.folder).into_iter().flatten().flatten();
        entries.filter(ours).for_each(|entry| drop(fs::remove_file(entry.path())));
    }

    /// Writes the file. What goes wrong leaves nothing: the temporary file removes itself.
    fn build(&self, path: &Path, progress: &(dyn Fn(Progress) + Sync)) -> Result<()> {
        let size = HEADER + self.count() * (self.image_bytes() + 8);
        let place = || format!("writing the decoded cache {} ({} MB)", path.display(), size.div_ceil(1_000_000));
        let mut file =
            tempfile::Builder::new().prefix(&self.temporary_prefix()).tempfile_in(self.folder).context(place)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file.as_file_mut());
        writer.seek(SeekFrom::Start(HEADER as u64)).context(place)?;
        let (table, bad) = self.decode_all(&mut |pixels| writer.write_all(pixels).context(place), progress)?;
        let notes: String = bad.iter().map(|(index, reason)| format!("{index}\t{reason}\n")).collect();
        writer.write_all(&table).context(place)?;
        writer.write_all(notes.as_bytes()).context(place)?;
        writer.seek(SeekFrom::Start(0)).context(place)?;
        writer.write_all(&header(self, notes.len(), &table, notes.as_bytes())).context(place)?;
        writer.flush().context(place)?;
        drop(writer);
        file.as_file().sync_all().context(place)?;
        file.persist(path).map_err(|error| Error::from(error.error)).context(place)?;
        sync_folder(self.folder);
        Ok(())
    }

    /// Decodes in order, a chunk at a time, and hands the pixels to `write`. Returns the table of checksums and the
    /// images that were left out.
    #[allow(clippy::type_complexity)]
    fn decode_all(
        &self,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Vec<u8>, Vec<(usize, String)>)> {
        let (count, done) = (self.count(), AtomicUsize::new(0));
        let chunk = (CHUNK / self.image_bytes().max(1)).max(1);
        let (mut table, mut bad) = (Vec::with_capacity(count * 8), Vec::new());
        let blank = vec![0; self.image_bytes()];
        for start in (0..count).step_by(chunk) {
            let images: Vec<Result<Vec<u8>>> = (start..count.min(start + chunk))
                .into_par_iter()
                .map(|index| {
                    let image = self.decode(index);
                    progress(Progress::Decoding { done: done.fetch_add(1, Ordering::Relaxed) + 1, total: count });
                    image
                })
                .collect();
            for (index, image) in (start..).zip(images) {
                match image {
                    Ok(pixels) => {
                        table.extend(checksum(&pixels).to_le_bytes());
                        write(&pixels)?;
                    }
                    Err(error) if error.cause != Cause::User => return Err(error),
                    Err(error) => {
                        bad.push((index, error.to_string().replace(['\n', '\r'], " ")));
                        table.extend(0u64.to_le_bytes());
                        write(&blank)?;
                    }
                }
            }
        }
        self.refuse(&bad)?;
        Ok((table, bad))
    }

    fn decode(&self, index: usize) -> Result<Vec<u8>> {
        let (item, split) = self.item(index);
        let bytes = self.source.bytes(item, split).map_err(|error| match error.cause {
            Cause::Environment => Error::user(error),
            _ => error,
        })?;
        let Decode { size, interpolation } = self.settings;
        Ok(resize(&decode(&bytes)?, size, size, interpolation)?.pixels)
    }

    /// Reports all bad images together, unless they are to be left out.
    fn refuse(&self, bad: &[(usize, String)]) -> Result<()> {
        if bad.is_empty() || self.source.on_bad_image() == OnBadImage::Skip {
            return Ok(());
        }
        let text = labels::some_of("unusable image", &self.describe(bad));
        Err(Error::user(text + "\n  (on_bad_image = \"skip\" leaves them out)"))
    }

    /// Bad images by name.
    pub fn describe(&self, bad: &[(usize, String)]) -> Vec<String> {
        let describe = |(index, reason): &(usize, String)| {
            let (item, split) = self.item(*index);
            match self.source.path(item, split) {
                Some(path) if !reason.contains(&path.display().to_string()) => format!("{}: {reason}", path.display()),
                Some(_) => reason.clone(),
                None => format!("{}: {reason}", item.name),
            }
        };
        bad.iter().filter(|(index, _)| *index < self.count()).map(describe).collect()
    }
}

fn header(wanted: &Wanted, notes: usize, table: &[u8], text: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    for number in [wanted.settings.size, wanted.listing.train.len(), wanted.listing.val.len(), notes] {
        header.extend((number as u64).to_le_bytes());
    }
    header.extend(Sha256::new().chain_update(table).chain_update(text).finalize());
    header.resize(HEADER, 0);
    header
}

/// A quick checksum, never 0: against damage, not against malice.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, step) | 1
}

/// Makes a rename last; not every system can.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
