use crate::check::{Input::Activation, same_on_gpu};
use runner::tensor::ops;

#[test]
fn gates() {
    for [n, h, w, c] in [[2, 5, 7, 1], [3, 3, 5, 33], [2, 4, 3, 40], [1, 30, 40, 8]] {
        same_on_gpu(&[Activation(&[n, h, w, c]), Activation(&[n, c])], |x| ops::gate_channels(&x[0], &x[1]));
    }
}

/// The gradient of `x` comes from both of its uses.
#[test]
fn squeeze_excite() {
    for open in [ops::Activation::Sigmoid, ops::Activation::HardSigmoid] {
        for [n, h, w, c] in [[2, 5, 7, 3], [3, 3, 5, 40], [1, 30, 40, 8]] {
            same_on_gpu(&[Activation(&[n, h, w, c]), Activation(&[n, c])], |x| {
                ops::squeeze_excite(&x[0], open, |means| Ok(((means * &x[1])? * 3.0)?))
            });
        }
    }
}
