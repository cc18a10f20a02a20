//! `backbone`: the model and where its weights start.

use super::UsePretrained;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A CNN's feature map as the tokens of a vision transformer, in place of its patches; each half has its own pretrained
/// weights. Dosovitskiy et al. 2020, arXiv:2010.11929.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct HybridSpec {
    /// timm's name of the CNN, with or without a tag: `resnet18`.
    #[garde(skip)]
    pub cnn: String,
    /// The stage whose map is taken: at stage 1 its side is a quarter of the image's, and half of that at each further one.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub stage: usize,
    /// timm's name of the vision transformer, with or without a tag: `vit_tiny_patch16_224`.
    #[garde(skip)]
    pub vit: String,
}

/// The model and where its weights start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct BackboneSpec {
    /// timm's name, with or without a tag: `resnet18`, `efficientnet_b1.ft_in1k`.
    #[garde(skip)]
    pub name: String,
    /// In place of `name`: a hybrid of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub hybrid: Option<HybridSpec>,
    /// Starts from timm's pretrained weights: true, false or "if_available".
    #[garde(skip)]
    pub pretrained: UsePretrained,
    /// Starts from this safetensors file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub weights: Option<String>,
    /// Dropout in front of the classifier.
    #[garde(range(min = 0.0, max = 0.999))]
    #[schemars(range(min = 0.0, max = 0.999))]
    pub drop_rate: f64,
    /// Largest rate of stochastic depth.
    #[garde(range(min = 0.0, max = 0.999))]
    #[schemars(range(min = 0.0, max = 0.999))]
    pub drop_path: f64,
    /// Keeps only what goes into each block, and computes the rest again on the way back: much less memory for about a
    /// third more time, and the same numbers. Chen et al. 2016, arXiv:1604.06174.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[garde(skip)]
    pub grad_checkpointing: bool,
}

impl Default for BackboneSpec {
    fn default() -> Self {
        Self {
            name: "resnet18".into(),
            hybrid: None,
            pretrained: UsePretrained::No,
            weights: None,
            drop_rate: 0.0,
            drop_path: 0.0,
            grad_checkpointing: false,
        }
    }
}
