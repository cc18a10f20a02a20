//! The way through a backbone and back: all on one tape, or a segment at a time. Chen et al. 2016, arXiv:1604.06174.

use crate::{
    backbone::{Backbone, Segment},
    error::{Error, Result},
    tensor::{Pass, Tensor},
};
use candle_core::{Var, backprop::GradStore};

/// Pooled features, and what it takes to go on from their gradient.
pub struct Forward<'a> {
    /// `(N, width)`.
    pub features: Tensor,
    pass: Pass,
    /// Each segment with what went into it; empty where the tape reaches back to the images.
    segments: Vec<(Segment<'a>, Tensor)>,
}

impl<'a> Forward<'a> {
    /// Computes the features of images. With `checkpointing` no tape is kept but that of the segment at hand.
    pub fn new(net: &'a dyn Backbone, images: &Tensor, pass: Pass, checkpointing: bool) -> Result<Self> {
        if !checkpointing {
            return Ok(Self { features: net.features(images, &pass)?, pass, segments: Vec::new() });
        }
        let (mut x, mut segments) = (images.clone(), Vec::new());
        for segment in net.segments() {
            let y = segment(&x, &pass)?.detach();
            segments.push((segment, std::mem::replace(&mut x, y)));
        }
        Ok(Self { features: Var::from_tensor(&x)?.into_inner(), pass, segments })
    }

    /// Hands `take` the gradients of the loss, in one store or in one of each segment from the last to the first; no
    /// parameter is in two of them.
    pub fn backward(&self, loss: &Tensor, mut take: impl FnMut(&GradStore) -> Result<()>) -> Result<()> {
        let mut gradients = loss.backward()?;
        take(&gradients)?;
        // What a second time sees is the same, so it does not enter running statistics again.
        let again = Pass { momentum: Some(0.0), ..self.pass };
        let mut end = self.features.clone();
        for (place, (segment, input)) in self.segments.iter().enumerate().rev() {
            let gradient = gradients.remove(&end).ok_or_else(|| Error::bug("a segment without a gradient"))?;
            // No one asks for the gradient of the images.
            let start = if place == 0 { input.clone() } else { Var::from_tensor(input)?.into_inner() };
            gradients = (segment(&start, &again)? * gradient)?.sum_all()?.backward()?;
            take(&gradients)?;
            end = start;
        }
        Ok(())
    }
}
