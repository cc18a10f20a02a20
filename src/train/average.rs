//! Exponential moving average of the weights, as timm's `ModelEmaV3`: buffers are averaged too, counters copied.

use crate::{
    error::Result,
    spec::Ema,
    tensor::{
        DType, Params, Tensor, Weight,
        safetensors::{Array, Stored},
    },
};
pub struct Average {
    spec: Ema,
    /// In the order of the model's parameters.
    values: Vec<Tensor>,
}

/// The trained values, set aside while the averaged ones are in the model.
pub struct Trained(Vec<Tensor>);

impl Average {
    /// Starts at the model's values.
    pub fn new(spec: &Ema, params: &Params) -> Result<Self> {
        Ok(Self { spec: spec.clone(), values: copies(params)? })
    }

    /// Takes the values after this step (from 1) in.
    pub fn update(&mut self, params: &Params, step: u64) -> Result<()> {
        let keep = match self.spec.warmup {
            true => self.spec.decay.min((1.0 + step as f64) / (10.0 + step as f64)),
            false => self.spec.decay,
        };
        for (value, weight) in self.values.iter_mut().zip(params.iter()) {
            let new = weight.var().as_detached_tensor();
            *value = match new.dtype() {
                DType::I64 => new.copy()?,
                _ => ((&*value * keep)? + (new * (1.0 - keep))?)?,
            };
        }
        Ok(())
    }

    /// Puts the averaged values into the model; give the returned ones back with [`Trained::restore`].
    pub fn swap_in(&self, params: &Params) -> Result<Trained> {
        let trained = Trained(copies(params)?);
        set(params, &self.values)?;
        Ok(trained)
    }

    /// Every averaged value: `ema:layer1.0.conv1.weight`, ..
    pub fn arrays(&self, params: &Params) -> Result<Vec<Array<'static>>> {
        let named = params.iter().zip(&self.values);
        named.map(|(weight, value)| Array::of_tensor(average_name(weight), value)).collect()
    }

    /// Takes back what [`Average::arrays`] gave.
    pub fn restore(&mut self, params: &Params, stored: &Stored) -> Result<()> {
        for (value, weight) in self.values.iter_mut().zip(params.iter()) {
            *value = stored.tensor(&average_name(weight))?.to_dtype(value.dtype())?.to_device(value.device())?;
        }
        Ok(())
    }
}

fn average_name(weight: &Weight) -> String {
    format!("ema:{}", weight.name())
}

impl Trained {
    pub fn restore(self, params: &Params) -> Result<()> {
        set(params, &self.0)
    }
}

fn copies(params: &Params) -> Result<Vec<Tensor>> {
    params.iter().map(|weight| Ok(weight.var().as_detached_tensor().copy()?)).collect()
}

fn set(params: &Params, values: &[Tensor]) -> Result<()> {
    params.iter().zip(values).try_for_each(|(weight, value)| Ok(weight.var().set(value)?))
}
