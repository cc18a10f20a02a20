use crate::{
    check::{check, normal},
    elementwise::{ACTIVATIONS, act},
};
use runner::tensor::ops::{Activation, bias};

fn reference(activation: Activation, x: &[Vec<f64>]) -> Vec<f64> {
    x[0].chunks(x[1].len()).flat_map(|row| row.iter().zip(&x[1]).map(|(x, b)| act(activation, x + b))).collect()
}

#[test]
fn bias_and_gradients() {
    for shape in [vec![1, 1], vec![2, 3, 5, 3], vec![2, 5, 5, 24], vec![700, 3]] {
        for activation in ACTIVATIONS {
            let all = [normal(&shape, 1), normal(&shape[shape.len() - 1..], 2)];
            let name = format!("bias {shape:?}, {activation:?}");
            check(&name, 5e-6, &all, |x| bias(&x[0], &x[1], activation), |x| reference(activation, x));
        }
    }
}

#[test]
fn a_bias_of_another_size_is_refused() {
    let error = bias(&normal(&[2, 3], 1).tensor(), &normal(&[4], 2).tensor(), Activation::Relu).unwrap_err();
    assert!(error.to_string().contains("[4]"), "{error}");
}
