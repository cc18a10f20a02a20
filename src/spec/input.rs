//! `input`: what happens to every image before a network sees it.

use crate::data::{Channels, Interpolation};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to every image, training and validation alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// Width and height of what the model sees, in pixels; images are resized to it unless `load_size` is given.
    #[garde(range(min = 8, max = 4096))]
    #[schemars(range(min = 8, max = 4096))]
    pub size: usize,
    /// Width and height that images are resized to and cached at; augmentations see them at this size, and where none
    /// crops, as in validation and prediction, the middle `size` pixels are taken. timm's `crop_pct` is `size / load_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 8, max = 4096)))]
    #[schemars(range(min = 8, max = 4096))]
    pub load_size: Option<usize>,
    /// Pillow's filter, always antialiased.
    #[garde(skip)]
    pub interpolation: Interpolation,
    /// What the network sees of an image: its colours, or something computed from them.
    #[serde(skip_serializing_if = "Channels::is_rgb")]
    #[garde(skip)]
    pub channels: Channels,
    /// Subtracted from each channel after scaling to 0..1; default: the backbone's pretrained configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub mean: Option<[f32; 3]>,
    /// Divides each channel after that; default: the backbone's pretrained configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(range(min = 1e-6))))]
    #[schemars(inner(range(min = 1e-6)))]
    pub std: Option<[f32; 3]>,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            size: 224,
            load_size: None,
            interpolation: Interpolation::default(),
            channels: Channels::Rgb,
            mean: None,
            std: None,
        }
    }
}

impl Input {
    /// Width and height of decoded images, before augmentation and cropping.
    pub fn loaded(&self) -> usize {
        self.load_size.unwrap_or(self.size)
    }

    /// The same for a model that sees another size of the same part of the picture.
    pub fn loaded_for(&self, size: usize) -> usize {
        (self.loaded() * size).div_ceil(self.size)
    }
}
