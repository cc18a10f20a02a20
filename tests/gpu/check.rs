//! One body for every operation: its GPU side against its CPU side, values and gradients, in each type.

use crate::device::on_gpu;
use candle_core::{DType, Device, Tensor, Var};
use runner::{
    error::Result,
    tensor::{Key, ops::Tape},
};

/// The types activations may have on a GPU, and how far from the CPU's f32 values and gradients may be: relative to the
/// largest one.
pub const TYPES: [(DType, f64); 3] = [(DType::F32, 1e-4), (DType::BF16, 2e-2), (DType::F16, 4e-3)];

/// What an input is: an activation takes the type at hand, a parameter stays f32.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    Activation(&'a [usize]),
    Parameter(&'a [usize]),
}

use Input::{Activation, Parameter};

impl Input<'_> {
    fn dims(&self) -> &[usize] {
        match self {
            Activation(dims) | Parameter(dims) => dims,
        }
    }
}

/// Runs `op` on random inputs on the CPU in f32 and on the GPU in every type, and compares the outputs and the gradients of
/// all inputs.
pub fn same_on_gpu(inputs: &[Input], op: impl Fn(&[Tensor]) -> Result<Tensor>) {
    for (dtype, tolerance) in TYPES {
        // Rounded to the type first, so that both sides see the same numbers.
        let values: Vec<Tensor> = inputs.iter().enumerate().map(|(i, input)| random(input, i, dtype)).collect();
        let (y, gradients) = run(&values, (DType::F32, &Device::Cpu), inputs, &op);
        let (gpu_y, gpu_gradients) = on_gpu(|device| run(&values, (dtype, device), inputs, &op));
        close(&gpu_y, &y, tolerance, &format!("{dtype:?}: the output"));
        for (i, (ours, expected)) in gpu_gradients.iter().zip(&gradients).enumerate() {
            close(ours, expected, tolerance, &format!("{dtype:?}: the gradient of input {i}"));
        }
    }
}

fn random(input: &Input, which: usize, dtype: DType) -> Tensor {
    let mut rng = Key::new(7).with(which as u64).rng();
    let count = input.dims().iter().product();
    let values: Vec<f32> = (0..count).map(|_| rng.uniform() as f32 * 2.0 - 1.0).collect();
    let values = Tensor::from_vec(values, input.dims(), &Device::Cpu).unwrap();
    match input {
        Activation(_) => values.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap(),
        Parameter(_) => values,
    }
}

/// The output and the gradients of all inputs, of a loss that weighs each element of the output differently.
fn run(
    values: &[Tensor],
    (dtype, device): (DType, &Device),
    inputs: &[Input],
    op: &impl Fn(&[Tensor]) -> Result<Tensor>,
) -> (Tensor, Vec<Tensor>) {
    let given = |(value, input): (&Tensor, &Input)| match input {
        Activation(_) => Var::from_tensor(&value.to_device(device).unwrap().to_dtype(dtype).unwrap()).unwrap(),
        Parameter(_) => Var::from_tensor(&value.to_device(device).unwrap()).unwrap(),
    };
    let vars: Vec<Var> = values.iter().zip(inputs).map(given).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let mut tape = Tape::default();
    let y = tape.record(|| op(&tensors)).unwrap();
    let weights = random(&Activation(y.dims()), 99, dtype).to_device(device).unwrap().to_dtype(y.dtype()).unwrap();
    let gradients = tape.backward_from(&y, weights).unwrap();
    let gradient = |var: &Var| gradients.get(var).map_or(var.zeros_like().unwrap(), Tensor::clone);
    (y.detach(), vars.iter().map(gradient).collect())
}

pub fn close(ours: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(ours.dims(), expected.dims(), "{what} has another shape");
    let [ours, expected] = [ours, expected].map(|tensor| {
        tensor
            .to_device(&Device::Cpu)
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    });
    let largest = expected.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
    for (at, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        let off = f64::from((ours - expected).abs() / largest);
        assert!(off <= tolerance, "{what} at {at}: {ours} and not {expected}");
    }
}
