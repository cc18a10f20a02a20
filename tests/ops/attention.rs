use crate::check::{check, normal, values};
use candle_core::{Device, Tensor};
use runner::tensor::ops::{attention, tokens};

/// The definition, in f64.
fn reference([images, count, heads, depth]: [usize; 4], qkv: &[f64]) -> Vec<f64> {
    let width = heads * depth;
    let at = |image: usize, token: usize, part: usize, head: usize| {
        &qkv[(image * count + token) * 3 * width + part * width + head * depth..][..depth]
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut y = vec![0.0; images * count * width];
    for (row, y) in y.chunks_mut(depth).enumerate() {
        let (image, token, head) = (row / heads / count, row / heads % count, row % heads);
        let score = |other: usize| dot(at(image, token, 0, head), at(image, other, 1, head)) / (depth as f64).sqrt();
        let weights: Vec<f64> = (0..count).map(|other| score(other).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for (other, weight) in weights.iter().enumerate() {
            let values = at(image, other, 2, head);
            y.iter_mut().zip(values).for_each(|(y, value)| *y += weight / sum * value);
        }
    }
    y
}

#[test]
fn attention_and_gradients() {
    for sizes in [[1, 1, 1, 1], [2, 3, 1, 4], [1, 5, 3, 2], [2, 17, 2, 5], [1, 33, 1, 3]] {
        let [images, count, heads, depth] = sizes;
        let qkv = normal(&[images, count, 3 * heads * depth], 1);
        let name = format!("attention {sizes:?}");
        check(&name, 1e-5, &[qkv], |x| attention(&x[0], heads), |x| reference(sizes, &x[0]));
    }
}

/// Softmax subtracts the largest score first.
#[test]
fn huge_scores_overflow_nothing() {
    let qkv = normal(&[1, 4, 6], 1).map(|x| 1e4 * x);
    let exact: Vec<f32> = qkv.values.iter().skip(4).step_by(6).copied().collect();
    let y = values(&attention(&qkv.tensor(), 1).unwrap());
    assert!(y.iter().all(|y| y.is_finite()), "{y:?}");
    assert!(y.iter().step_by(2).all(|y| exact.contains(y)), "each query sees one value: {y:?}, {exact:?}");
}

#[test]
fn tokens_and_gradients() {
    for [images, count, width] in [[1, 1, 1], [3, 4, 5]] {
        let all = [normal(&[images, count, width], 1), normal(&[1, 1, width], 2), normal(&[1, count + 1, width], 3)];
        check(
            &format!("tokens {:?}", [images, count, width]),
            1e-6,
            &all,
            |x| tokens(&x[0], &x[1], &x[2]),
            |x| {
                let image = |patches: &[f64]| -> Vec<f64> {
                    x[1].iter().chain(patches).zip(&x[2]).map(|(token, position)| token + position).collect()
                };
                x[0].chunks(count * width).flat_map(image).collect()
            },
        );
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let x = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(attention(&x(&[1, 4, 10]), 1).unwrap_err().to_string().contains("[1, 4, 10]"));
    assert!(attention(&x(&[1, 4, 12]), 0).is_err() && attention(&x(&[4, 12]), 2).is_err());
    assert!(tokens(&x(&[2, 3, 4]), &x(&[1, 1, 4]), &x(&[1, 3, 4])).is_err());
}
