//! The sizes of one convolution, checked once.

use crate::{
    error::{Error, Result},
    tensor::ops::Window,
};

/// A convolution whose sizes fit together: `groups` divides both channel counts, stride and dilation are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub batch: usize,
    /// `[height, width]` of the input.
    pub input: [usize; 2],
    /// `[height, width]` of the output.
    pub output: [usize; 2],
    pub inputs: usize,
    pub outputs: usize,
    pub groups: usize,
    pub window: Window,
}

/// Floats of an image: places in it are kept as u32.
const MOST_FLOATS: usize = 1 << 31;

impl Geometry {
    /// Of an input `(N, H, W, in)` and a weight `(out, in / groups, kh, kw)`.
    pub fn new(x: &[usize], weight: &[usize], window: Window, groups: usize) -> Result<Self> {
        let misfit =
            |why: &str| Error::bug(format!("conv2d of x {x:?} with weight {weight:?}, {groups} groups: {why}"));
        let (&[batch, height, width, inputs], &[outputs, per_group, kh, kw]) = (x, weight) else {
            return Err(misfit("x must be (N, H, W, in) and weight (out, in / groups, kh, kw)"));
        };
        if groups == 0 || inputs == 0 || outputs == 0 || inputs != per_group * groups || outputs % groups != 0 {
            return Err(misfit("the channels do not divide into these groups"));
        }
        if window.kernel != [kh, kw] || [window.kernel, window.stride, window.dilation].concat().contains(&0) {
            return Err(misfit(&format!("{window:?} does not fit the weight")));
        }
        if height == 0 || width == 0 {
            return Err(misfit("an image has no pixels"));
        }
        if height.saturating_mul(width).saturating_mul(inputs) > MOST_FLOATS {
            return Err(misfit("one image is too large"));
        }
        let input = [height, width];
        Ok(Self { batch, input, output: window.output(input), inputs, outputs, groups, window })
    }

    pub fn output_shape(&self) -> (usize, usize, usize, usize) {
        (self.batch, self.output[0], self.output[1], self.outputs)
    }

    /// Input channels of one group.
    pub fn group_inputs(&self) -> usize {
        self.inputs / self.groups
    }

    /// Output channels of one group.
    pub fn group_outputs(&self) -> usize {
        self.outputs / self.groups
    }

    /// Positions of the kernel.
    pub fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Whether every output pixel sees the input pixel at its own place, and no other.
    pub fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.window.stride == [1, 1] && self.window.padding == [0, 0]
    }

    /// Floats of one input image.
    pub fn input_image(&self) -> usize {
        self.input[0] * self.input[1] * self.inputs
    }

    /// Pixels of one output image.
    pub fn output_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Whether there is no output, and so only zero gradients.
    pub fn is_empty(&self) -> bool {
        self.batch * self.output_pixels() == 0
    }

    /// Where the kernel's position `tap` on an axis sees output position `at`; `None` in the padding.
    pub fn source(&self, axis: usize, at: usize, tap: usize) -> Option<usize> {
        let window = &self.window;
        let padded = at * window.stride[axis] + tap * window.dilation[axis];
        padded.checked_sub(window.padding[axis]).filter(|&position| position < self.input[axis])
    }
}
