//! Hashes of the images' contents, remembered by path, size and time of change, so that planning a sweep again does
//! not read every file again.

use super::{Item, Listing, Progress, Source};
use crate::{
    error::{Context, Error, Result},
    event::Split,
};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Write,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

/// SHA-256 of a file; all zeros where it could not be read.
pub type Content = [u8; 32];

/// The file of an index, below the cache folder.
const INDEX: &str = "contents.index";
/// How the name of an index begins that is not written to its end.
const UNFINISHED: &str = "contents.index.tmp-";
/// Its first bytes; the digit is the version.
const MAGIC: &[u8; 8] = b"RUNNERC1";
/// A file that changed less than this ago may change again unseen within one tick of its clock: not remembered.
const SETTLED: Duration = Duration::from_secs(2);
const BYTES: usize = 64;

/// What is known of one file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// The first half of the SHA-256 of the absolute path.
    path: [u8; 16],
    size: u64,
    /// Nanoseconds since 1970.
    modified: u64,
    content: Content,
}

impl Entry {
    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&self.path);
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.modified.to_le_bytes());
        bytes[32..].copy_from_slice(&self.content);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            path: bytes.get(..16)?.try_into().ok()?,
            size: u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?),
            modified: u64::from_le_bytes(bytes.get(24..32)?.try_into().ok()?),
            content: bytes.get(32..BYTES)?.try_into().ok()?,
        })
    }
}

/// The content hashes of a listing's images, training images first, and what could not be read.
pub fn hash(
    source: &dyn Source,
    listing: &Listing,
    cache: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Content>> {
    let index = load(cache);
    let (read, total) = (AtomicUsize::new(0), listing.train.len() + listing.val.len());
    let look = |item: &Item, split: Split| -> (Entry, bool) {
        let known = stamp(source, item, split);
        if let Some(old) = known.and_then(|stamp| find(&index, &stamp)) {
            read.fetch_add(1, Ordering::Relaxed);
            return (old, false);
        }
        let content = source.bytes(item, split).map(|bytes| Sha256::digest(&bytes).into()).unwrap_or_default();
        progress(Progress::Reading { done: read.fetch_add(1, Ordering::Relaxed) + 1, total });
        let entry = known.unwrap_or(Entry { path: [0; 16], size: 0, modified: 0, content });
        (Entry { content, ..entry }, known.is_some_and(settled) && content != Content::default())
    };
    let train = listing.train.par_iter().map(|item| look(item, Split::Train));
    let val = listing.val.par_iter().map(|item| look(item, Split::Val));
    let entries: Vec<(Entry, bool)> = train.chain(val).collect();
    let fresh: Vec<Entry> = entries.iter().filter(|(_, fresh)| *fresh).map(|(entry, _)| *entry).collect();
    if !fresh.is_empty() {
        // The index only saves time: a full or read-only disk is reported by what cannot do without it.
        let _ = save(cache, fresh);
    }
    Ok(entries.into_iter().map(|(entry, _)| entry.content).collect())
}

/// Path, size and time of change of one image's file.
fn stamp(source: &dyn Source, item: &Item, split: Split) -> Option<Entry> {
    let path = std::path::absolute(source.path(item, split)?).ok()?;
    let metadata = fs::metadata(&path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    Some(Entry {
        path: digest[..16].try_into().ok()?,
        size: metadata.len(),
        modified: modified.as_nanos() as u64,
        content: Content::default(),
    })
}

fn settled(entry: Entry) -> bool {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_nanos(entry.modified);
    SystemTime::now().duration_since(modified).is_ok_and(|age| age > SETTLED)
}

fn find(index: &[Entry], stamp: &Entry) -> Option<Entry> {
    let at = index.binary_search_by(|entry| entry.path.cmp(&stamp.path)).ok()?;
    let found = index[at];
    (found.size == stamp.size && found.modified == stamp.modified).then_some(found)
}

/// The index, sorted by path; empty where there is none or it is damaged.
fn load(cache: &Path) -> Vec<Entry> {
    let bytes = fs::read(cache.join(INDEX)).unwrap_or_default();
    let Some((head, entries)) = bytes.split_at_checked(MAGIC.len() + 32) else { return Vec::new() };
    if head[..MAGIC.len()] != *MAGIC || head[MAGIC.len()..] != *Sha256::digest(entries) {
        return Vec::new();
    }
    entries.chunks_exact(BYTES).filter_map(Entry::from_bytes).collect()
}

/// Removes what a writer that was killed left behind; whoever calls holds the lock.
fn remove_leftovers(cache: &Path) {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let leftover = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(UNFINISHED);
    entries.filter(leftover).for_each(|entry| drop(fs::remove_file(entry.path())));
}

/// Adds entries to the index, beside whatever another process added meanwhile.
fn save(cache: &Path, fresh: Vec<Entry>) -> Result<()> {
    fs::create_dir_all(cache)?;
    let lock = fs::File::create(cache.join(format!("{INDEX}.lock")))?;
    let _ = lock.lock();
    let mut entries = fresh;
    entries.extend(load(cache));
    entries.sort_by_key(|entry| entry.path);
    entries.dedup_by_key(|entry| entry.path);
    let body: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
    remove_leftovers(cache);
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(cache)?;
    file.write_all(MAGIC)?;
    file.write_all(&Sha256::digest(&body))?;
    file.write_all(&body)?;
    file.as_file().sync_all()?;
    file.persist(cache.join(INDEX)).map_err(|error| Error::from(error.error)).context(|| INDEX.to_string())?;
    Ok(())
}
