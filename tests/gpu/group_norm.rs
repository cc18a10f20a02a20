use crate::check::{
    Input::{Activation, Parameter},
    close, same_on_gpu,
};
use crate::device::on_gpu;
use candle_core::{Device, Tensor};
use runner::tensor::ops;

const ACTIVATIONS: [ops::Activation; 4] =
    [ops::Activation::Identity, ops::Activation::Relu, ops::Activation::Silu, ops::Activation::Gelu];

#[test]
fn group_norms() {
    let cases = [([2, 5, 7, 3], 3), ([3, 3, 5, 33], 11), ([2, 4, 3, 40], 4), ([1, 40, 30, 8], 1)];
    for (activation, ([n, h, w, c], groups)) in ACTIVATIONS.into_iter().zip(cases) {
        same_on_gpu(&[Activation(&[n, h, w, c]), Parameter(&[c]), Parameter(&[c])], |t| {
            ops::group_norm(&t[0], groups, &t[1], &t[2], activation, 1e-5)
        });
    }
}

/// Means far from zero and from each other.
#[test]
fn statistics_of_shifted_values() {
    let values: Vec<f32> = (0..2400).map(|i| 1000.0 * (i % 4) as f32 + (i * 37 % 101) as f32 / 50.0).collect();
    let x = Tensor::from_vec(values, (2, 20, 15, 4), &Device::Cpu).unwrap();
    for groups in [4, 2] {
        let run = |device: &Device| {
            let (x, ones) = (x.to_device(device).unwrap(), Tensor::ones(4, x.dtype(), device).unwrap());
            ops::group_norm(&x, groups, &ones, &ones, ops::Activation::Identity, 1e-5).unwrap()
        };
        close(&on_gpu(run), &run(&Device::Cpu), 1e-3, &format!("{groups} groups"));
    }
}
