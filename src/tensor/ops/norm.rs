//! Batch normalization with a residual and an activation behind it; group normalization on the same rows.

mod cpu;
mod gpu;
mod group;
mod moments;
mod rows;
mod track;

pub use group::group_norm;
pub use track::{Running, track};

use super::{Activation, activate, add, memory::Values, tape::is_candles};
use crate::{
    error::{Error, Result},
    tensor::{
        gpu::{Array, Queue, View},
        ops::op::{Given, Gradient, Known, Op, apply3, apply4},
    },
};
use candle_core::{Result as Candle, Shape, Tensor};
use cpu::{Back, Host, Map, fresh_input_gradient};
use gpu::Inputs;
use moments::{Moments, sums_of_blocks, total};
use rows::{backward_rows, forward_rows};

/// Training: `act(weight * (x - mean) / sqrt(var + eps) + bias + residual)` with the batch's own statistics over all but
/// the last axis. Returns the output, the batch's mean and its unbiased variance (both `(C)`, off the tape).
pub fn batch_norm_train(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    activation: Activation,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let channels = check(x, &[weight, bias], residual)?;
    let rows = x.elem_count() / channels;
    if rows < 2 {
        return Err(Error::user(format!(
            "batch normalization in training needs more than one value a channel, got {:?}: use a larger batch or image",
            x.dims()
        )));
    }
    let x = x.contiguous()?;
    let (statistics, mean, unbiased) = match Queue::of(&x)? {
        Some(queue) => {
            let (known, unbiased) = gpu::moments(&queue, &x, weight, eps)?;
            let mean = known.mean.clone();
            (Statistics::Device(known), mean, unbiased)
        }
        None => {
            let moments = Moments::of(&Values::of(&x)?, channels);
            let mean = Tensor::from_iter(moments.mean.iter().map(|&mean| mean as f32), x.device())?;
            let share = rows as f64 / (rows - 1) as f64;
            let unbiased = Tensor::from_iter(moments.var.iter().map(|&var| (var * share) as f32), x.device())?;
            (Statistics::Host(moments), mean, unbiased)
        }
    };
    let op = Normalize { statistics, activation, eps };
    Ok((op.apply(&x, weight, bias, residual)?, mean, unbiased))
}

/// Evaluation: the same with given `(mean, var)`. No gradient flows through it.
pub fn batch_norm_eval(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    statistics: (&Tensor, &Tensor),
    residual: Option<&Tensor>,
    activation: Activation,
    eps: f64,
) -> Result<Tensor> {
    check(x, &[weight, bias, statistics.0, statistics.1], residual)?;
    let statistics = match Queue::of(x)? {
        Some(queue) => Statistics::Device(gpu::OnDevice::given(&queue, statistics, weight, eps)?),
        None => {
            let [mean, var] = [statistics.0, statistics.1].map(|tensor| -> Candle<Vec<f64>> {
                Ok(Values::of(tensor)?.iter().map(|&value| f64::from(value)).collect())
            });
            Statistics::Host(Moments { mean: mean?, var: var? })
        }
    };
    let op = Normalize { statistics, activation, eps };
    let (x, residual) = (x.detach(), residual.map(Tensor::detach));
    op.apply(&x, &weight.detach(), &bias.detach(), residual.as_ref())
}

/// The number of channels, when everything fits.
fn check(x: &Tensor, of_channels: &[&Tensor], residual: Option<&Tensor>) -> Result<usize> {
    let channels = x.dims().last().copied().unwrap_or(0);
    let fits = of_channels.iter().all(|tensor| tensor.dims() == [channels])
        && residual.is_none_or(|residual| residual.dims() == x.dims());
    match fits && channels > 0 {
        true => Ok(channels),
        false => Err(Error::bug(format!(
            "batch normalization of {:?}: weights {:?}, residual {:?}",
            x.dims(),
            of_channels.iter().map(|tensor| tensor.dims()).collect::<Vec<_>>(),
            residual.map(Tensor::dims)
        ))),
    }
}

/// The operation on the tape: of `x`, weight, bias, and the residual where there is one.
struct Normalize {
    statistics: Statistics,
    activation: Activation,
    eps: f64,
}

/// Mean and biased variance of each channel, where the operation is computed.
enum Statistics {
    Host(Moments),
    Device(gpu::OnDevice),
}

impl Statistics {
    fn on_device(&self) -> Candle<&gpu::OnDevice> {
        match self {
            Self::Device(known) => Ok(known),
            Self::Host(_) => candle_core::bail!("batch normalization changed devices between its passes"),
        }
    }
}

impl Normalize {
    fn apply(self, x: &Tensor, weight: &Tensor, bias: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        match residual {
            None => Ok(apply3(self, [x, weight, bias])?),
            // Candle's tape has no operation of four.
            Some(residual) if is_candles([x, weight, bias, residual]) => {
                let plain = Self { activation: Activation::Identity, ..self };
                activate(&add(&apply3(plain, [x, weight, bias])?, residual)?, self.activation)
            }
            Some(residual) => Ok(apply4(self, [x, weight, bias, residual])?),
        }
    }

    fn host(&self) -> Candle<Host<'_>> {
        match &self.statistics {
            Statistics::Host(moments) => Ok(Host { moments, activation: self.activation, eps: self.eps }),
            Statistics::Device(_) => candle_core::bail!("batch normalization changed devices between its passes"),
        }
    }
}

impl Op<3> for Normalize {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu(&self, [x, weight, bias]: [Given; 3]) -> Candle<(Vec<f32>, Shape)> {
        let y = self.host()?.forward(x.values, [weight.values, bias.values], None);
        Ok((y, x.shape.clone()))
    }

    fn cpu_gradients(&self, Known { inputs, dy, needs, .. }: Known<Given, 3>) -> Candle<[Gradient<Vec<f32>>; 3]> {
        let [dx, dweight, dbias, _] = self.host()?.gradients(inputs, None, dy, [needs[0], false]);
        Ok([dx, dweight, dbias])
    }

    fn gpu(&self, queue: &Queue, [x, weight, bias]: [View; 3]) -> Candle<Array> {
        self.gpu_forward(queue, Inputs { x, affine: [weight, bias], residual: None })
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 3>) -> Candle<[Gradient; 3]> {
        let Known { inputs: [x, weight, bias], dy, needs, .. } = known;
        let inputs = Inputs { x, affine: [weight, bias], residual: None };
        let [dx, dweight, dbias, _] = self.gpu_backward(queue, inputs, dy, [needs[0], false])?;
        Ok([dx, dweight, dbias])
    }
}

impl Op<4> for Normalize {
    fn name(&self) -> &'static str {
        "batch-norm-residual"
    }

    fn cpu(&self, [x, weight, bias, residual]: [Given; 4]) -> Candle<(Vec<f32>, Shape)> {
        let y = self.host()?.forward(x.values, [weight.values, bias.values], Some(residual.values));
        Ok((y, x.shape.clone()))
    }

    fn cpu_gradients(&self, known: Known<Given, 4>) -> Candle<[Gradient<Vec<f32>>; 4]> {
        let Known { inputs: [x, weight, bias, residual], dy, needs, .. } = known;
        Ok(self.host()?.gradients([x, weight, bias], Some(residual), dy, [needs[0], needs[3]]))
    }

    fn gpu(&self, queue: &Queue, [x, weight, bias, residual]: [View; 4]) -> Candle<Array> {
        self.gpu_forward(queue, Inputs { x, affine: [weight, bias], residual: Some(residual) })
    }

    fn gpu_gradients(&self, queue: &Queue, known: Known<View, 4>) -> Candle<[Gradient; 4]> {
        let Known { inputs: [x, weight, bias, residual], dy, needs, .. } = known;
        let inputs = Inputs { x, affine: [weight, bias], residual: Some(residual) };
        self.gpu_backward(queue, inputs, dy, [needs[0], needs[3]])
    }
}
