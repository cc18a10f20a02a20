use crate::check::{
    Input::{Activation, Parameter},
    same_on_gpu,
};
use runner::tensor::ops;

const ACTIVATIONS: [ops::Activation; 5] = [
    ops::Activation::Identity,
    ops::Activation::Relu,
    ops::Activation::Silu,
    ops::Activation::Gelu,
    ops::Activation::HardSwish,
];

#[test]
fn biases() {
    for (activation, channels) in ACTIVATIONS.into_iter().zip([1, 3, 8, 33, 40]) {
        same_on_gpu(&[Activation(&[2, 5, 9, channels]), Parameter(&[channels])], |t| {
            ops::bias(&t[0], &t[1], activation)
        });
    }
}

#[test]
fn layer_scales() {
    for channels in [1, 3, 8, 33, 40] {
        let x = Activation(&[3, 25, channels]);
        same_on_gpu(&[x, Parameter(&[channels]), x], |t| ops::scale_add(&t[0], &t[1], &t[2]));
    }
}
