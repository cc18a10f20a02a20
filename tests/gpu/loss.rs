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

#[test]
fn right_answers_are_counted() {
    for (rows, classes) in [(1, 1), (5, 2), (300, 7), (40, 1000)] {
        let targets = probabilities(rows, classes);
        let logits = Tensor::from_iter((0..rows * classes).map(|i| (i * 53 % 11) as f32), &Device::Cpu).unwrap();
        let logits = logits.reshape((rows, classes)).unwrap();
        let count = |device: &Device, dtype| {
            let [logits, targets] = [&logits, &targets].map(|tensor| tensor.to_device(device).unwrap());
            ops::hits(&logits.to_dtype(dtype).unwrap(), &targets).unwrap().to_scalar::<f32>().unwrap()
        };
        let [ours, theirs] = [&logits, &targets].map(|tensor| tensor.argmax(1).unwrap().to_vec1::<u32>().unwrap());
        let expected = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours == theirs).count() as f32;
        assert_eq!(count(&Device::Cpu, DType::F32), expected);
        for dtype in [DType::F32, DType::BF16] {
            assert_eq!(on_gpu(|device| count(device, dtype)), expected, "{rows} of {classes} in {dtype:?}");
        }
    }
}
