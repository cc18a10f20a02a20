use crate::check::{Input::Activation, same_on_gpu};
use crate::device::on_gpu;
use candle_core::{DType, Device, Tensor};
use runner::tensor::ops;

fn probabilities(rows: usize, classes: usize) -> Tensor {
    let values: Vec<f32> = (0..rows * classes).map(|i| (i * 37 % 5) as f32 / 4.0).collect();
    Tensor::from_vec(values, (rows, classes), &Device::Cpu).unwrap()
}

#[test]
fn soft_cross_entropies() {
    for (rows, classes) in [(1, 1), (7, 2), (5, 33), (19, 10), (2, 1000)] {
        let targets = probabilities(rows, classes);
        let weights = Tensor::from_iter((0..classes).map(|c| c as f32 % 3.0), &Device::Cpu).unwrap();
        let logits = Activation(&[rows, classes]);
        same_on_gpu(&[logits], |x| ops::soft_cross_entropy(&(&x[0] * 8.0)?, &targets.to_device(x[0].device())?, None));
        same_on_gpu(&[logits], |x| {
            let [targets, weights] = [&targets, &weights].map(|tensor| tensor.to_device(x[0].device()).unwrap());
            ops::soft_cross_entropy(&x[0], &targets, Some(&weights))
        });
    }
}

#[test]
fn binary_cross_entropies() {
    let targets = probabilities(9, 33);
    for scale in [1.0, 100.0] {
        same_on_gpu(&[Activation(&[9, 33])], |x| {
            ops::bce_with_logits(&(&x[0] * scale)?, &targets.to_device(x[0].device())?)
        });
    }
}

#[test]
fn losses_are_exact_whatever_the_logits_are() {
    let targets = probabilities(3, 4);
    on_gpu(|device| {
        let targets = targets.to_device(device).unwrap();
        let logits = targets.to_dtype(DType::BF16).unwrap();
        for targets in [&targets, &logits] {
            assert_eq!(ops::soft_cross_entropy(&logits, targets, None).unwrap().dtype(), DType::F32);
            assert_eq!(ops::bce_with_logits(&logits, targets).unwrap().dtype(), DType::F32);
        }
    });
}
