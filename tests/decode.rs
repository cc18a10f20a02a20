//! Decoding and resizing, bit for bit against Pillow, and against damaged files.

use runner::{
    data::{Interpolation, decode::decode, resize::resize},
    tensor::Image,
};
use serde::Deserialize;
use std::path::Path;

fn golden<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// FNV-1a, as the scripts compute it.
fn fnv(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        bits = bits << 6 | alphabet.iter().position(|&known| known == letter).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

#[derive(Deserialize)]
struct File {
    name: String,
    file: String,
    size: Option<(usize, usize)>,
    hash: Option<String>,
}

#[test]
fn every_kind_of_file_gives_pillows_pixels() {
    let files: Vec<File> = golden("decode.json");
    assert!(files.iter().filter(|file| file.size.is_some()).count() > 25);
    for File { name, file, size, hash } in files {
        let decoded = decode(&base64(&file)).ok();
        assert_eq!(decoded.as_ref().map(|image| (image.width, image.height)), size, "{name}");
        assert_eq!(decoded.map(|image| fnv(&image.pixels)), hash, "{name}");
    }
}

#[test]
fn what_is_no_image_is_told() {
    let message = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
    assert!(message(b"").contains("empty"));
    assert!(message(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(message(b"<!DOCTYPE html><html>").contains("HTML"));
    assert!(message(b"GIF89a").contains("GIF"));
    let bomb = golden::<File>("decode.json").into_iter().find(|file| file.name == "bmp_bomb").unwrap();
    assert!(message(&base64(&bomb.file)).contains("decompression bomb"));
}

#[derive(Deserialize)]
struct Resized {
    from: (usize, usize),
    to: (usize, usize),
    filter: Interpolation,
    corner: [u8; 3],
    hash: String,
}

fn picture(width: usize, height: usize) -> Image {
    let mut state = (width * 1000 + height) as u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Image { width, height, pixels: (0..width * height * 3).map(|_| next()).collect() }
}

#[test]
fn resizing_gives_pillows_pixels() {
    for Resized { from, to, filter, corner, hash } in golden("resize.json") {
        let resized = resize(&picture(from.0, from.1), to.0, to.1, filter).unwrap();
        assert_eq!(resized.pixel(0, 0), corner, "{from:?} to {to:?}, {filter:?}");
        assert_eq!(fnv(&resized.pixels), hash, "{from:?} to {to:?}, {filter:?}");
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut random = 12_345u32;
    let mut next = |n: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) as usize % n.max(1)
    };
    for File { name, file, .. } in golden::<File>("decode.json") {
        let whole = base64(&file);
        for _ in 0..60 {
            let mut bytes = whole.clone();
            bytes.truncate(whole.len() - next(whole.len() / 2));
            for _ in 0..next(4) {
                let at = next(bytes.len());
                bytes[at] ^= 1 << next(8);
            }
            if let Ok(image) = decode(&bytes) {
                assert_eq!(image.pixels.len(), image.width * image.height * 3, "{name}");
            }
        }
    }
}
