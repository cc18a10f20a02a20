//! How an operation is held against a reference: the same function of f64 vectors, differentiated numerically.

use candle_core::{Device, Tensor, Var};
use runner::{
    error::Result,
    tensor::{Key, ops::Tape},
};

/// One input of an operation.
#[derive(Clone, Debug)]
pub struct Input {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Standard normal numbers.
pub fn normal(shape: &[usize], seed: u64) -> Input {
    let mut rng = Key::new(seed).rng();
    let count = shape.iter().product();
    Input { shape: shape.to_vec(), values: (0..count).map(|_| rng.normal() as f32).collect() }
}

impl Input {
    pub fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        self.values.iter_mut().for_each(|value| *value = f(*value));
        self
    }

    pub fn tensor(&self) -> Tensor {
        Tensor::from_slice(&self.values, self.shape.as_slice(), &Device::Cpu).unwrap()
    }

    fn exact(&self) -> Vec<f64> {
        self.values.iter().map(|&value| value.into()).collect()
    }
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Output, then the gradient of `sum(y * dy)` for each input, by the library; `dy` is drawn.
pub fn run(inputs: &[Input], op: impl Fn(&[Tensor]) -> Result<Tensor>) -> (Vec<f32>, Vec<f32>, Vec<Vec<f32>>) {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(&input.tensor()).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let mut tape = Tape::default();
    let y = tape.record(|| op(&tensors)).unwrap();
    let dy = normal(y.dims(), 99);
    let gradients = tape.backward_from(&y, dy.tensor()).unwrap();
    let gradients = vars.iter().map(|var| values(gradients.get(var).expect("a gradient"))).collect();
    (values(&y), dy.values, gradients)
}

/// Holds values and gradients of `op` against `reference` at `tolerance`, relative to the largest number of each.
pub fn check(
    name: &str,
    tolerance: f64,
    inputs: &[Input],
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let (y, dy, gradients) = run(inputs, op);
    let mut at: Vec<Vec<f64>> = inputs.iter().map(Input::exact).collect();
    close(&format!("{name}: values"), tolerance, &y, &reference(&at));
    for (i, gradient) in gradients.iter().enumerate() {
        let numeric: Vec<f64> = (0..at[i].len()).map(|j| slope(&mut at, (i, j), &dy, &reference)).collect();
        close(&format!("{name}: gradient of input {i}"), tolerance, gradient, &numeric);
    }
}

/// The derivative of `sum(reference * dy)` by element `j` of input `i`.
fn slope(at: &mut [Vec<f64>], (i, j): (usize, usize), dy: &[f32], reference: &impl Fn(&[Vec<f64>]) -> Vec<f64>) -> f64 {
    const STEP: f64 = 1e-5;
    let middle = at[i][j];
    let mut weighted = |value: f64| -> f64 {
        at[i][j] = value;
        reference(at).iter().zip(dy).map(|(y, &dy)| y * f64::from(dy)).sum()
    };
    let difference = weighted(middle + STEP) - weighted(middle - STEP);
    at[i][j] = middle;
    difference / (2.0 * STEP)
}

pub fn close(name: &str, tolerance: f64, ours: &[f32], expected: &[f64]) {
    assert_eq!(ours.len(), expected.len(), "{name}: the number of elements");
    let scale = expected.iter().fold(1e-2, |most: f64, value| most.max(value.abs()));
    for (i, (&ours, &expected)) in ours.iter().zip(expected).enumerate() {
        let error = (f64::from(ours) - expected).abs() / scale;
        assert!(error <= tolerance, "{name}, element {i}: {ours} instead of {expected} (scale {scale})");
    }
}
