use crate::check::{Input::Activation, same_on_gpu};
use runner::tensor::ops;

#[test]
fn matmul() {
    for [n, k, m] in [[1, 3, 1], [17, 5, 40]] {
        same_on_gpu(&[Activation(&[n, k]), Activation(&[k, m])], |x| ops::matmul(&x[0], &x[1]));
    }
}

#[test]
fn join_and_dot() {
    same_on_gpu(&[Activation(&[9, 3]), Activation(&[9, 70])], |x| ops::join(&x[0], &x[1]));
    for width in [1, 70] {
        same_on_gpu(&[Activation(&[9, width]), Activation(&[9, width])], |x| ops::dot(&x[0], &x[1]));
    }
}

#[test]
fn leaky_relu() {
    same_on_gpu(&[Activation(&[3, 700])], |x| ops::leaky_relu(&x[0], 0.2, 2.0));
}
