use super::{Augment, Context, change::Change, frame};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cuts out the middle of each image. torchvision's `CenterCrop`, for images that are at least this large.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct CenterCrop {
    /// Width and height of the crop, in pixels; default: `input.size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    pub size: Option<usize>,
}

impl Augment for CenterCrop {
    fn changes(&self, _: [usize; 2], context: &Context, _: &mut Rng) -> Vec<Change> {
        vec![Change::CenterCrop(self.size.unwrap_or(context.size))]
    }

    fn output_size(&self, size: [usize; 2], target: usize) -> std::result::Result<[usize; 2], String> {
        let side = self.size.unwrap_or(target);
        frame::check_crop(size, side).map(|()| [side; 2])
    }
}
