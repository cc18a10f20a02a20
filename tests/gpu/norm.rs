use crate::check::{
    Input::{Activation, Parameter},
    close, same_on_gpu,
};
use crate::device::on_gpu;
use candle_core::{Device, Tensor};
use runner::tensor::ops;

const ACTIVATIONS: [ops::Activation; 4] =
    [ops::Activation::Identity, ops::Activation::Relu, ops::Activation::Silu, ops::Activation::HardSwish];

#[test]
fn batch_norm_in_training() {
    for (activation, channels) in ACTIVATIONS.into_iter().zip([1, 3, 40, 64]) {
        let x = Activation(&[3, 5, 7, channels]);
        let parameters = [Parameter(&[channels]), Parameter(&[channels])];
        same_on_gpu(&[x, parameters[0], parameters[1]], |t| {
            Ok(ops::batch_norm_train(&t[0], &t[1], &t[2], None, activation, 1e-5)?.0)
        });
        same_on_gpu(&[x, parameters[0], parameters[1], x], |t| {
            Ok(ops::batch_norm_train(&t[0], &t[1], &t[2], Some(&t[3]), activation, 1e-5)?.0)
        });
    }
}

#[test]
fn batch_norm_in_evaluation() {
    for channels in [3, 40] {
        let statistics = [0.25f32, 1.5].map(|value| Tensor::full(value, channels, &Device::Cpu).unwrap());
        let x = Activation(&[2, 3, 5, channels]);
        same_on_gpu(&[x, Parameter(&[channels]), Parameter(&[channels]), x], |t| {
            let [mean, var] = statistics.each_ref().map(|tensor| tensor.to_device(t[0].device()).unwrap());
            let statistics = (&mean, &var);
            ops::batch_norm_eval(&t[0], &t[1], &t[2], statistics, Some(&t[3]), ops::Activation::Relu, 1e-5)
        });
    }
}

/// Means far from zero, as large as no network has them.
#[test]
fn statistics_of_shifted_values() {
    let values: Vec<f32> = (0..6000).map(|i| 1000.0 + (i * 37 % 101) as f32 / 50.0 * (i % 3) as f32).collect();
    let x = Tensor::from_vec(values, (2, 100, 10, 3), &Device::Cpu).unwrap();
    let run = |device: &Device| {
        let (x, ones) = (x.to_device(device).unwrap(), Tensor::ones(3, x.dtype(), device).unwrap());
        ops::batch_norm_train(&x, &ones, &ones, None, ops::Activation::Identity, 1e-5).unwrap()
    };
    let ((y, mean, var), (gpu_y, gpu_mean, gpu_var)) = (run(&Device::Cpu), on_gpu(run));
    close(&gpu_mean, &mean, 1e-6, "the mean");
    close(&gpu_var, &var, 1e-4, "the variance");
    close(&gpu_y, &y, 1e-3, "the output");
}
