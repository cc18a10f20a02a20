use super::{Augment, Context, change::Change, frame::PaddingMode};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adds a margin to each image, so that a crop behind it can move. torchvision's `Pad`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Pad {
    /// Width of the margin on every side, in pixels. torchvision has no default.
    #[garde(range(min = 0, max = 4096))]
    #[schemars(range(min = 0, max = 4096))]
    pub padding: usize,
    /// Colour of a constant margin, 8-bit RGB.
    #[garde(skip)]
    pub fill: [u8; 3],
    /// What stands in the margin.
    #[garde(skip)]
    pub padding_mode: PaddingMode,
}

impl Default for Pad {
    fn default() -> Self {
        Self { padding: 4, fill: [0; 3], padding_mode: PaddingMode::Constant }
    }
}

impl Augment for Pad {
    fn changes(&self, _: [usize; 2], _: &Context, _: &mut Rng) -> Vec<Change> {
        vec![Change::Pad { margin: [self.padding; 2], mode: self.padding_mode, fill: self.fill }]
    }

    fn output_size(&self, size: [usize; 2], _: usize) -> std::result::Result<[usize; 2], String> {
        Ok(size.map(|side| side + 2 * self.padding))
    }
}
