//! The greedy soup of a run's best epochs. Wortsman et al. 2022, arXiv:2203.05482.

use super::average::{copies, set};
use crate::{
    error::Result,
    tensor::{DType, Params, Tensor},
};

/// The mean of the sets of weights that were taken so far.
pub struct Soup {
    mean: Vec<Tensor>,
    /// The selected metric of the mean, as a loss.
    loss: f64,
    taken: usize,
}

impl Soup {
    /// Begins with the weights in the model.
    pub fn new(params: &Params, loss: f64) -> Result<Self> {
        Ok(Self { mean: copies(params)?, loss, taken: 1 })
    }

    /// Sets of weights in the mean.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Takes the weights in the model into the mean, which then is in the model, unless `evaluate` finds a higher loss than
    /// without them. Tells whether it did.
    pub fn taste(&mut self, params: &Params, evaluate: impl FnOnce() -> Result<f64>) -> Result<bool> {
        let share = 1.0 / (self.taken + 1) as f64;
        let mean = self.mean.iter().zip(params.iter()).map(|(mean, weight)| -> Result<Tensor> {
            let new = weight.var().as_detached_tensor();
            match new.dtype() {
                DType::I64 => Ok(new.copy()?),
                _ => Ok((mean + ((new - mean)? * share)?)?),
            }
        });
        let mean = mean.collect::<Result<Vec<_>>>()?;
        set(params, &mean)?;
        let loss = evaluate()?;
        if loss > self.loss {
            return Ok(false);
        }
        *self = Self { mean, loss, taken: self.taken + 1 };
        Ok(true)
    }

    /// Puts the mean into the model.
    pub fn serve(&self, params: &Params) -> Result<()> {
        set(params, &self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Builder, Device, Init};

    #[test]
    fn takes_what_does_not_harm_and_leaves_the_rest() {
        let builder = Builder::new(&Device::Cpu, crate::tensor::Key::new(0));
        let weight = builder.param("weight", 2, Init::ZEROS).unwrap();
        let params = builder.params();
        let put = |values: [f32; 2]| weight.var().set(&Tensor::new(&values, &Device::Cpu).unwrap()).unwrap();
        let now = || weight.var().as_detached_tensor().to_vec1::<f32>().unwrap();
        put([1.0, 2.0]);
        let mut soup = Soup::new(&params, 0.5).unwrap();
        put([3.0, 4.0]);
        assert!(soup.taste(&params, || Ok(0.5)).unwrap());
        put([100.0, 0.0]);
        assert!(!soup.taste(&params, || Ok(0.6)).unwrap());
        put([5.0, -3.0]);
        assert!(soup.taste(&params, || Ok(0.4)).unwrap());
        put([9.0, 9.0]);
        assert!(!soup.taste(&params, || Ok(0.45)).unwrap());
        soup.serve(&params).unwrap();
        assert_eq!((soup.taken(), now()), (3, vec![3.0, 1.0]));
    }
}
