//! Progressive resizing.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Progressive resizing: training images start small and grow to `input.size`; validation images always have it. Howard
/// 2018 (fastai); Tan & Le 2021 (EfficientNetV2), arXiv:2104.00298.
///
/// The smaller sizes take equal shares of the first `until` of the epochs, `input.size` the rest. Images are resized as
/// Pillow does, by `input.interpolation`, in front of every augmentation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Progressive {
    /// The first side, in pixels: grows over the multiples of 32 below `input.size`.
    #[garde(inner(range(min = 8, max = 4096)))]
    #[schemars(range(min = 8, max = 4096))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<usize>,
    /// The sides themselves, in pixels, growing, in place of `from`; `input.size` follows unless it is the last.
    #[garde(inner(inner(range(min = 8, max = 4096))))]
    #[schemars(inner(range(min = 8, max = 4096)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Vec<usize>>,
    /// The share of the epochs after which images have `input.size`; default: every size takes the same share.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<f64>,
}

impl Progressive {
    /// The sides below `full` that training goes through, in pixels.
    pub fn smaller(&self, full: usize) -> Vec<usize> {
        match (&self.sizes, self.from) {
            (Some(sizes), _) => sizes.iter().copied().filter(|&size| size < full).collect(),
            (None, Some(from)) => {
                let above = (from / 32 + 1) * 32;
                std::iter::once(from).chain((above..).step_by(32)).take_while(|&size| size < full).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// The side of the training images of an epoch, counted from 0, in pixels.
    pub fn size(&self, epoch: u32, epochs: u32, full: usize) -> usize {
        let smaller = self.smaller(full);
        let until = self.until.unwrap_or(smaller.len() as f64 / (smaller.len() + 1) as f64);
        // A boundary that falls on an epoch must not be missed by a rounding error.
        let stage = (f64::from(epoch) + 1e-6) * smaller.len() as f64 / (f64::from(epochs) * until);
        smaller.get(stage as usize).copied().unwrap_or(full)
    }

    /// What is wrong with it for images that end at `full` pixels.
    pub fn check(&self, full: usize) -> Result<(), String> {
        if let (Some(_), Some(_)) = (self.from, &self.sizes) {
            return Err("give either `from` or `sizes`".into());
        }
        let sizes = self.sizes.clone().unwrap_or_default();
        if let Some(pair) = sizes.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("`sizes` must grow, and {} stands before {}", pair[0], pair[1]));
        }
        match sizes.last().copied().or(self.from) {
            None => Err("it needs `from` or `sizes`".into()),
            Some(largest) if largest > full => Err(format!("{largest} is above input.size = {full}")),
            Some(_) if self.smaller(full).is_empty() => Err(format!("no size is below input.size = {full}")),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(text: &str, epochs: u32, full: usize) -> Vec<usize> {
        let progressive: Progressive = toml::from_str(text).unwrap();
        assert_eq!(progressive.check(full), Ok(()));
        (0..epochs).map(|epoch| progressive.size(epoch, epochs, full)).collect()
    }

    #[test]
    fn sizes_take_their_shares() {
        assert_eq!(course("sizes = [96, 128, 160]", 6, 160), [96, 96, 128, 128, 160, 160]);
        assert_eq!(course("sizes = [96, 128]", 3, 160), [96, 128, 160]);
        assert_eq!(course("from = 128\nuntil = 0.6", 10, 224), [128, 128, 160, 160, 192, 192, 224, 224, 224, 224]);
        assert_eq!(course("from = 100", 4, 192), [100, 128, 160, 192]);
        assert_eq!(course("from = 16\nuntil = 1.0", 2, 24), [16, 16]);
        assert_eq!(course("from = 16\nuntil = 0.0", 2, 24), [24, 24]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, why) in [
            ("until = 0.5", "needs"),
            ("from = 64\nsizes = [64]", "either"),
            ("sizes = [96, 64]", "grow"),
            ("sizes = [96, 512]", "above"),
            ("from = 160", "below"),
        ] {
            let progressive: Progressive = toml::from_str(text).unwrap();
            assert!(progressive.check(160).unwrap_err().contains(why), "{text}");
        }
    }
}
