use super::Sampler;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Draws rare classes as often as common ones, or part of the way: a class of n images is drawn in proportion to n to
/// the power of `q`. Kang et al. 2020, arXiv:1910.09217.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Balanced {
    /// 0 makes all classes equally frequent, 0.5 is square-root sampling, 1 leaves the frequencies as they are.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub q: f64,
}

impl Sampler for Balanced {
    fn weights(&self, counts: &[usize]) -> Vec<f64> {
        counts.iter().map(|&count| (count.max(1) as f64).powf(self.q - 1.0)).collect()
    }
}
