use super::{
    Augment, Context,
    change::{self, Change},
    frame::{self, PaddingMode},
};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cuts a square out of each image at a random place, after an optional margin. torchvision's `RandomCrop`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomCrop {
    /// Width and height of the crop, in pixels; default: `input.size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    pub size: Option<usize>,
    /// Width of a margin added to every side first, in pixels.
    #[garde(range(min = 0, max = 4096))]
    #[schemars(range(min = 0, max = 4096))]
    pub padding: usize,
    /// Adds a margin where an image is smaller than the crop.
    #[garde(skip)]
    pub pad_if_needed: bool,
    /// Colour of a constant margin, 8-bit RGB.
    #[garde(skip)]
    pub fill: [u8; 3],
    /// What stands in the margin.
    #[garde(skip)]
    pub padding_mode: PaddingMode,
}

impl Augment for RandomCrop {
    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
        let side = self.size.unwrap_or(context.size);
        let wide = size.map(|length| length + 2 * self.padding);
        let margins = [[self.padding; 2], self.needed(wide, side)].into_iter().filter(|margin| *margin != [0, 0]);
        let (mode, fill) = (self.padding_mode, self.fill);
        let mut changes: Vec<Change> = margins.map(|margin| Change::Pad { margin, mode, fill }).collect();
        let [width, height] = change::size_after(&changes, size);
        let y = rng.below(height.saturating_sub(side) + 1);
        let x = rng.below(width.saturating_sub(side) + 1);
        changes.push(Change::Crop { corner: [x, y], size: [side; 2] });
        changes
    }

    fn output_size(&self, size: [usize; 2], target: usize) -> std::result::Result<[usize; 2], String> {
        let side = self.size.unwrap_or(target);
        if !self.pad_if_needed {
            frame::check_crop(size.map(|length| length + 2 * self.padding), side)?;
        }
        Ok([side; 2])
    }
}

impl RandomCrop {
    /// torchvision pads both sides by all that is missing.
    fn needed(&self, size: [usize; 2], side: usize) -> [usize; 2] {
        size.map(|length| if self.pad_if_needed { side.saturating_sub(length) } else { 0 })
    }
}
