use crate::check::{Input::Activation, close, same_on_gpu};
use crate::device::on_gpu;
use candle_core::{Device, Tensor};
use runner::tensor::ops::{self, Window};

#[test]
fn max_pools() {
    let dilated = Window { kernel: [2, 3], stride: [1, 2], padding: [1, 0], dilation: [2, 1] };
    for (channels, window) in [1, 3, 8, 33, 40].into_iter().zip([
        Window::square(3, 2, 1),
        Window::square(2, 2, 0),
        Window::square(3, 2, 1),
        dilated,
        Window::square(3, 1, 1),
    ]) {
        same_on_gpu(&[Activation(&[2, 7, 9, channels])], |x| ops::max_pool2d(&x[0], window));
    }
}

/// The first of equal maxima wins, and what is not a number wins over all.
#[test]
fn max_pool_of_ties_and_nan() {
    let values = [0.0, 0.0, 1.0, f32::NAN, 0.0, 0.0, f32::NEG_INFINITY, 1.0];
    let run = |device: &Device| {
        let x = candle_core::Var::from_slice(&values, (1, 2, 4, 1), device).unwrap();
        let y = ops::max_pool2d(&x, Window::square(2, 2, 0)).unwrap();
        let gradient = y.backward().unwrap().get(&x).unwrap().clone();
        (y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap())
    };
    let ((y, dx), (gpu_y, gpu_dx)) = (run(&Device::Cpu), on_gpu(run));
    assert!(gpu_y[1].is_nan() && y[1].is_nan());
    assert_eq!((gpu_y[0], &gpu_dx), (y[0], &dx));
}

#[test]
fn average_pools() {
    let uneven = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 1], dilation: [1, 1] };
    for (channels, window) in [3, 8, 40].into_iter().zip([Window::square(3, 2, 1), Window::square(2, 2, 0), uneven]) {
        same_on_gpu(&[Activation(&[2, 7, 9, channels])], |x| ops::avg_pool2d(&x[0], window));
    }
    for (channels, window) in [1, 8, 33].into_iter().zip([2, 3, 2].map(|size| Window::square(size, 2, 0))) {
        same_on_gpu(&[Activation(&[2, 7, 9, channels])], |x| ops::avg_pool2d_ceil(&x[0], window));
    }
}

#[test]
fn global_average_pools() {
    for dims in [[3, 7, 7, 1], [2, 5, 3, 40], [1, 40, 50, 8], [2, 1, 1, 3], [1, 64, 64, 16]] {
        same_on_gpu(&[Activation(&dims)], |x| ops::global_avg_pool(&x[0]));
    }
}

/// Sums over many pixels stay exact.
#[test]
fn means_of_large_images() {
    let x = Tensor::full(1000.5f32, (1, 200, 200, 3), &Device::Cpu).unwrap();
    let run = |device: &Device| ops::global_avg_pool(&x.to_device(device).unwrap()).unwrap();
    close(&on_gpu(run), &run(&Device::Cpu), 1e-6, "the mean");
}
