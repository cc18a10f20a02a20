//! Images that stand twice in a data set: byte by byte, or as pictures that look the same.

use super::Facts;
use crate::{
    data::{Interpolation, Item, resize::resize},
    error::Result,
    event::Split,
    tensor::Image,
};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Two images that are the same.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Duplicate {
    pub first: (Split, String),
    pub second: (Split, String),
    /// Whether the two carry different classes.
    pub contradiction: bool,
    /// Bits of 64 that their perceptual hashes differ in.
    pub bits: u32,
}

/// The most bits that hashes of the same picture differ in.
pub const NEAR: u32 = 4;

/// What a picture looks like, in two times 64 bits that survive scaling, recompression and slight retouching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether brightness rises from one of 9 columns to the next, in 8 rows. `dhash` of imagehash.
    pub gradient: u64,
    /// Which of the 64 lowest frequencies are above their median. `phash` of imagehash.
    pub frequencies: u64,
}

impl Look {
    pub fn of(image: &Image) -> Result<Self> {
        let gray = gray(image);
        let small = resize(&gray, 9, 8, Interpolation::Lanczos)?;
        let rises = small.pixels.chunks_exact(9 * 3).flat_map(|row| (0..8).map(|x| row[(x + 1) * 3] > row[x * 3]));
        let square = resize(&gray, SIDE, SIDE, Interpolation::Lanczos)?;
        Ok(Self { gradient: bits(rises), frequencies: frequencies(&square) })
    }

    /// Bits that differ, in the hash that differs more. One hash alone takes many portraits for the same.
    fn distance(self, other: Self) -> u32 {
        let differ = |a: u64, b: u64| (a ^ b).count_ones();
        differ(self.gradient, other.gradient).max(differ(self.frequencies, other.frequencies))
    }
}

fn bits(bits: impl Iterator<Item = bool>) -> u64 {
    bits.fold(0, |all, bit| all << 1 | u64::from(bit))
}

/// Pillow's `convert("L")`, in all three channels.
fn gray(image: &Image) -> Image {
    let luma = |[r, g, b]: &[u8; 3]| {
        ((u32::from(*r) * 19595 + u32::from(*g) * 38470 + u32::from(*b) * 7471 + 0x8000) >> 16) as u8
    };
    let pixels = image.pixels.as_chunks::<3>().0.iter().flat_map(|pixel| [luma(pixel); 3]).collect();
    Image { pixels, ..*image }
}

/// Side of the image whose frequencies are looked at, and how many of each axis.
const SIDE: usize = 32;
const LOW: usize = 8;

/// The lowest frequencies of a discrete cosine transform (II) over both axes, each compared with their median.
fn frequencies(square: &Image) -> u64 {
    let wave = |k: usize, n: usize| (std::f64::consts::PI * k as f64 * (2 * n + 1) as f64 / (2 * SIDE) as f64).cos();
    let waves: Vec<[f64; SIDE]> = (0..LOW).map(|k| std::array::from_fn(|n| wave(k, n))).collect();
    let along =
        |values: &[f64], k: usize| -> f64 { values.iter().zip(&waves[k]).map(|(value, wave)| value * wave).sum() };
    let columns: Vec<Vec<f64>> =
        (0..SIDE).map(|x| (0..SIDE).map(|y| f64::from(square.pixel(x, y)[0])).collect()).collect();
    let mut found = Vec::with_capacity(LOW * LOW);
    for k in 0..LOW {
        let row: Vec<f64> = columns.iter().map(|column| along(column, k)).collect();
        found.extend((0..LOW).map(|l| along(&row, l)));
    }
    let mut sorted = found.clone();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[LOW * LOW / 2 - 1] + sorted[LOW * LOW / 2]) / 2.0;
    bits(found.into_iter().map(|value| value > median))
}

/// An image in its place; the training images come first.
#[derive(Clone, Copy)]
pub struct Placed<'a> {
    pub split: Split,
    pub item: &'a Item,
    pub facts: &'a Facts,
}

impl Placed<'_> {
    fn twin(&self, other: &Self, bits: u32) -> Duplicate {
        Duplicate {
            first: (self.split, self.item.name.clone()),
            second: (other.split, other.item.name.clone()),
            contradiction: self.item.target != other.item.target,
            bits,
        }
    }
}

/// Every image whose bytes are those of an earlier one, with the earliest.
pub fn exact(images: &[Placed]) -> Vec<Duplicate> {
    let mut first: HashMap<[u8; 32], &Placed> = HashMap::new();
    let mut found = Vec::new();
    for image in images.iter().filter(|image| image.facts.bytes > 0) {
        match first.get(&image.facts.content) {
            None => drop(first.insert(image.facts.content, image)),
            Some(earlier) => found.push(earlier.twin(image, 0)),
        }
    }
    found
}

/// Hashes within [`NEAR`] bits have one of these parts in common, as there is one more of them.
const PARTS: u32 = NEAR + 1;

fn part(hash: u64, part: u32) -> (u32, u64) {
    const BITS: u32 = 13;
    (part, (hash >> (part * BITS).min(63)) & ((1 << BITS) - 1))
}

/// Every image that looks like an earlier one but has other bytes, with one of those it looks like: of another class
/// where there is one, otherwise the earliest. Of exact duplicates only the first takes part.
pub fn near(images: &[Placed]) -> Vec<Duplicate> {
    let mut parts: HashMap<(u32, u64), Vec<usize>> = HashMap::new();
    let mut seen = HashSet::new();
    let first = |image: &(usize, &Placed)| seen.insert(image.1.facts.content);
    let distinct =
        images.iter().enumerate().filter(first).filter_map(|(place, image)| Some((place, image.facts.look?)));
    let distinct: Vec<(usize, Look)> = distinct.collect();
    for (place, look) in &distinct {
        (0..PARTS).for_each(|at| parts.entry(part(look.frequencies, at)).or_default().push(*place));
    }
    let twin = |&(place, look): &(usize, Look)| {
        let image = &images[place];
        let shared = (0..PARTS).filter_map(|at| parts.get(&part(look.frequencies, at)));
        let earlier = shared.flat_map(|places| places.iter().take_while(|other| **other < place));
        let alike = earlier.filter_map(|&other| {
            let bits = look.distance(images[other].facts.look?);
            (bits <= NEAR).then_some((images[other].item.target == image.item.target, other, bits))
        });
        let (_, other, bits) = alike.min()?;
        Some(images[other].twin(image, bits))
    };
    distinct.par_iter().filter_map(twin).collect()
}
