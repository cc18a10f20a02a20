//! The operations between the large ones, and whole networks: the gradients of our tape are those of Candle's.

use crate::check::{
    Input::{Activation, Parameter},
    close, same_on_gpu,
};
use crate::device::on_gpu;
use candle_core::{DType, Tensor};
use runner::{
    backbone::{self, Options},
    tensor::{
        Key, Pass,
        ops::{self, Tape},
    },
};

#[test]
fn sums_of_two_and_of_all() {
    for count in [1, 7, 300, 5000] {
        same_on_gpu(&[Activation(&[count]), Activation(&[count])], |t| ops::add(&t[0], &t[1]));
        same_on_gpu(&[Activation(&[count])], |t| ops::total(&ops::exact(&t[0])?, 0.25));
    }
    // One gradient goes two ways and comes back to one tensor.
    same_on_gpu(&[Activation(&[33])], |t| ops::add(&ops::activate(&t[0], ops::Activation::Silu)?, &t[0]));
}

#[test]
fn tokens_patches_and_their_weights() {
    for width in [3, 16] {
        same_on_gpu(&[Activation(&[3, 5, width])], |t| ops::first_token(&t[0]));
    }
    for (side, channels) in [(1, 3), (2, 3), (4, 8)] {
        same_on_gpu(&[Activation(&[2, 8, 12, channels])], |t| ops::patches(&t[0], side));
    }
    same_on_gpu(&[Parameter(&[6, 5, 2, 2])], |t| ops::patch_weight(&t[0]));
}

fn both_tapes(name: &str) {
    on_gpu(|device| {
        let options = Options { image_size: 32, drop_rate: 0.2, drop_path: 0.2, ..Options::new(2) };
        let model = backbone::build(name, &options, device, Key::new(3)).unwrap();
        let mut rng = Key::new(7).rng();
        let pixels: Vec<f32> = (0..2 * 32 * 32 * 3).map(|_| rng.normal() as f32).collect();
        let images = Tensor::from_vec(pixels, (2, 32, 32, 3), device).unwrap();
        let targets = Tensor::eye(2, DType::F32, device).unwrap();
        let pass = Pass { momentum: Some(0.0), ..Pass::train(Key::new(5)) };
        let loss = || {
            let logits = model.net.forward(&images, &pass).unwrap();
            ops::total(&ops::soft_cross_entropy(&logits, &targets, None).unwrap(), 0.5).unwrap()
        };
        let expected = loss().backward().unwrap();
        let mut tape = Tape::default();
        let end = tape.record(loss);
        let gradients = tape.backward(&end).unwrap();
        for weight in model.params.trainable() {
            let what = format!("{name}: {}", weight.name());
            let [ours, theirs] = [gradients.get(weight.var()), expected.get(weight.var())];
            close(ours.expect(&what), theirs.expect(&what), 1e-6, &what);
        }
    });
}

#[test]
fn whole_networks() {
    ["resnet18", "efficientnet_b0", "vit_tiny_patch16_224"].into_iter().for_each(both_tapes);
}
