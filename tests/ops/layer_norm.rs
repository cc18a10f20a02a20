use crate::check::{Input, check, normal, values};
use candle_core::{Device, Tensor};
use runner::tensor::ops::layer_norm;

/// The definition, in f64; `x` alone, or with weight and bias.
fn reference(width: usize, eps: f64, x: &[Vec<f64>]) -> Vec<f64> {
    let row = |row: &[f64]| -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / width as f64;
        let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        let affine = |c: usize| (x.get(1).map_or(1.0, |weight| weight[c]), x.get(2).map_or(0.0, |bias| bias[c]));
        let value = |(c, x): (usize, &f64)| (x - mean) / (var + eps).sqrt() * affine(c).0 + affine(c).1;
        row.iter().enumerate().map(value).collect()
    };
    x[0].chunks(width).flat_map(row).collect()
}

/// Of widths below, at and beyond a vector, and of more rows than one task has.
#[test]
fn layer_norm_and_gradients() {
    for shape in [vec![2, 1], vec![3, 2], vec![2, 16], vec![2, 3, 19], vec![1, 2, 2, 48], vec![5, 100]] {
        let width = shape[shape.len() - 1];
        let all: [Input; 3] = [normal(&shape, 1).map(|x| 2.0 * x + 0.5), normal(&[width], 2), normal(&[width], 3)];
        for eps in [1e-6, 1e-2] {
            // A row of one is its mean: nothing but rounding is left to differentiate.
            let tolerance = if width == 2 { 2e-4 } else { 2e-5 };
            let name = format!("layer norm of {shape:?}, eps {eps}");
            let op = |x: &[Tensor]| layer_norm(&x[0], Some((&x[1], &x[2])), eps);
            check(&name, tolerance, &all, op, |x| reference(width, eps, x));
            let op = |x: &[Tensor]| layer_norm(&x[0], None, eps);
            check(&format!("{name}, plain"), tolerance, &all[..1], op, |x| reference(width, eps, x));
        }
    }
}

#[test]
fn weight_gradients_over_many_tasks() {
    let all = [normal(&[3, 6000, 2], 1), normal(&[2], 2), normal(&[2], 3)];
    let (_, dy, gradients) = crate::check::run(&all, |x| layer_norm(&x[0], Some((&x[1], &x[2])), 1e-2));
    let exact = |input: &Input| input.values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    let ones = [exact(&all[0]), vec![1.0; 2], vec![0.0; 2]];
    let normalized = reference(2, 1e-2, &ones);
    let sum = |c: usize, of: &dyn Fn(usize) -> f64| (c..dy.len()).step_by(2).map(|i| f64::from(dy[i]) * of(i)).sum();
    let weight: Vec<f64> = (0..2).map(|c| sum(c, &|i| normalized[i])).collect();
    let bias: Vec<f64> = (0..2).map(|c| sum(c, &|_| 1.0)).collect();
    crate::check::close("weight", 1e-5, &gradients[1], &weight);
    crate::check::close("bias", 1e-5, &gradients[2], &bias);
}

/// The mean of a row is taken out before squares are summed.
#[test]
fn a_large_mean_costs_no_accuracy() {
    let row: Vec<f32> = (0..64).map(|i| 4096.0 + (i % 2) as f32).collect();
    let y = values(&layer_norm(&Tensor::new(row, &Device::Cpu).unwrap(), None, 1e-6).unwrap());
    assert!(y.iter().enumerate().all(|(i, y)| (y.abs() - 1.0).abs() < 1e-4 && (*y > 0.0) == (i % 2 == 1)), "{y:?}");
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (x, wrong) = (normal(&[2, 3], 1).tensor(), normal(&[2], 2).tensor());
    let error = layer_norm(&x, Some((&wrong, &wrong)), 1e-5).unwrap_err().to_string();
    assert!(error.contains("[2, 3]") && error.contains("[2]"), "{error}");
}
