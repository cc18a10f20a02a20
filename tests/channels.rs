//! What a network sees of an image, against Pillow and scipy; `golden/channels.py` wrote the numbers.

use runner::{
    augment::{
        Batch,
        cutmix::{Area, Cutmix},
    },
    backbone::{self, Options},
    data::Channels,
    tensor::{
        DType, Device, Key, Pass, Tensor,
        safetensors::{Stored, hex, write},
        weights,
    },
    train::Normalize,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const SIDE: usize = 13;

#[derive(Deserialize)]
struct Golden {
    ycbcr: Vec<u8>,
    ycbcr_of_every_colour_sha256: String,
    srm: Vec<f32>,
    dct: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/channels.json")).unwrap()
}

/// The script's picture.
fn picture() -> Vec<u8> {
    let value =
        |x: usize, y: usize, c: usize| (9 * x + 5 * y + 40 * c + (3 * x * x + 5 * y * y + 7 * x * y + c) % 5) as u8;
    let pixels = (0..SIDE * SIDE).map(|at| (at % SIDE, at / SIDE));
    pixels.flat_map(|(x, y)| [0, 1, 2].map(|c| value(x, y, c))).collect()
}

#[test]
fn ycbcr_is_that_of_pillow() {
    assert_eq!(*Channels::Ycbcr.colours(&picture()), golden().ycbcr);
    let every: Vec<u8> = (0..1u32 << 24).flat_map(|at| [(at >> 16) as u8, (at >> 8) as u8, at as u8]).collect();
    let digest = hex(&Sha256::digest(&*Channels::Ycbcr.colours(&every)));
    assert_eq!(digest, golden().ycbcr_of_every_colour_sha256);
}

#[test]
fn residuals_and_bands_are_those_of_scipy() {
    for (channels, expected) in [(Channels::Srm, golden().srm), (Channels::Dct, golden().dct)] {
        let added = channels.added(&picture(), SIDE);
        assert_eq!(added.len() * 3, expected.len());
        for (at, (ours, theirs)) in added.as_flattened().iter().zip(&expected).enumerate() {
            assert!((ours - theirs).abs() < 1e-4, "{channels:?}, number {at}: {ours}, scipy has {theirs}");
        }
    }
}

/// Colours are normalized, what is added stands behind them as it is.
#[test]
fn channels_stand_side_by_side() {
    let pixels = picture();
    for channels in [Channels::Rgb, Channels::Ycbcr, Channels::Srm, Channels::Dct] {
        let normalize = Normalize { channels, mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3] };
        let values = normalize.apply(&pixels);
        assert_eq!(values.len(), SIDE * SIDE * channels.count());
        let (colours, added) = (channels.colours(&pixels), channels.added(&pixels, SIDE));
        for (at, pixel) in values.chunks(channels.count()).enumerate() {
            for c in 0..3 {
                let expected = (f32::from(colours[at * 3 + c]) / 255.0 - normalize.mean[c]) / normalize.std[c];
                assert_eq!(pixel[c], expected, "{channels:?}");
            }
            assert_eq!(pixel[3..], added.get(at).map_or(vec![], |added| added.to_vec()), "{channels:?}");
        }
    }
}

#[test]
fn mixing_moves_all_channels_together() {
    let (samples, side, channels) = (2, 6, 6);
    let mut images: Vec<f32> = (0..samples * side * side * channels).map(|at| at as f32).collect();
    let before = images.clone();
    let mut targets = vec![1.0, 0.0, 0.0, 1.0];
    let mut batch =
        Batch { images: &mut images, targets: &mut targets, samples, height: side, width: side, classes: 2 };
    let area = Area { x: [1, 3], y: [2, 5] };
    Cutmix::default().paste(&mut batch, area);
    let image = side * side * channels;
    for (at, value) in images.iter().enumerate() {
        let (pixel, inside) = (at % image / channels, |at: usize, [a, b]: [usize; 2]| (a..b).contains(&at));
        let pasted = inside(pixel % side, area.x) && inside(pixel / side, area.y);
        assert_eq!(*value, before[if pasted { (at + image) % (2 * image) } else { at }]);
    }
    assert_eq!(targets, [1.0 - 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 1.0 - 1.0 / 6.0].map(|share: f64| share as f32));
}

/// timm's `adapt_input_conv`: of 6 channels, the colours' kernels twice at half their size.
#[test]
fn pretrained_weights_take_on_added_channels() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (name, first) in [
        ("resnet18", "conv1.weight"),
        ("resnet26d", "conv1.0.weight"),
        ("mobilenetv3_small_100", "conv_stem.weight"),
        ("convnext_atto", "stem.0.weight"),
        ("vit_tiny_patch16_224", "patch_embed.proj.weight"),
        ("vit_tiny_r_s16_p8_224", "patch_embed.backbone.conv.weight"),
        ("resnet18@1+vit_tiny_patch16_224", "patch_embed.backbone.conv1.weight"),
    ] {
        let (theirs, ours) = (model(name, 3, 1), model(name, 6, 2));
        write(&path, &weights::arrays(&theirs.params).unwrap(), &BTreeMap::new()).unwrap();
        backbone::load_weights(&ours, &path).unwrap();
        let first = |model: &backbone::Model| model.params.get(first).unwrap().var().as_detached_tensor();
        let half = (first(&theirs) * 0.5).unwrap();
        let expected = Tensor::cat(&[&half, &half], 1).unwrap();
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&first(&ours)), values(&expected), "{name}");
        // A checkpoint is not bent to fit: it belongs to a model with these channels.
        assert!(weights::load(&ours.params, &Stored::read(&path).unwrap(), None, None).is_err());
    }
}

#[test]
fn every_family_sees_added_channels() {
    for name in [
        "resnet50d",
        "efficientnet_b0",
        "mobilenetv3_large_100",
        "convnext_femto",
        "deit_tiny_patch16_224",
        "vit_small_r26_s32_224",
        "efficientnet_b0@2+vit_tiny_patch16_224",
    ] {
        let images = Tensor::ones((1, SMALL, SMALL, 6), DType::F32, &Device::Cpu).unwrap();
        let logits = model(name, 6, 1).net.forward(&images, &Pass::eval()).unwrap();
        assert_eq!(logits.dims(), [1, 2], "{name}");
    }
}

/// Side of images for whole networks.
const SMALL: usize = 64;

fn model(name: &str, in_channels: usize, seed: u64) -> backbone::Model {
    let options = Options { in_channels, image_size: SMALL, ..Options::new(2) };
    backbone::build(name, &options, &Device::Cpu, Key::new(seed)).unwrap()
}
