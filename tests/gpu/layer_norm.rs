use crate::check::{
    Input::{Activation, Parameter},
    same_on_gpu,
};
use runner::tensor::ops;

#[test]
fn layer_norms() {
    for (rows, width) in [(1, 3), (17, 33), (5, 40), (70, 8), (3, 700)] {
        let x = Activation(&[rows, 2, width]);
        same_on_gpu(&[x, Parameter(&[width]), Parameter(&[width])], |t| {
            ops::layer_norm(&t[0], Some((&t[1], &t[2])), 1e-6)
        });
        same_on_gpu(&[x], |t| ops::layer_norm(&t[0], None, 1e-6));
    }
}

/// As on the weights of a standardized convolution.
#[test]
fn layer_norm_of_a_parameter() {
    same_on_gpu(&[Parameter(&[5, 27])], |t| ops::layer_norm(&t[0], None, 1e-8));
}
