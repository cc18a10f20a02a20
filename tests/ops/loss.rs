use crate::check::{check, normal, values};
use candle_core::{Device, Tensor, Var};
use runner::tensor::ops::{bce_with_logits, soft_cross_entropy};

fn cross_entropy(logits: &[f64], targets: &[f32], weights: Option<&[f32]>, classes: usize) -> Vec<f64> {
    let samples = logits.chunks(classes).zip(targets.chunks(classes));
    samples
        .map(|(logits, targets)| {
            let log_sum = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
            let weight = |c: usize| f64::from(weights.map_or(1.0, |weights| weights[c]));
            (0..classes).map(|c| weight(c) * f64::from(targets[c]) * (log_sum - logits[c])).sum()
        })
        .collect()
}

#[test]
fn cross_entropy_and_gradient() {
    for (n, classes) in [(1, 1), (1, 2), (5, 3), (4, 100)] {
        let logits = normal(&[n, classes], 1).map(|x| 3.0 * x);
        let targets = normal(&[n, classes], 2).map(f32::abs);
        let weights = normal(&[classes], 3).map(f32::abs);
        for weights in [None, Some(&weights)] {
            let (t, w) = (targets.tensor(), weights.map(|weights| weights.tensor()));
            let name = format!("cross entropy of {n} x {classes}, weighted: {}", weights.is_some());
            check(
                &name,
                3e-6,
                std::slice::from_ref(&logits),
                |x| soft_cross_entropy(&x[0], &t, w.as_ref()),
                |x| cross_entropy(&x[0], &targets.values, weights.map(|weights| weights.values.as_slice()), classes),
            );
        }
    }
}

#[test]
fn cross_entropy_of_huge_logits() {
    let cpu = &Device::Cpu;
    let logits = Var::new(&[[1e4f32, -1e4, 0.0], [-3e38, 3e38, 0.0]], cpu).unwrap();
    let targets = Tensor::new(&[[0.0f32, 1.0, 0.0], [0.0, 1.0, 0.0]], cpu).unwrap();
    let losses = soft_cross_entropy(&logits, &targets, None).unwrap();
    assert_eq!(values(&losses), [2e4, 0.0]);
    let gradients = losses.sum_all().unwrap().backward().unwrap();
    assert_eq!(values(gradients.get(&logits).unwrap()), [1.0, -1.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn bce_and_gradient() {
    for shape in [vec![1], vec![4, 3], vec![2, 2, 5]] {
        let logits = normal(&shape, 1).map(|x| 4.0 * x);
        let targets = normal(&shape, 2).map(|x| (x * 0.3 + 0.5).clamp(0.0, 1.0));
        let t = targets.tensor();
        check(
            &format!("bce {shape:?}"),
            3e-6,
            &[logits],
            |x| bce_with_logits(&x[0], &t),
            |x| {
                let pairs = x[0].iter().zip(&targets.values);
                pairs.map(|(x, &t)| (1.0 + x.exp()).ln() - x * f64::from(t)).collect()
            },
        );
    }
}

#[test]
fn bce_of_huge_logits() {
    let logits = Tensor::new(&[1e4f32, -1e4, 1e4, -1e4], &Device::Cpu).unwrap();
    let targets = Tensor::new(&[1.0f32, 1.0, 0.0, 0.0], &Device::Cpu).unwrap();
    assert_eq!(values(&bce_with_logits(&logits, &targets).unwrap()), [0.0, 1e4, 1e4, 0.0]);
}

#[test]
fn targets_get_no_gradient() {
    let logits = Var::from_tensor(&normal(&[2, 3], 1).tensor()).unwrap();
    let targets = Var::from_tensor(&normal(&[2, 3], 2).tensor()).unwrap();
    for loss in [soft_cross_entropy(&logits, &targets, None), bce_with_logits(&logits, &targets)] {
        let gradients = loss.unwrap().sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&targets).is_none() && gradients.get(&logits).is_some());
    }
}
