//! Noise and a class to an image: a DCGAN generator (Radford et al. 2016, arXiv:1511.06434) with nearest upsampling in
//! place of transposed convolutions, whose checkerboards a detector of fakes would learn (Odena et al. 2016).

use super::{COARSEST, channels, levels};
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor, Weight,
        layers::{BatchNorm, Conv2d, Linear},
        ops::{self, Activation, Window},
    },
};

/// DCGAN's initial weights.
const START: Init = Init::Normal { std: 0.02 };

#[derive(Debug)]
pub struct Generator {
    /// `(classes, embedding)`, concatenated to the noise as in BigGAN's first layer.
    classes: Weight,
    project: Linear,
    first: BatchNorm,
    blocks: Vec<(Conv2d, BatchNorm)>,
    paint: Conv2d,
    paint_bias: Weight,
    /// Channels of the coarsest map.
    coarse: usize,
}

impl Generator {
    /// From `noise` numbers to `size x size` pixels; `width` channels at the finest map.
    pub fn new(b: &Builder, noise: usize, classes: usize, size: usize, width: usize) -> Result<Self> {
        let relu = Activation::Relu;
        let coarse = channels(size, width, COARSEST);
        let pixels = COARSEST * COARSEST * coarse;
        let block = |level: usize| -> Result<(Conv2d, BatchNorm)> {
            let (b, side) = (b.pp("blocks").pp(level), COARSEST << level);
            let [from, to] = [side, 2 * side].map(|side| channels(size, width, side));
            let conv = Conv2d::with(&b.pp("conv"), from, to, Window::square(3, 1, 1), 1, START)?;
            Ok((conv, BatchNorm::new(&b.pp("norm"), to, relu)?))
        };
        Ok(Self {
            classes: b.param("classes.weight", (classes, noise), Init::Normal { std: 1.0 })?,
            project: Linear::with(&b.pp("project"), 2 * noise, pixels, Activation::Identity, START, Init::ZEROS)?,
            first: BatchNorm::new(&b.pp("first"), coarse, relu)?,
            blocks: (0..levels(size)).map(block).collect::<Result<_>>()?,
            paint: Conv2d::with(&b.pp("paint"), width, 3, Window::square(3, 1, 1), 1, START)?,
            paint_bias: b.pp("paint").param("bias", 3, Init::ZEROS)?,
            coarse,
        })
    }

    /// `noise (N, noise)` and one-hot `classes (N, classes)` to images `(N, size, size, 3)` between -1 and 1.
    pub fn forward(&self, noise: &Tensor, classes: &Tensor, pass: &Pass) -> Result<Tensor> {
        let embedded = ops::matmul(classes, &self.classes.get(pass))?;
        let x = self.project.forward(&ops::join(noise, &embedded)?, pass)?;
        let x = ops::reshape(&x, (noise.dim(0)?, COARSEST, COARSEST, self.coarse))?;
        let mut x = self.first.forward(&x, None, pass)?;
        for (conv, norm) in &self.blocks {
            x = conv.forward(&ops::upsample_nearest2x(&x)?, pass)?;
            x = norm.forward(&x, None, pass)?;
        }
        tanh(&ops::bias(&self.paint.forward(&x, pass)?, &self.paint_bias.get(pass), Activation::Identity)?)
    }
}

fn tanh(x: &Tensor) -> Result<Tensor> {
    ops::affine(&ops::activate(&ops::affine(x, 2.0, 0.0)?, Activation::Sigmoid)?, 2.0, -1.0)
}
