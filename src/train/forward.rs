//! The way through a backbone to a loss and back: all on one tape, or a segment at a time. Chen et al. 2016,
//! arXiv:1604.06174.

use crate::{
    backbone::{Backbone, Segment},
    error::{Error, Result},
    tensor::{
        Pass, Tensor,
        ops::{Gradients, Tape, untracked},
    },
};
use candle_core::Var;

/// What the head makes of pooled features.
pub struct Ends {
    /// `(N, classes)`.
    pub logits: Tensor,
    /// A scalar.
    pub loss: Tensor,
    /// What gradients are taken of: the loss, or a multiple of it.
    pub scaled: Tensor,
}

/// What comes of a forward pass and the way back.
pub struct Outcome {
    pub gradients: Gradients,
    /// `(N, classes)`.
    pub logits: Tensor,
    /// A scalar.
    pub loss: Tensor,
}

/// Computes the features of images, what `head` makes of them, and the gradients. With `checkpointing` no tape is kept but
/// that of the segment at hand.
pub fn outcome(
    net: &dyn Backbone,
    images: &Tensor,
    pass: &Pass,
    checkpointing: bool,
    head: impl FnOnce(&Tensor) -> Result<Ends>,
) -> Result<Outcome> {
    if checkpointing {
        return in_segments(net, images, pass, head);
    }
    let mut tape = Tape::default();
    let Ends { logits, loss, scaled } = tape.record(|| head(&net.features(images, pass)?))?;
    Ok(Outcome { gradients: tape.backward(&scaled)?, logits: logits.detach(), loss: loss.detach() })
}

fn in_segments(
    net: &dyn Backbone,
    images: &Tensor,
    pass: &Pass,
    head: impl FnOnce(&Tensor) -> Result<Ends>,
) -> Result<Outcome> {
    let (mut x, mut segments) = (images.clone(), Vec::new());
    for segment in net.segments() {
        let y = untracked(|| segment(&x, pass))?.detach();
        segments.push((segment, std::mem::replace(&mut x, y)));
    }
    let (mut tape, features) = (Tape::default(), Var::from_tensor(&x)?.into_inner());
    let Ends { logits, loss, scaled } = tape.record(|| head(&features))?;
    let mut gradients = tape.backward(&scaled)?;
    go_back(segments, features, pass, &mut gradients)?;
    Ok(Outcome { gradients, logits: logits.detach(), loss: loss.detach() })
}

/// Adds the gradients of segments, each with what went into it, to those of what they led to.
fn go_back(segments: Vec<(Segment, Tensor)>, mut end: Tensor, pass: &Pass, gradients: &mut Gradients) -> Result<()> {
    // What a second time sees is the same, so it does not enter running statistics again.
    let again = Pass { momentum: Some(0.0), ..*pass };
    for (place, (segment, input)) in segments.into_iter().enumerate().rev() {
        let gradient = gradients.remove(&end).ok_or_else(|| Error::bug("a segment without a gradient"))?;
        // No one asks for the gradient of the images.
        let start = if place == 0 { input } else { Var::from_tensor(&input)?.into_inner() };
        let mut tape = Tape::default();
        let y = tape.record(|| segment(&start, &again))?;
        gradients.extend(tape.backward_from(&y, gradient)?);
        end = start;
    }
    Ok(())
}
