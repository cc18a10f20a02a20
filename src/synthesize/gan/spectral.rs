//! Spectral normalization. Miyato et al. 2018, arXiv:1802.05957; as `torch.nn.utils.parametrizations.spectral_norm`.

use crate::{
    error::Result,
    tensor::{
        Builder, DType, Device, Init, Pass, Tensor, Weight,
        gpu::{Array, Factor, Grid, Product, Queue, View, args},
        ops::{Given, Gradient, Known, Op, apply1},
    },
};
use candle_core::{Result as Candle, Shape};

/// Guards a division by the length of a vector.
const EPS: f64 = 1e-12;
/// Power iterations before the first step.
const FIRST: usize = 15;

/// A weight that is divided by its largest singular value, which one power iteration a pass follows.
#[derive(Debug)]
pub struct Normalized {
    weight: Weight,
    /// Left and right singular vector: `(out)` and the rest of the weight's shape, flat. Saved, not trained.
    left: Weight,
    right: Weight,
}

impl Normalized {
    /// A weight of this shape, output channels first, starting as `init` says.
    pub fn new(b: &Builder, shape: &[usize], init: Init) -> Result<Self> {
        let (out, rest) = (shape[0], shape[1..].iter().product::<usize>());
        let b = b.pp("parametrizations.weight");
        let weight = b.param("original", shape, init)?;
        let vector = |name: &str, length: usize| -> Result<Weight> {
            let vector = b.pp(0).param(name, length, Init::Normal { std: 1.0 })?;
            vector.set_frozen(true);
            Ok(vector)
        };
        let this = Self { weight, left: vector("_u", out)?, right: vector("_v", rest)? };
        for vector in [&this.left, &this.right] {
            to_unit(vector)?;
        }
        for _ in 0..FIRST {
            this.iterate()?;
        }
        Ok(this)
    }

    /// The normalized weight, on the tape where `pass` trains. Every call makes a power iteration, as torch's does
    /// while its module trains; gradients are to be computed before the next one.
    pub fn get(&self, pass: &Pass) -> Result<Tensor> {
        let sigma = self.iterate()?;
        let [left, right] = [&self.left, &self.right].map(|vector| vector.var().as_detached_tensor());
        Ok(apply1(Spectral { sigma, left, right }, &self.weight.get(pass))?)
    }

    /// Brings both vectors closer to the singular ones. Returns the singular value `u^T W v` that they make.
    fn iterate(&self) -> Result<Tensor> {
        match Queue::of(self.weight.var())? {
            Some(queue) => self.iterate_on(&queue),
            None => self.iterate_here(),
        }
    }

    fn iterate_here(&self) -> Result<Tensor> {
        let weight = self.weight.var().as_detached_tensor().flatten_from(1)?;
        let right = self.right.var().as_detached_tensor().unsqueeze(1)?;
        let left = unit(&weight.matmul(&right)?)?;
        let right = unit(&weight.t()?.matmul(&left)?)?;
        self.left.var().set(&left.squeeze(1)?)?;
        self.right.var().set(&right.squeeze(1)?)?;
        let left = self.left.var().as_detached_tensor().unsqueeze(0)?;
        Ok(left.matmul(&weight)?.matmul(&self.right.var().as_detached_tensor().unsqueeze(1)?)?)
    }

    /// Where nothing is read back: the singular value is the length of the right vector before it is made 1.
    fn iterate_on(&self, queue: &Queue) -> Result<Tensor> {
        let [weight, left, right] = [&self.weight, &self.left, &self.right].map(|weight| queue.view(weight.var()));
        let (weight, left, right) = (weight?, left?, right?);
        let (out, rest) = (left.count(), right.count());
        let matrix = Factor::rows(weight.address, rest);
        let product = |sizes, matrix, vector: View, to| {
            queue.matmul(&Product::one(sizes, [matrix, Factor::rows(vector.address, 1)], to, DType::F32))
        };
        let sigma = queue.array((), DType::F32)?;
        product([out, 1, rest], matrix, right, left)?;
        unit_on(queue, left, None)?;
        product([rest, 1, out], matrix.turned(), left, right)?;
        unit_on(queue, right, Some(&sigma))?;
        Ok(sigma.into_tensor())
    }
}

/// A vector at length 1. `torch.nn.functional.normalize`.
fn unit(vector: &Tensor) -> Result<Tensor> {
    let length = f64::from(vector.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
    Ok((vector / length.max(EPS))?)
}

/// The same in place, its length before going to `length`.
fn unit_on(queue: &Queue, vector: View, length: Option<&Array>) -> Candle<()> {
    queue.launch("unit", DType::F32, Grid::blocks([1, 1], [256, 1]), args![vector, length, vector.count()])
}

fn to_unit(vector: &Weight) -> Result<()> {
    match Queue::of(vector.var())? {
        Some(queue) => Ok(unit_on(&queue, queue.view(vector.var())?, None)?),
        None => Ok(vector.var().set(&unit(&vector.var().as_detached_tensor())?)?),
    }
}

/// A weight `(out, ..)` divided by `sigma = left^T weight right`; the vectors are taken for constants.
struct Spectral {
    sigma: Tensor,
    left: Tensor,
    right: Tensor,
}

/// Blocks that share a sum: fixed, so that its bits do not depend on the device.
const PARTS: usize = 256;

impl Op<1> for Spectral {
    fn name(&self) -> &'static str {
        "spectral-norm"
    }

    fn cpu(&self, [weight]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let sigma = number(&self.sigma)?;
        Ok((weight.values.iter().map(|weight| weight / sigma).collect(), weight.shape.clone()))
    }

    fn cpu_gradients(&self, Known { inputs: [weight], dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let (sigma, left, right) = (number(&self.sigma)?, self.left.to_vec1::<f32>()?, self.right.to_vec1::<f32>()?);
        let (weight, dy) = (weight.values, dy.values);
        let slopes: Vec<f32> = weight.iter().zip(dy).map(|(weight, dy)| -(dy * weight / (sigma * sigma))).collect();
        let slope: f32 = Tensor::from_vec(slopes, weight.len(), &Device::Cpu)?.sum_all()?.to_scalar()?;
        let inner: Vec<f32> = right.iter().map(|right| slope * right).collect();
        let row = |(left, dy): (&f32, &[f32])| -> Vec<f32> {
            dy.iter().zip(&inner).map(|(dy, inner)| dy / sigma + left * inner).collect()
        };
        Ok([Gradient::New(left.iter().zip(dy.chunks_exact(right.len().max(1))).flat_map(row).collect())])
    }

    fn gpu(&self, queue: &Queue, [weight]: [View; 1]) -> Candle<Array> {
        let y = queue.like(weight)?;
        let arguments = args![weight, queue.view(&self.sigma)?, &y, weight.count()];
        queue.launch("divide", DType::F32, Grid::over(weight.count()), arguments)?;
        Ok(y)
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 1>) -> Candle<[Gradient; 1]> {
        let Known { inputs: [weight], dy, .. } = known;
        let (dx, count) = (queue.like(weight)?, weight.count());
        let parts = Grid::blocks([PARTS, 1], [256, 1]);
        let partial = queue.array(PARTS, DType::F32)?;
        queue.launch("product_sums", DType::F32, parts, args![weight, dy, &partial, count])?;
        let (sigma, left, right) = (queue.view(&self.sigma)?, queue.view(&self.left)?, queue.view(&self.right)?);
        let arguments = args![dy, &partial, sigma, left, right, &dx, PARTS, count, right.count()];
        queue.launch("spectral_gradient", DType::F32, Grid::over(count), arguments)?;
        Ok([Gradient::New(dx)])
    }
}

fn number(scalar: &Tensor) -> Candle<f32> {
    scalar.flatten_all()?.get(0)?.to_scalar()
}
