use crate::{
    check::{check, normal},
    elementwise::{ACTIVATIONS, act},
};
use runner::tensor::ops::{Activation, linear};

fn reference(inputs: usize, activation: Activation, x: &[Vec<f64>]) -> Vec<f64> {
    let (rows, weight, bias) = (x[0].chunks(inputs), &x[1], &x[2]);
    let dot = |row: &[f64], w: &[f64]| -> f64 { row.iter().zip(w).map(|(x, w)| x * w).sum() };
    rows.flat_map(|row| {
        let outputs = weight.chunks(inputs).zip(bias);
        outputs.map(move |(w, bias)| act(activation, dot(row, w) + bias))
    })
    .collect()
}

#[test]
fn linear_and_gradients() {
    for (shape, outputs) in [(vec![1, 1], 1), (vec![3, 7], 5), (vec![2, 5, 18], 17), (vec![300, 3], 2)] {
        for activation in ACTIVATIONS {
            let inputs = shape[shape.len() - 1];
            let all = [normal(&shape, 1), normal(&[outputs, inputs], 2), normal(&[outputs], 3)];
            let name = format!("linear {shape:?} to {outputs}, {activation:?}");
            check(&name, 5e-6, &all, |x| linear(&x[0], &x[1], &x[2], activation), |x| reference(inputs, activation, x));
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (x, w, b) = (normal(&[2, 3], 1).tensor(), normal(&[4, 5], 2).tensor(), normal(&[4], 3).tensor());
    let error = linear(&x, &w, &b, Activation::Identity).unwrap_err().to_string();
    assert!(error.contains("[2, 3]") && error.contains("[4, 5]"), "{error}");
}
