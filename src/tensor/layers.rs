//! Layers: parameters with torch's shapes and names around the operations of [`super::ops`].

use super::{
    Builder, Init, Pass, Weight,
    ops::{self, Activation, Window},
};
use crate::error::Result;
use candle_core::Tensor;

/// `torch.nn.Conv2d`, without bias unless made with one; weight `(out, in / groups, kernel, kernel)`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Weight,
    bias: Option<Weight>,
    window: Window,
    groups: usize,
}

impl Conv2d {
    pub fn new(b: &Builder, inputs: usize, outputs: usize, window: Window, groups: usize) -> Result<Self> {
        Self::with(b, inputs, outputs, window, groups, Init::KaimingNormalFanOut)
    }

    /// With another initial weight.
    pub fn with(
        b: &Builder,
        inputs: usize,
        outputs: usize,
        window: Window,
        groups: usize,
        weight: Init,
    ) -> Result<Self> {
        let [kh, kw] = window.kernel;
        let weight = b.param("weight", (outputs, inputs / groups, kh, kw), weight)?;
        Ok(Self { weight, bias: None, window, groups })
    }

    /// With a bias, and the initial values of weight and bias.
    pub fn biased(
        b: &Builder,
        inputs: usize,
        outputs: usize,
        window: Window,
        groups: usize,
        [weight, bias]: [Init; 2],
    ) -> Result<Self> {
        let conv = Self::with(b, inputs, outputs, window, groups, weight)?;
        Ok(Self { bias: Some(b.param("bias", outputs, bias)?), ..conv })
    }

    /// `(N, H, W, in)` to `(N, H', W', out)`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let weight = self.weight.get(pass);
        match &self.bias {
            Some(bias) => ops::conv2d_bias(x, &weight, &bias.get(pass), self.window, self.groups),
            None => ops::conv2d(x, &weight, self.window, self.groups),
        }
    }
}

/// `torch.nn.BatchNorm2d`, an optional residual and an activation behind it: `act(bn(x) + residual)`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Weight,
    bias: Weight,
    running_mean: Weight,
    running_var: Weight,
    num_batches_tracked: Weight,
    activation: Activation,
    eps: f64,
}

impl BatchNorm {
    /// torch's share of the newest batch in the running statistics.
    const MOMENTUM: f64 = 0.1;

    pub fn new(b: &Builder, channels: usize, activation: Activation) -> Result<Self> {
        Self::with(b, channels, activation, Init::ONES, 1e-5)
    }

    /// With another initial weight (timm's `zero_init_last`) or eps (the `tf_` models' 1e-3).
    pub fn with(b: &Builder, channels: usize, activation: Activation, weight: Init, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: b.param("weight", channels, weight)?,
            bias: b.param("bias", channels, Init::ZEROS)?,
            running_mean: b.buffer("running_mean", channels, 0.0)?,
            running_var: b.buffer("running_var", channels, 1.0)?,
            num_batches_tracked: b.counter("num_batches_tracked")?,
            activation,
            eps,
        })
    }

    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        self.normalize(x, residual, self.activation, pass)
    }

    /// At the end of a residual branch: `act(drop_path(bn(x)) + shortcut)`, timm's order.
    pub fn forward_residual(&self, x: &Tensor, shortcut: &Tensor, drop_path: &DropPath, pass: &Pass) -> Result<Tensor> {
        if !pass.train || drop_path.rate == 0.0 {
            return self.forward(x, Some(shortcut), pass);
        }
        let y = drop_path.forward(&self.normalize(x, None, Activation::Identity, pass)?, pass)?;
        ops::activate(&ops::add(&y, shortcut)?, self.activation)
    }

    fn normalize(&self, x: &Tensor, residual: Option<&Tensor>, activation: Activation, pass: &Pass) -> Result<Tensor> {
        let (weight, bias) = (self.weight.get(pass), self.bias.get(pass));
        if !pass.train {
            let statistics = (&self.running_mean.get(pass), &self.running_var.get(pass));
            return ops::batch_norm_eval(x, &weight, &bias, statistics, residual, activation, self.eps);
        }
        let (y, mean, var) = ops::batch_norm_train(x, &weight, &bias, residual, activation, self.eps)?;
        let [mean_so_far, var_so_far] = [self.running_mean.var(), self.running_var.var()];
        let running = ops::Running { mean: mean_so_far, var: var_so_far, count: self.num_batches_tracked.var() };
        // The variance is the unbiased one, as in torch.
        ops::track(running, &mean, &var, pass.momentum.unwrap_or(Self::MOMENTUM))?;
        Ok(y)
    }
}

/// `torch.nn.LayerNorm` over the last axis; weight and bias `(C)`, fresh at one and zero.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Weight,
    bias: Weight,
    eps: f64,
}

impl LayerNorm {
    /// timm's vision transformers and ConvNeXt use an `eps` of 1e-6, torch's default is 1e-5.
    pub fn new(b: &Builder, channels: usize, eps: f64) -> Result<Self> {
        let weight = b.param("weight", channels, Init::ONES)?;
        Ok(Self { weight, bias: b.param("bias", channels, Init::ZEROS)?, eps })
    }

    /// `(.., C)` to the same shape.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        ops::layer_norm(x, Some((&self.weight.get(pass), &self.bias.get(pass))), self.eps)
    }
}

/// timm's `GroupNormAct`: `torch.nn.GroupNorm` and an activation behind it; weight and bias `(C)`.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Weight,
    bias: Weight,
    groups: usize,
    activation: Activation,
}

impl GroupNorm {
    const EPS: f64 = 1e-5;

    /// With an initial weight; the bias starts at zero.
    pub fn new(b: &Builder, groups: usize, channels: usize, activation: Activation, weight: Init) -> Result<Self> {
        let weight = b.param("weight", channels, weight)?;
        Ok(Self { weight, bias: b.param("bias", channels, Init::ZEROS)?, groups, activation })
    }

    /// `(N, H, W, C)` to the same shape.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (weight, bias) = (self.weight.get(pass), self.bias.get(pass));
        ops::group_norm(x, self.groups, &weight, &bias, self.activation, Self::EPS)
    }
}

/// `torch.nn.Linear` and an activation behind it; weight `(out, in)`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Weight,
    activation: Activation,
}

impl Linear {
    /// With torch's default initial values.
    pub fn new(b: &Builder, inputs: usize, outputs: usize, activation: Activation) -> Result<Self> {
        let init = Init::torch_default(inputs);
        Self::with(b, inputs, outputs, activation, init, init)
    }

    pub fn with(
        b: &Builder,
        inputs: usize,
        outputs: usize,
        activation: Activation,
        weight: Init,
        bias: Init,
    ) -> Result<Self> {
        let weight = b.param("weight", (outputs, inputs), weight)?;
        Ok(Self { weight, bias: b.param("bias", outputs, bias)?, activation })
    }

    /// `(.., in)` to `(.., out)`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        ops::linear(x, &self.weight.get(pass), &self.bias.get(pass), self.activation)
    }
}

/// `torch.nn.Dropout`: in training, zeroes elements with this probability.
#[derive(Clone, Debug)]
pub struct Dropout {
    rate: f64,
    name: String,
}

impl Dropout {
    /// The builder gives the layer its name, and by it its random numbers.
    pub fn new(b: &Builder, rate: f64) -> Self {
        Self { rate, name: b.prefix().into() }
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match pass.train {
            true => ops::dropout(x, self.rate, pass.draw(&self.name)),
            false => Ok(x.clone()),
        }
    }
}

/// timm's `DropPath`, stochastic depth: in training, zeroes whole samples of a residual branch with this probability.
#[derive(Clone, Debug)]
pub struct DropPath {
    pub(crate) rate: f64,
    name: String,
}

impl DropPath {
    /// The builder gives the layer its name, and by it its random numbers.
    pub fn new(b: &Builder, rate: f64) -> Self {
        Self { rate, name: b.prefix().into() }
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match pass.train {
            true => ops::drop_path(x, self.rate, pass.draw(&self.name)),
            false => Ok(x.clone()),
        }
    }
}
