//! First convolutions of RGB images in models of other channels.

use crate::{
    error::Result,
    tensor::{Tensor, weights::Adapt},
};

/// A file's first convolution, of RGB images, at the model's number of input channels, where only that differs.
pub const ADAPT: Adapt = Adapt { fits, adapt };

/// `(out, 3, kh, kw)` and `(out, channels, kh, kw)`; only a network's first convolution can have three inputs.
fn fits(_: &str, theirs: &[usize], ours: &[usize]) -> bool {
    match (theirs, ours) {
        (&[outputs, 3, ref kernel @ ..], &[ours, inputs, ref window @ ..]) => {
            inputs != 3 && kernel.len() == 2 && outputs == ours && kernel == window
        }
        _ => false,
    }
}

/// timm's `adapt_input_conv`: the kernels of the three colours repeat over the channels, scaled by 3 / channels so that
/// the responses keep their size.
fn adapt(weight: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let channels = shape[1];
    let repeated = Tensor::cat(&vec![weight; channels.div_ceil(3)], 1)?.narrow(1, 0, channels)?;
    Ok((repeated.contiguous()? * (3.0 / channels as f64))?)
}
