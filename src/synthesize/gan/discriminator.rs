//! How real an image of a class looks: strided convolutions under spectral normalization, and a projection of the class
//! onto the features. Miyato & Koyama 2018, arXiv:1802.05637.

use super::{COARSEST, channels, levels, spectral::Normalized};
use crate::{
    error::Result,
    tensor::{
        Builder, Init, Pass, Tensor, Weight,
        ops::{self, Activation, Window},
    },
};

#[derive(Debug)]
pub struct Discriminator {
    layers: Vec<Layer>,
    score: Normalized,
    score_bias: Weight,
    classes: Normalized,
}

#[derive(Debug)]
struct Layer {
    weight: Normalized,
    bias: Weight,
    window: Window,
}

impl Layer {
    fn new(b: &Builder, inputs: usize, outputs: usize, window: Window) -> Result<Self> {
        let [h, w] = window.kernel;
        let init = Init::torch_default(inputs * h * w);
        let weight = Normalized::new(b, &[outputs, inputs, h, w], init)?;
        Ok(Self { weight, bias: b.param("bias", outputs, Init::ZEROS)?, window })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let x = ops::conv2d(x, &self.weight.get(pass)?, self.window, 1)?;
        ops::leaky_relu(&ops::bias(&x, &self.bias.get(pass), Activation::Identity)?, SLOPE, GAIN)
    }
}

/// Below zero, a value keeps this share.
const SLOPE: f64 = 0.2;
/// Spectral normalization lets no layer enlarge anything, so that behind a few of them an image hardly shows any more,
/// and the generator is told little but to make one and the same. This gives each layer back what it loses.
const GAIN: f64 = 2.0;

impl Discriminator {
    /// Of `size x size` images; `width` channels at the finest map.
    pub fn new(b: &Builder, classes: usize, size: usize, width: usize) -> Result<Self> {
        let down = |level: usize| -> Result<Layer> {
            let side = size >> level;
            let [from, to] = [side, side / 2].map(|side| channels(size, width, side));
            Layer::new(&b.pp("layers").pp(level + 1), from, to, Window::square(4, 2, 1))
        };
        let first = Layer::new(&b.pp("layers").pp(0), 3, width, Window::square(3, 1, 1))?;
        let layers = std::iter::once(Ok(first)).chain((0..levels(size)).map(down)).collect::<Result<_>>()?;
        let features = channels(size, width, COARSEST);
        Ok(Self {
            layers,
            score: Normalized::new(&b.pp("score"), &[1, features], Init::torch_default(features))?,
            score_bias: b.pp("score").param("bias", 1, Init::ZEROS)?,
            classes: Normalized::new(&b.pp("classes"), &[classes, features], Init::Normal { std: 1.0 })?,
        })
    }

    /// Images `(N, size, size, 3)` and one-hot `classes (N, classes)` to scores `(N)`.
    ///
    /// `pass` decides whether its parameters are on the tape; the power iterations go on either way.
    pub fn forward(&self, images: &Tensor, classes: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mut x = images.clone();
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
        }
        let features = ops::affine(&ops::global_avg_pool(&x)?, (COARSEST * COARSEST) as f64, 0.0)?;
        let score = ops::linear(&features, &self.score.get(pass)?, &self.score_bias.get(pass), Activation::Identity)?;
        let likeness = ops::dot(&ops::matmul(classes, &self.classes.get(pass)?)?, &features)?;
        ops::add(&ops::reshape(&score, likeness.dims())?, &likeness)
    }
}
