use crate::check::{Input::Activation, close, same_on_gpu};
use crate::device::on_gpu;
use candle_core::{Device, Tensor};
use runner::tensor::ops;

#[test]
fn attention() {
    for [images, tokens, heads, depth] in
        [[1, 1, 1, 1], [2, 5, 3, 2], [1, 17, 2, 5], [2, 33, 1, 8], [1, 70, 2, 16], [2, 66, 1, 64], [1, 35, 1, 72]]
    {
        same_on_gpu(&[Activation(&[images, tokens, 3 * heads * depth])], |x| ops::attention(&x[0], heads));
    }
}

/// One token's score drowns the others.
#[test]
fn large_scores() {
    for scale in [10.0, 100.0] {
        let values: Vec<f32> = (0..40 * 48).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * scale).collect();
        let x = Tensor::from_vec(values, (1, 40, 48), &Device::Cpu).unwrap();
        let run = |device: &Device| ops::attention(&x.to_device(device).unwrap(), 2).unwrap();
        close(&on_gpu(run), &run(&Device::Cpu), 5e-3, "the output");
    }
}
