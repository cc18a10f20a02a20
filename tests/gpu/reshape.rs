use crate::check::{
    Input::{Activation, Parameter},
    same_on_gpu,
};
use runner::tensor::ops;

#[test]
fn borders() {
    for (channels, borders, value) in [
        (1, [[1, 2], [0, 3]], 0.0),
        (3, [[0, 1], [0, 1]], -2.5),
        (40, [[2, 0], [1, 0]], 1.0),
        (8, [[1, 1], [1, 1]], 0.0),
    ] {
        same_on_gpu(&[Activation(&[2, 3, 5, channels])], |x| ops::pad2d(&x[0], borders, value));
    }
}

#[test]
fn upsampling() {
    for channels in [1, 3, 8, 33, 40] {
        same_on_gpu(&[Activation(&[2, 3, 5, channels])], |x| ops::upsample_nearest2x(&x[0]));
    }
}

#[test]
fn token_sequences() {
    for (images, count, width) in [(1, 1, 1), (3, 5, 3), (2, 7, 8), (5, 4, 33), (4, 9, 40)] {
        let inputs =
            [Activation(&[images, count, width]), Parameter(&[1, 1, width]), Parameter(&[1, count + 1, width])];
        same_on_gpu(&inputs, |t| ops::tokens(&t[0], &t[1], &t[2]));
    }
}
