use super::{
    Candle, Optimizer, Slot, Step, Tensors,
    adam::{Decay, Numbers},
    elementwise, norm,
};
use crate::tensor::{
    gpu::{Arg, Array, Factor, Grid, Product, args},
    ops::matrix::{Matrix, MatrixMut, product},
};
use candle_core::DType;
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
            return self.fallback(step).update(parameter, gradient, slots);
        };
        let [new, keep, size] = self.numbers(step, rows, columns);
        elementwise(parameter, gradient, [&mut *mean], |p, g, [m]| (p, [m + new * (g - m)]));
        let direction = self.orthogonal(mean, rows, columns);
        elementwise(parameter, &direction, [], |p, d, []| (keep * p - size * d, []));
    }

    fn gpu(&self, step: &Step, tensors: &Tensors) -> Candle<()> {
        match matrix(step.shape) {
            Some((rows, columns)) => {
                let numbers = self.numbers(step, rows, columns);
                self.orthogonal_step(&Matrices::new(tensors, rows, columns)?, numbers)
            }
            None => self.fallback(step).gpu(tensors),
        }
    }

    fn matrix(&self, shape: &[usize]) -> Option<(usize, usize)> {
        matrix(shape)
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
    /// AdamW's step.
    fn fallback(&self, step: &Step) -> Numbers {
        let step = Step { lr: step.lr * self.fallback_lr_scale, ..*step };
        let decay = Decay { l2: 0.0, keep: 1.0 - step.lr * step.weight_decay };
        Numbers::new(&step, self.betas, self.eps, decay)
    }

    /// The gradient's share in its mean, what is kept of the parameter, and how far it moves.
    fn numbers(&self, step: &Step, rows: usize, columns: usize) -> [f32; 3] {
        let new = 1.0 - step.momentum.unwrap_or(self.momentum);
        let size = step.lr * 0.2 * (rows.max(columns) as f64).sqrt();
        [new, 1.0 - step.lr * step.weight_decay, size].map(|value| value as f32)
    }

    fn coefficients(&self) -> impl Iterator<Item = [f32; 3]> {
        (0..self.ns_steps).map(|at| COEFFICIENTS[at.min(COEFFICIENTS.len() - 1)])
    }

    /// The nearest matrix with orthonormal rows or columns, roughly: a Newton-Schulz iteration `x = a x + (b s + c s s) x`
    /// with `s = x x'`, on the wide one of the matrix and its transpose.
    fn orthogonal(&self, values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let tall = rows > columns;
        let (short, long) = if tall { (columns, rows) } else { (rows, columns) };
        let size = norm(values.len(), |i| values[i]).max(self.eps) as f32;
        let mut x: Vec<f32> = if tall { transposed(values, rows, columns) } else { values.to_vec() };
        x.iter_mut().for_each(|value| *value /= size);
        for [a, b, c] in self.coefficients() {
            let square = times(&x, Matrix::packed(&x, short).transposed(), short, short);
            let fourth = times(&square, Matrix::packed(&square, short), short, short);
            let mixed: Vec<f32> = square.iter().zip(&fourth).map(|(s, ss)| b * s + c * ss).collect();
            let moved = times(&mixed, Matrix::packed(&x, short), short, long);
            x.iter_mut().zip(moved).for_each(|(x, moved)| *x = a * *x + moved);
        }
        if tall { transposed(&x, short, long) } else { x }
    }
}

/// Matrices of one size on a GPU.
struct Matrices<'a> {
    tensors: &'a Tensors<'a>,
    /// One after another, row after row.
    x: Array,
    rows: usize,
    columns: usize,
}

impl Muon {
    /// The step of many matrices at once.
    fn orthogonal_step(&self, matrices: &Matrices, [new, keep, size]: [f32; 3]) -> Candle<()> {
        let Matrices { tensors, x, .. } = matrices;
        let sums = tensors.queue().array(tensors.part.blocks, DType::F32)?;
        tensors.launch("muon_means", args![&sums, new])?;
        tensors.launch("muon_start", args![&sums, x, tensors.part.first, self.eps as f32])?;
        let mut from = x.view().address;
        let other = tensors.queue().array(x.view().shape.clone(), DType::F32)?;
        let mut to = other.view().address;
        for coefficients in self.coefficients() {
            matrices.iterate(from, to, coefficients)?;
            std::mem::swap(&mut from, &mut to);
        }
        tensors.launch("muon_step", &[Arg::Address(from), tensors.part.first.into(), keep.into(), size.into()])
    }
}

impl<'a> Matrices<'a> {
    fn new(tensors: &'a Tensors, rows: usize, columns: usize) -> Candle<Self> {
        let x = tensors.queue().array((tensors.part.count, rows, columns), DType::F32)?;
        Ok(Self { tensors, x, rows, columns })
    }

    /// One Newton-Schulz iteration, `to = (a + b s + c s s) x` with `s = x x'` of the matrices `x` at `from`; of tall ones
    /// the transposes, from the right.
    fn iterate(&self, from: u64, to: u64, [a, b, c]: [f32; 3]) -> Candle<()> {
        let (tall, short) = (self.rows > self.columns, self.rows.min(self.columns));
        let (queue, count) = (self.tensors.queue(), self.tensors.part.count);
        let square = || queue.array((count, short, short), DType::F32);
        let [first, second, mixed] = [square()?, square()?, square()?];
        let of = |array: &Array| Factor::rows(array.view().address, short).every(short * short);
        let x = |address: u64| Factor::rows(address, self.columns).every(self.rows * self.columns);
        let (left, right) = if tall { (x(from).turned(), x(from)) } else { (x(from), x(from).turned()) };
        self.product([left, right, of(&first)], [short, self.rows.max(self.columns), short])?;
        self.product([of(&first), of(&first), of(&second)], [short; 3])?;
        let elements = count * short * short;
        let arguments = args![&first, &second, &mixed, elements, short, a, b, c];
        queue.launch("muon_mix", DType::F32, Grid::over(elements), arguments)?;
        let factors = if tall { [x(from), of(&mixed), x(to)] } else { [of(&mixed), x(from), x(to)] };
        self.product(factors, [self.rows, short, self.columns])
    }

    fn product(&self, [a, b, out]: [Factor; 3], [rows, inner, columns]: [usize; 3]) -> Candle<()> {
        let (dtype, batch) = (DType::F32, self.tensors.part.count);
        let product = Product { rows, columns, inner, a, b, out, dtype, out_dtype: dtype, add: false, batch };
        self.tensors.queue().matmul(&product)
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
