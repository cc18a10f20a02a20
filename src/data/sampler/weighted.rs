use super::Sampler;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Draws each image by the weight of its class, as `torch.utils.data.WeightedRandomSampler(weights[targets],
/// num_samples)` with replacement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Weighted {
    /// The weight of every image of a class, in the order of the classes.
    #[garde(inner(range(min = 0.0)))]
    #[schemars(inner(range(min = 0.0)))]
    pub weights: Vec<f64>,
    /// Draws an epoch; default: the number of training images.
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_samples: Option<usize>,
}

/// Both of two classes alike.
impl Default for Weighted {
    fn default() -> Self {
        Self { weights: vec![1.0; 2], num_samples: None }
    }
}

impl Sampler for Weighted {
    fn weights(&self, _counts: &[usize]) -> Vec<f64> {
        self.weights.clone()
    }

    fn draws(&self, images: usize) -> usize {
        self.num_samples.unwrap_or(images)
    }

    fn check(&self, counts: &[usize]) -> Result<(), String> {
        match self.weights.len() {
            length if length != counts.len() => {
                Err(format!("`weights` has {length} values, and there are {} classes", counts.len()))
            }
            _ if self.weights.iter().zip(counts).all(|(&weight, &count)| weight == 0.0 || count == 0) => {
                Err("all weights are 0: no image would ever be drawn".into())
            }
            _ => Ok(()),
        }
    }
}
