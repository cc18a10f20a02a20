use super::{
    Optimizer, Slot, Step,
    adam::{Decay, adam_step},
    elementwise, norm,
};
use crate::tensor::ops::matrix::{Matrix, MatrixMut, product};
use garde::Validate;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Momentum whose matrices are made orthogonal, as timm's `Muon` (in f32). Jordan et al. 2024, "Muon: An optimizer for
/// hidden layers in neural networks".
///
/// A convolution's weight is a matrix of one row a filter. What is no matrix of at least 4 by 4, or more than 128 times as
/// long as wide, is updated by AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Muon {
    /// Learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Each step first multiplies the parameter by `1 - lr * weight_decay`.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay of the running mean of the gradient.
    #[garde(range(min = 0.0, max = 0.999999999))]
    #[schemars(range(min = 0.0, max = 0.999999999))]
    pub momentum: f64,
    /// Newton-Schulz iterations.
    #[garde(range(min = 1, max = 99))]
    #[schemars(range(min = 1, max = 99))]
    pub ns_steps: usize,
    /// Smallest norm that a matrix is divided by; also AdamW's.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// AdamW's share of the learning rate.
    #[garde(range(min = 0.0))]
    #[schemars(range(min = 0.0))]
    pub fallback_lr_scale: f64,
    /// AdamW's decay of the running means of the gradient and of its square.
    #[garde(inner(range(min = 0.0, max = 0.999999999)))]
    #[schemars(inner(range(min = 0.0, max = 0.999999999)))]
    pub betas: [f64; 2],
}

impl Default for Muon {
    fn default() -> Self {
        Self {
            lr: 0.02,
            weight_decay: 0.0,
            momentum: 0.95,
            ns_steps: 5,
            eps: 1e-7,
            fallback_lr_scale: 1.0,
            betas: [0.9, 0.95],
        }
    }
}

impl Optimizer for Muon {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn slots(&self, shape: &[usize]) -> Vec<Slot> {
        match matrix(shape) {
            Some(_) => vec![Slot::like("momentum_buffer", shape)],
            None => vec![Slot::like("exp_avg", shape), Slot::like("exp_avg_sq", shape)],
        }
    }

    /// `m = lerp(m, g, 1 - momentum)`; `p = (1 - lr weight_decay) p - 0.2 sqrt(max(rows, columns)) lr orthogonal(m)`.
    fn update(&self, step: &Step, parameter: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
        let (Some((rows, columns)), [mean]) = (matrix(step.shape), &mut *slots) else {
            let step = Step { lr: step.lr * self.fallback_lr_scale, ..*step };
            let decay = Decay { l2: 0.0, keep: 1.0 - step.lr * step.weight_decay };
            return adam_step(&step, self.betas, self.eps, decay, parameter, gradient, slots);
        };
        let new = (1.0 - step.momentum.unwrap_or(self.momentum)) as f32;
        elementwise(parameter, gradient, [&mut *mean], |p, g, [m]| (p, [m + new * (g - m)]));
        let direction = self.orthogonal(mean, rows, columns);
        let keep = (1.0 - step.lr * step.weight_decay) as f32;
        let size = (step.lr * 0.2 * (rows.max(columns) as f64).sqrt()) as f32;
        elementwise(parameter, &direction, [], |p, d, []| (keep * p - size * d, []));
    }
}

/// timm's "quintic" coefficients of the iterations; the last one repeats.
const COEFFICIENTS: [[f32; 3]; 5] = [
    [4.0848, -6.8946, 2.9270],
    [3.9505, -6.3029, 2.6377],
    [3.7418, -5.5913, 2.3037],
    [2.8769, -3.1427, 1.2046],
    [2.8366, -3.0525, 1.2012],
];

/// Rows and columns of a parameter that is a matrix worth orthogonalizing: timm's `_is_suitable_for_muon`.
fn matrix(shape: &[usize]) -> Option<(usize, usize)> {
    let [rows, second, ..] = *shape else { return None };
    let columns: usize = shape[1..].iter().product();
    let (short, long) = (rows.min(columns), rows.max(columns));
    (second > 1 && short >= 4 && long <= 128 * short).then_some((rows, columns))
}

impl Muon {
    /// The nearest matrix with orthonormal rows or columns, roughly: a Newton-Schulz iteration `x = a x + (b s + c s s) x`
    /// with `s = x x'`, on the wide one of the matrix and its transpose.
    fn orthogonal(&self, values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let tall = rows > columns;
        let (short, long) = if tall { (columns, rows) } else { (rows, columns) };
        let size = norm(values.len(), |i| values[i]).max(self.eps) as f32;
        let mut x: Vec<f32> = if tall { transposed(values, rows, columns) } else { values.to_vec() };
        x.iter_mut().for_each(|value| *value /= size);
        for [a, b, c] in (0..self.ns_steps).map(|at| COEFFICIENTS[at.min(COEFFICIENTS.len() - 1)]) {
            let square = times(&x, Matrix::packed(&x, short).transposed(), short, short);
            let fourth = times(&square, Matrix::packed(&square, short), short, short);
            let mixed: Vec<f32> = square.iter().zip(&fourth).map(|(s, ss)| b * s + c * ss).collect();
            let moved = times(&mixed, Matrix::packed(&x, short), short, long);
            x.iter_mut().zip(moved).for_each(|(x, moved)| *x = a * *x + moved);
        }
        if tall { transposed(&x, short, long) } else { x }
    }
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns * rows).map(|at| values[at % rows * columns + at / rows]).collect()
}

/// `left (rows, ..) times right (.., columns)`, in blocks of rows that do not depend on the number of threads.
fn times(left: &[f32], right: Matrix, rows: usize, columns: usize) -> Vec<f32> {
    const ROWS: usize = 64;
    let inner = left.len() / rows;
    let mut out = vec![0.0; rows * columns];
    out.par_chunks_mut(ROWS * columns).zip(left.par_chunks(ROWS * inner)).for_each(|(out, left)| {
        let rows = left.len() / inner;
        product(MatrixMut::rows(out, rows, columns, columns), &Matrix::packed(left, rows), &right, false);
    });
    out
}
