use super::{
    Augment, Context,
    change::Change,
    span::{Span, within},
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Blurs the image with a Gaussian of random width. torchvision's `GaussianBlur`, to one level of rounding; the default
/// of `kernel_size` is this program's, as torchvision has none, and so is `p`, which at 1 is torchvision's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct GaussianBlur {
    /// Side of the kernel, in pixels; odd.
    #[garde(range(min = 1, max = 1023), custom(odd))]
    #[schemars(range(min = 1, max = 1023))]
    pub kernel_size: usize,
    /// Standard deviation in pixels, or the two of `[low, high]` to draw between.
    #[garde(custom(within(1e-3, 1e3)))]
    pub sigma: Span<f64>,
    /// Probability of the blur.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
}

impl Default for GaussianBlur {
    fn default() -> Self {
        Self { kernel_size: 9, sigma: Span::Between([0.1, 2.0]), p: 1.0 }
    }
}

fn odd(size: &usize, _: &()) -> garde::Result {
    if size % 2 == 1 { Ok(()) } else { Err(garde::Error::new("must be odd")) }
}

impl Augment for GaussianBlur {
    fn changes(&self, _: [usize; 2], _: &Context, rng: &mut Rng) -> Vec<Change> {
        let kernel_size = self.kernel_size;
        let blur = rng.chance(self.p).then(|| Change::Blur { kernel_size, sigma: self.sigma.draw(rng) });
        blur.into_iter().collect()
    }

    fn check(&self, input_size: usize) -> std::result::Result<(), String> {
        let (size, most) = (self.kernel_size, 2 * input_size.max(1) - 1);
        if size <= most {
            return Ok(());
        }
        Err(format!("kernel_size is {size}, and images of {input_size} pixels allow at most {most}"))
    }
}
