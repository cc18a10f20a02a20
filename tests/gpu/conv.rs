use crate::check::{
    Input::{Activation, Parameter},
    same_on_gpu,
};
use runner::tensor::ops::{self, Window};

fn check(channels: [usize; 2], groups: usize, window: Window) {
    let [inputs, outputs] = channels;
    let [kh, kw] = window.kernel;
    let (x, weight) = ([2, 9, 7, inputs], [outputs, inputs / groups, kh, kw]);
    same_on_gpu(&[Activation(&x), Parameter(&weight)], |t| ops::conv2d(&t[0], &t[1], window, groups));
}

#[test]
fn convolutions_of_the_library() {
    check([3, 8], 1, Window::square(7, 2, 3));
    check([8, 16], 1, Window::square(3, 1, 1));
    check([8, 12], 4, Window::square(3, 2, 1));
    check([5, 6], 1, Window::square(1, 2, 0));
}

#[test]
fn pointwise() {
    check([3, 5], 1, Window::square(1, 1, 0));
    check([40, 16], 1, Window::square(1, 1, 0));
}

#[test]
fn depthwise() {
    for channels in [1, 3, 40] {
        check([channels; 2], channels, Window::square(3, 1, 1));
        check([channels; 2], channels, Window::square(5, 2, 2));
    }
    check([8; 2], 8, Window { dilation: [2, 1], ..Window::square(3, 1, 2) });
}

#[test]
fn with_a_bias() {
    let shapes = [Activation(&[2, 5, 6, 3]), Parameter(&[10, 3, 3, 3]), Parameter(&[10])];
    same_on_gpu(&shapes, |t| ops::conv2d_bias(&t[0], &t[1], &t[2], Window::square(3, 1, 1), 1));
}
