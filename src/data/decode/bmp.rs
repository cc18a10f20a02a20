//! Windows and OS/2 bitmaps: those Pillow reads, and as it reads them.

use super::{Decoded, check_size, png::unpack};
use crate::tensor::Image;

const FILE_HEADER: usize = 14;

/// What the headers say.
struct Header {
    width: usize,
    height: usize,
    top_down: bool,
    bits: usize,
    compression: u32,
    masks: [u32; 4],
    palette: Vec<[u8; 3]>,
    /// Where the pixels begin.
    offset: usize,
}

const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;

pub fn decode(bytes: &[u8]) -> Decoded<Image> {
    let header = Header::read(bytes)?;
    check_size(header.width, header.height)?;
    let data = bytes.get(header.offset..).unwrap_or_default();
    let rows = match header.compression {
        RLE8 | RLE4 => header.palette_rows(&unroll(data, header.width * header.height, &header)?, header.width, 8),
        _ => header.raw_rows(data)?,
    };
    Ok(header.picture(rows))
}

impl Header {
    fn read(bytes: &[u8]) -> Decoded<Self> {
        let size = u32_at(bytes, FILE_HEADER)? as usize;
        let at = |offset: usize| FILE_HEADER + offset;
        let mut header = match size {
            12 => Self::core(bytes)?,
            40 | 52 | 56 | 64 | 108 | 124 => Self::info(bytes, size)?,
            _ => return Err(format!("a header of {size} bytes is not known")),
        };
        if bytes.len() < at(size) {
            return Err("it is cut short".to_string());
        }
        header.check()?;
        let (entry, colors) = match size {
            12 => (3, 1 << header.bits),
            _ => (4, Some(u32_at(bytes, at(32))? as usize).filter(|&n| n > 0).unwrap_or(1 << header.bits)),
        };
        let start = u32_at(bytes, 10)? as usize;
        header.offset = if start == 0 { at(size) } else { start };
        if header.bits <= 8 {
            header.read_palette(bytes.get(at(size)..).unwrap_or_default(), entry, colors)?;
            if header.offset == at(size) {
                header.offset += entry * colors;
            }
        } else if start == 0 && size == 40 && header.compression == BITFIELDS {
            header.offset += 12;
        }
        Ok(header)
    }

    /// OS/2 1.x: 16-bit sizes.
    fn core(bytes: &[u8]) -> Decoded<Self> {
        let field = |offset: usize| u16_at(bytes, FILE_HEADER + offset).map(usize::from);
        Ok(Self {
            width: field(4)?,
            height: field(6)?,
            top_down: false,
            bits: field(10)?,
            compression: RAW,
            masks: [0; 4],
            palette: Vec::new(),
            offset: 0,
        })
    }

    fn info(bytes: &[u8], size: usize) -> Decoded<Self> {
        let field = |offset: usize| u32_at(bytes, FILE_HEADER + offset);
        let height = field(8)?;
        // A negative height means the first row is the top one; Pillow looks at the highest byte alone.
        let top_down = height >> 24 == 0xff;
        let compression = field(16)?;
        let mut masks = [0; 4];
        if compression == BITFIELDS {
            // A header of 40 bytes is followed by three masks; a longer one holds them, from 56 bytes on also alpha's.
            let count = if size >= 56 { 4 } else { 3 };
            for (index, mask) in masks.iter_mut().take(count).enumerate() {
                *mask = field(40 + index * 4)?;
            }
        }
        Ok(Self {
            width: field(4)? as usize,
            height: if top_down { height.wrapping_neg() as usize } else { height as usize },
            top_down,
            bits: usize::from(u16_at(bytes, FILE_HEADER + 14)?),
            compression,
            masks,
            palette: Vec::new(),
            offset: 0,
        })
    }

    /// Whether this combination of depth, compression and masks can be read.
    fn check(&self) -> Decoded<()> {
        if ![1, 4, 8, 16, 24, 32].contains(&self.bits) {
            return Err(format!("{} bits a pixel", self.bits));
        }
        match self.compression {
            RAW => Ok(()),
            RLE8 | RLE4 if self.bits <= 8 => Ok(()),
            BITFIELDS if self.known_masks() => Ok(()),
            BITFIELDS => Err("its bit fields are not known".to_string()),
            other => Err(format!("its compression {other} is not known")),
        }
    }

    fn known_masks(&self) -> bool {
        let [r, g, b, a] = self.masks;
        match self.bits {
            16 => [[0xf800, 0x7e0, 0x1f], [0x7c00, 0x3e0, 0x1f]].contains(&[r, g, b]),
            24 => [r, g, b] == [0xff_0000, 0xff00, 0xff],
            32 => [
                [0xff_0000, 0xff00, 0xff, 0],
                [0xff00_0000, 0xff_0000, 0xff00, 0],
                [0xff00_0000, 0xff00, 0xff, 0],
                [0xff00_0000, 0xff_0000, 0xff00, 0xff],
                [0xff, 0xff00, 0xff_0000, 0xff00_0000],
                [0xff_0000, 0xff00, 0xff, 0xff00_0000],
                [0xff00_0000, 0xff00, 0xff, 0xff_0000],
                [0; 4],
            ]
            .contains(&[r, g, b, a]),
            _ => false,
        }
    }

    fn read_palette(&mut self, bytes: &[u8], entry: usize, colors: usize) -> Decoded<()> {
        if colors > 65_536 {
            return Err(format!("a palette of {colors} colours"));
        }
        let entries = bytes.chunks_exact(entry).take(colors);
        self.palette = entries.map(|bgr| [bgr[2], bgr[1], bgr[0]]).collect();
        let ramp = self.palette.iter().enumerate().all(|(index, rgb)| rgb.iter().all(|&v| usize::from(v) == index));
        match colors > 256 && !ramp {
            true => Err(format!("a palette of {colors} colours")),
            false => Ok(()),
        }
    }

    /// The uncompressed rows as RGB, in the order of the file.
    fn raw_rows(&self, data: &[u8]) -> Decoded<Vec<u8>> {
        let used = (self.width * self.bits).div_ceil(8);
        let line = used.next_multiple_of(4);
        if data.len() < line * (self.height - 1) + used {
            return Err("it is cut short".to_string());
        }
        // The last row may come without its padding.
        let mut padded = data[..data.len().min(line * self.height)].to_vec();
        padded.resize(line * self.height, 0);
        if self.bits <= 8 {
            return Ok(self.palette_rows(&padded, line, self.bits));
        }
        let pixel = self.pixel();
        let row = |row: &[u8]| row[..used].chunks_exact(self.bits / 8).flat_map(&pixel).collect::<Vec<u8>>();
        Ok(padded.chunks_exact(line).flat_map(row).collect())
    }

    fn palette_rows(&self, rows: &[u8], line: usize, bits: usize) -> Vec<u8> {
        let entry = |index: u8| self.palette.get(usize::from(index)).copied().unwrap_or_default();
        unpack(rows, line, self.width, bits).flat_map(entry).collect()
    }

    /// How the bytes of one pixel become RGB.
    fn pixel(&self) -> impl Fn(&[u8]) -> [u8; 3] + '_ {
        let [r, g, b, _] = match (self.compression, self.bits) {
            (BITFIELDS, _) if self.masks != [0; 4] => self.masks,
            (_, 16) => [0x7c00, 0x3e0, 0x1f, 0],
            _ => [0xff_0000, 0xff00, 0xff, 0],
        };
        move |bytes| {
            let value = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            [r, g, b].map(|mask| {
                let shift = mask.trailing_zeros();
                (((value & mask) >> shift) * 255 / (mask >> shift)) as u8
            })
        }
    }

    /// Rows in the order of the file, made a picture that begins at the top.
    fn picture(&self, rows: Vec<u8>) -> Image {
        let pixels = match self.top_down {
            true => rows,
            false => rows.chunks_exact(self.width * 3).rev().flatten().copied().collect(),
        };
        Image { width: self.width, height: self.height, pixels }
    }
}

/// Undoes run-length encoding: one palette index a pixel.
fn unroll(data: &[u8], count: usize, header: &Header) -> Decoded<Vec<u8>> {
    let (width, nibbles) = (header.width, header.compression == RLE4);
    let mut indices = Vec::with_capacity(count.min(data.len() * 255));
    let (mut at, mut x) = (0, 0);
    while indices.len() < count {
        let Some(&[first, second]) = data.get(at..at + 2) else { break };
        at += 2;
        match (first, second) {
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let Some(&[right, up]) = data.get(at..at + 2) else { break };
                at += 2;
                let skip = usize::from(right) + usize::from(up) * width;
                indices.resize((indices.len() + skip).min(count), 0);
                x = indices.len() % width;
            }
            (0, length) => {
                let length = usize::from(length).min(count - indices.len());
                let bytes = if nibbles { length.div_ceil(2) } else { length };
                let Some(literal) = data.get(at..at + bytes) else { break };
                match nibbles {
                    true => indices.extend(literal.iter().flat_map(|b| [b >> 4, b & 15]).take(length)),
                    false => indices.extend(literal),
                }
                x += usize::from(second);
                at = (header.offset + at + bytes).next_multiple_of(2) - header.offset;
            }
            (run, value) => {
                // A run that leaves its row is cut.
                let run = usize::from(run).min(width.saturating_sub(x));
                let pair = if nibbles { [value >> 4, value & 15] } else { [value; 2] };
                indices.extend((0..run).map(|index| pair[index % 2]));
                x += run;
            }
        }
    }
    match indices.len() < count {
        true => Err("its compressed data is cut short".to_string()),
        false => {
            indices.truncate(count);
            Ok(indices)
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Decoded<u16> {
    let field = bytes.get(at..at + 2).ok_or("it is cut short")?;
    Ok(u16::from_le_bytes([field[0], field[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Decoded<u32> {
    Ok(u32::from(u16_at(bytes, at)?) | u32::from(u16_at(bytes, at + 2)?) << 16)
}
