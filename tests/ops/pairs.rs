use crate::check::{check, normal};
use runner::tensor::ops::{dot, join, leaky_relu, matmul};

#[test]
fn products_of_matrices() {
    for [n, k, m] in [[1, 1, 1], [3, 5, 2], [7, 2, 40]] {
        let reference = |x: &[Vec<f64>]| -> Vec<f64> {
            let sum = |i: usize, j: usize| (0..k).map(|at| x[0][i * k + at] * x[1][at * m + j]).sum();
            (0..n * m).map(|at| sum(at / m, at % m)).collect()
        };
        let name = format!("matmul {n} {k} {m}");
        check(&name, 1e-6, &[normal(&[n, k], 1), normal(&[k, m], 2)], |x| matmul(&x[0], &x[1]), reference);
    }
}

#[test]
fn rows_side_by_side_and_times_each_other() {
    let row = |x: &[f64], width: usize, at: usize| x[at * width..][..width].to_vec();
    for [n, a, b] in [[1, 1, 1], [4, 3, 5]] {
        let inputs = [normal(&[n, a], 1), normal(&[n, b], 2)];
        check(
            &format!("join {n} {a} {b}"),
            1e-6,
            &inputs,
            |x| join(&x[0], &x[1]),
            |x| (0..n).flat_map(|at| [row(&x[0], a, at), row(&x[1], b, at)].concat()).collect(),
        );
        let inputs = [normal(&[n, a], 1), normal(&[n, a], 2)];
        check(
            &format!("dot {n} {a}"),
            1e-6,
            &inputs,
            |x| dot(&x[0], &x[1]),
            |x| (0..n).map(|at| row(&x[0], a, at).iter().zip(row(&x[1], a, at)).map(|(a, b)| a * b).sum()).collect(),
        );
    }
}

#[test]
fn a_rectifier_that_leaks() {
    let reference = |x: &[Vec<f64>]| x[0].iter().map(|&x| 2.0 * if x > 0.0 { x } else { 0.2 * x }).collect();
    check("leaky relu", 1e-6, &[normal(&[3, 7, 5], 1)], |x| leaky_relu(&x[0], 0.2, 2.0), reference);
}

#[test]
fn what_does_not_fit_is_named() {
    let (a, b) = (normal(&[3, 4], 1).tensor(), normal(&[2, 3], 1).tensor());
    for (error, name) in [(matmul(&a, &b), "matmul"), (join(&a, &b), "join"), (dot(&a, &b), "dot")] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("[3, 4]"), "{error}");
    }
}
