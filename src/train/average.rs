//! Averages of the weights: exponential, as timm's `ModelEmaV3` (buffers are averaged too, counters copied), or the plain
//! mean over epochs, as torch's `AveragedModel` (buffers are copied and batch normalization's statistics taken anew).

use super::{ahead::ahead, batches::Batches};
use crate::{
    backbone::Model,
    error::Result,
    spec::{
        RunSpec,
        recipe::{Ema, Swa},
    },
    tensor::{
        DType, Key, Params, Pass, Tensor, Weight,
        gpu::{Averages, Queue},
        ops::untracked,
        safetensors::{Array, Stored},
    },
};

/// An average of a run's weights.
pub struct Average {
    kind: Kind,
    /// In the order of the model's parameters.
    values: Vec<Tensor>,
    /// Made at the first step on a GPU.
    gpu: Option<Averages>,
}

enum Kind {
    Ema(Ema),
    Swa(Swa),
}

/// The trained values, set aside while the averaged ones are in the model.
pub struct Trained(Vec<Tensor>);

impl Average {
    /// The specification's average, where it has one; it starts at the model's values.
    pub fn new(spec: &RunSpec, params: &Params) -> Result<Option<Self>> {
        let kind = match (&spec.ema, &spec.swa) {
            (Some(ema), _) => Kind::Ema(ema.clone()),
            (None, Some(swa)) => Kind::Swa(swa.clone()),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { kind, values: copies(params)?, gpu: None }))
    }

    /// Takes the values after this step (from 1) into an exponential average.
    pub fn after_step(&mut self, params: &Params, step: u64) -> Result<()> {
        let Kind::Ema(ema) = &self.kind else { return Ok(()) };
        let keep = match ema.warmup {
            true => ema.decay.min((1.0 + step as f64) / (10.0 + step as f64)),
            false => ema.decay,
        };
        if let Some(queue) = self.values.first().map(Queue::of).transpose()?.flatten() {
            let gpu = match &mut self.gpu {
                Some(gpu) => gpu,
                none => none.insert(Averages::new(&queue, &self.values)?),
            };
            let news: Vec<&Tensor> = params.iter().map(|weight| weight.var().as_tensor()).collect();
            return Ok(gpu.follow(&self.values, &news, keep)?);
        }
        for (value, weight) in self.values.iter_mut().zip(params.iter()) {
            let new = weight.var().as_detached_tensor();
            *value = match new.dtype() {
                DType::I64 => new.copy()?,
                _ => ((&*value * keep)? + (new * (1.0 - keep))?)?,
            };
        }
        Ok(())
    }

    /// Takes the values at the end of this epoch (from 1) into a plain average.
    pub fn after_epoch(&mut self, params: &Params, epoch: u32) -> Result<()> {
        let Kind::Swa(swa) = &self.kind else { return Ok(()) };
        if !swa.takes(epoch) {
            return Ok(());
        }
        let share = 1.0 / f64::from(swa.averaged(epoch));
        for (value, weight) in self.values.iter_mut().zip(params.iter()) {
            let new = weight.var().as_detached_tensor();
            *value = match weight.is_buffer() || share == 1.0 {
                true => new.copy()?,
                false => (&*value + ((new - &*value)? * share)?)?,
            };
        }
        Ok(())
    }

    /// Whether there is anything in the average at the end of this epoch.
    pub fn ready(&self, epoch: u32) -> bool {
        match &self.kind {
            Kind::Ema(_) => true,
            Kind::Swa(swa) => swa.averaged(epoch) > 0,
        }
    }

    /// Takes batch normalization's statistics of the averaged weights, which are in the model, from the training images of
    /// this epoch (from 1): the mean over its batches, as torch's `update_bn`. An exponential average has its own.
    pub fn take_statistics(&self, model: &Model, batches: &Batches, epoch: u32, key: Key) -> Result<()> {
        let normalized = model.params.iter().any(|weight| weight.name().ends_with("running_mean"));
        if matches!(self.kind, Kind::Ema(_)) || !normalized {
            return Ok(());
        }
        let epoch = epoch.saturating_sub(1);
        let order = batches.order(epoch);
        let chunks: Vec<_> = (0..batches.steps_per_epoch()).flat_map(|step| batches.chunks(&order, step)).collect();
        let key = key.named("statistics").with(epoch.into());
        ahead(
            chunks.len(),
            |place| batches.prepare(&chunks[place], epoch),
            |place, batch| {
                let seen = place as u64 + 1;
                let pass = Pass { momentum: Some(1.0 / seen as f64), ..Pass::train(key.with(seen)) };
                let images = batches.upload(&batch)?.images;
                untracked(|| model.net.features(&images, &pass))?;
                Ok(())
            },
        )
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
    /// Puts the trained values back into the model.
    pub fn restore(self, params: &Params) -> Result<()> {
        set(params, &self.0)
    }
}

/// Every parameter's value, copied.
pub fn copies(params: &Params) -> Result<Vec<Tensor>> {
    params.iter().map(|weight| Ok(weight.var().as_detached_tensor().copy()?)).collect()
}

/// Puts values into every parameter, in the order of [`copies`].
pub fn set(params: &Params, values: &[Tensor]) -> Result<()> {
    params.iter().zip(values).try_for_each(|(weight, value)| Ok(weight.var().set(value)?))
}
