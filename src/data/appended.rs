//! Made images behind the real ones of a training split: a file, memory-mapped and shared like the decoded cache.
//!
//! ```text
//! header      one page: magic, image size, count, SHA-256 of the rest
//! targets     4 bytes an image
//! pixels      size * size * 3 bytes an image
//! ```

use crate::{
    error::{Cause, Error, Result},
    tensor::{Image, safetensors},
};
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

const MAGIC: &[u8; 8] = b"RUNNERAP";
const HEADER: usize = 4096;
const HASHED: usize = 1 << 20;

/// Images of one size and their classes.
#[derive(Debug)]
pub struct Appended {
    map: Mmap,
    size: usize,
    count: usize,
}

impl Appended {
    /// Maps a file that [`Writer`] wrote; `None` where there is none of `count` images of this size, or a damaged one.
    pub fn open(path: &Path, size: usize, count: usize) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: a file of this name is never written to again: it came here by a rename, and is only ever replaced by
        // another rename, which leaves this mapping with the old file.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let whole = map.len() == HEADER + count * (4 + size * size * 3);
        let digest = Sha256::digest(map.get(HEADER..)?);
        (whole && map[..HEADER] == header(size, count, &digest)).then_some(Self { map, size, count })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The class of image `index`; 0 where there is no such image.
    pub fn target(&self, index: usize) -> u32 {
        let bytes = self.map.get(HEADER + index * 4..).and_then(|rest| rest.first_chunk::<4>());
        bytes.filter(|_| index < self.count).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Image `index`: `size * size * 3` bytes; empty where there is no such image.
    pub fn image(&self, index: usize) -> &[u8] {
        let bytes = self.size * self.size * 3;
        let start = HEADER + self.count * 4 + index * bytes;
        self.map.get(start..start + bytes).unwrap_or_default()
    }
}

/// Writes `count` images of `size x size` one after the other, as `make` hands them to its argument with their classes;
/// the file stands under its name whole or not at all.
pub fn write(
    path: &Path,
    size: usize,
    count: usize,
    make: impl FnOnce(&mut dyn FnMut(&Image, u32) -> Result<()>) -> Result<()>,
) -> Result<()> {
    safetensors::write_atomically(path, |file| {
        let mut writer = BufWriter::with_capacity(HASHED, &*file);
        writer.seek(SeekFrom::Start((HEADER + count * 4) as u64))?;
        let mut targets = Vec::with_capacity(count);
        make(&mut |image, target| {
            if (image.width, image.height) != (size, size) {
                return Err(Error::bug(format!("a made image is {} x {}, not {size}", image.width, image.height)));
            }
            targets.push(target);
            Ok(writer.write_all(&image.pixels)?)
        })?;
        if targets.len() != count {
            return Err(Error::bug(format!("{} images were made, not {count}", targets.len())));
        }
        writer.seek(SeekFrom::Start(HEADER as u64))?;
        writer.write_all(&targets.iter().flat_map(|target| target.to_le_bytes()).collect::<Vec<_>>())?;
        writer.flush()?;
        drop(writer);
        let digest = digest(file)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file.write_all(&header(size, count, &digest))?)
    })
}

fn header(size: usize, count: usize, digest: &[u8]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    [size, count].iter().for_each(|number| header.extend((*number as u64).to_le_bytes()));
    header.extend(digest);
    header.resize(HEADER, 0);
    header
}

/// Of everything behind the header.
fn digest(file: &mut File) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(HEADER as u64))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; HASHED]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().to_vec()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) => return Err(Error::new(Cause::Environment, error)),
        }
    }
}
