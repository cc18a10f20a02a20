use crate::check::{
    Input::{Activation, Parameter},
    same_on_gpu,
};
use runner::tensor::ops;

#[test]
fn linear() {
    for (inputs, outputs) in [(1, 1), (33, 5), (16, 40)] {
        let shapes = [Activation(&[2, 7, inputs]), Parameter(&[outputs, inputs]), Parameter(&[outputs])];
        same_on_gpu(&shapes, |t| ops::linear(&t[0], &t[1], &t[2], ops::Activation::Gelu));
    }
}
