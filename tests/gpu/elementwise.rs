use crate::check::{Input::Activation, same_on_gpu};
use runner::tensor::ops;

const ACTIVATIONS: [ops::Activation; 6] = [
    ops::Activation::Relu,
    ops::Activation::Silu,
    ops::Activation::Sigmoid,
    ops::Activation::Gelu,
    ops::Activation::HardSwish,
    ops::Activation::HardSigmoid,
];

#[test]
fn activations() {
    for activation in ACTIVATIONS {
        same_on_gpu(&[Activation(&[3, 700])], |x| ops::activate(&x[0], activation));
    }
}
