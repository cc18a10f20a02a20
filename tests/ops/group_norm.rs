use crate::{
    check::{check, normal},
    elementwise::act,
};
use runner::tensor::ops::{Activation, group_norm};

const EPS: f64 = 1e-5;

/// The definition, in f64: images `(N, pixels, C)`.
fn reference([pixels, channels, groups]: [usize; 3], activation: Activation, x: &[Vec<f64>]) -> Vec<f64> {
    let members = channels / groups;
    let image = |image: &[f64]| -> Vec<f64> {
        let moments = |group: usize| {
            let of = || image.iter().enumerate().filter(move |(i, _)| i % channels / members == group).map(|(_, x)| x);
            let mean = of().sum::<f64>() / (pixels * members) as f64;
            (mean, of().map(|x| (x - mean).powi(2)).sum::<f64>() / (pixels * members) as f64)
        };
        let moments: Vec<(f64, f64)> = (0..groups).map(moments).collect();
        let value = |(i, value): (usize, &f64)| {
            let (c, (mean, var)) = (i % channels, moments[i % channels / members]);
            act(activation, (value - mean) / (var + EPS).sqrt() * x[1][c] + x[2][c])
        };
        image.iter().enumerate().map(value).collect()
    };
    x[0].chunks(pixels * channels).flat_map(image).collect()
}

#[test]
fn group_norm_and_gradients() {
    for (shape, groups) in
        [([1, 2, 2, 1], 1), ([2, 3, 5, 4], 2), ([2, 2, 3, 6], 6), ([1, 3, 3, 36], 4), ([2, 1, 1, 9], 3)]
    {
        for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
            let channels = shape[3];
            let all = [normal(&shape, 1).map(|x| 2.0 * x + 3.0), normal(&[channels], 2), normal(&[channels], 3)];
            let sizes = [shape[1] * shape[2], channels, groups];
            check(
                &format!("group norm of {shape:?} in {groups} groups, {activation:?}"),
                2e-5,
                &all,
                |x| group_norm(&x[0], groups, &x[1], &x[2], activation, EPS),
                |x| reference(sizes, activation, x),
            );
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (x, six) = (normal(&[1, 2, 2, 6], 1).tensor(), normal(&[6], 2).tensor());
    let error = group_norm(&x, 4, &six, &six, Activation::Relu, EPS).unwrap_err().to_string();
    assert!(error.contains("[1, 2, 2, 6] in 4 groups"), "{error}");
    assert!(group_norm(&x, 3, &normal(&[3], 2).tensor(), &six, Activation::Relu, EPS).is_err());
}
