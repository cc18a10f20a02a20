//! Spectral normalization. Miyato et al. 2018, arXiv:1802.05957; as `torch.nn.utils.parametrizations.spectral_norm`.

use crate::{
    error::Result,
    tensor::{Builder, Init, Pass, Tensor, Weight},
};

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
            vector.var().set(&unit(&vector.var().as_detached_tensor())?)?;
        }
        this.iterate(FIRST)?;
        Ok(this)
    }

    /// The normalized weight, on the tape where `pass` trains. Every call makes a power iteration, as torch's does
    /// while its module trains.
    pub fn get(&self, pass: &Pass) -> Result<Tensor> {
        self.iterate(1)?;
        let weight = self.weight.get(pass);
        let sigma = self.sigma(&weight)?;
        Ok(weight.broadcast_div(&sigma)?)
    }

    /// `u^T W v` of the current vectors: a scalar with as many dimensions of size 1 as the weight has.
    fn sigma(&self, weight: &Tensor) -> Result<Tensor> {
        let left = self.left.var().as_detached_tensor().unsqueeze(0)?;
        let right = self.right.var().as_detached_tensor().unsqueeze(1)?;
        let sigma = left.matmul(&weight.flatten_from(1)?)?.matmul(&right)?;
        Ok(sigma.reshape(vec![1; weight.rank()])?)
    }

    fn iterate(&self, times: usize) -> Result<()> {
        let weight = self.weight.var().as_detached_tensor().flatten_from(1)?;
        for _ in 0..times {
            let right = self.right.var().as_detached_tensor().unsqueeze(1)?;
            let left = unit(&weight.matmul(&right)?)?;
            let right = unit(&weight.t()?.matmul(&left)?)?;
            self.left.var().set(&left.squeeze(1)?)?;
            self.right.var().set(&right.squeeze(1)?)?;
        }
        Ok(())
    }
}

/// A vector at length 1. `torch.nn.functional.normalize`.
fn unit(vector: &Tensor) -> Result<Tensor> {
    let length = f64::from(vector.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
    Ok((vector / length.max(EPS))?)
}
