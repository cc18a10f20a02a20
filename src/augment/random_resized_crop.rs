use super::{Augment, Context, change::Change};
use crate::tensor::{Interpolation, Rng};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cuts out a random part of random area and shape and resizes it. torchvision's `RandomResizedCrop`; Szegedy et al. 2014,
/// arXiv:1409.4842.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResizedCrop {
    /// Width and height after resizing, in pixels; default: `input.size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    pub size: Option<usize>,
    /// Least and largest share of the image's area.
    #[garde(inner(range(min = 1e-6, max = 1.0)), custom(super::limits::ordered))]
    #[schemars(inner(range(min = 1e-6, max = 1.0)))]
    pub scale: [f64; 2],
    /// Least and largest width by height.
    #[garde(inner(range(min = 1e-3, max = 1e3)), custom(super::limits::ordered))]
    #[schemars(inner(range(min = 1e-3, max = 1e3)))]
    pub ratio: [f64; 2],
    /// Pillow's filter, antialiased.
    #[garde(skip)]
    pub interpolation: Interpolation,
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self { size: None, scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], interpolation: Interpolation::Bilinear }
    }
}

impl Augment for RandomResizedCrop {
    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
        let side = self.size.unwrap_or(context.size);
        let [corner, size] = self.part(size, rng);
        vec![Change::Crop { corner, size }, Change::Resize([side; 2], self.interpolation)]
    }

    fn output_size(&self, _: [usize; 2], target: usize) -> std::result::Result<[usize; 2], String> {
        Ok([self.size.unwrap_or(target); 2])
    }
}

impl RandomResizedCrop {
    /// The corner and the size of a part: ten tries, then the middle part of the nearest allowed shape, as torchvision.
    pub fn part(&self, [width, height]: [usize; 2], rng: &mut Rng) -> [[usize; 2]; 2] {
        let area = (width * height) as f64;
        for _ in 0..10 {
            let area = area * rng.range(self.scale[0], self.scale[1]);
            let ratio = rng.range(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            let [w, h] = [(area * ratio).sqrt(), (area / ratio).sqrt()].map(|side| side.round_ties_even() as usize);
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let y = rng.below(height - h + 1);
                return [[rng.below(width - w + 1), y], [w, h]];
            }
        }
        let shape = width as f64 / height as f64;
        let (w, h) = match shape {
            _ if shape < self.ratio[0] => (width, (width as f64 / self.ratio[0]).round_ties_even() as usize),
            _ if shape > self.ratio[1] => ((height as f64 * self.ratio[1]).round_ties_even() as usize, height),
            _ => (width, height),
        };
        let (w, h) = (w.clamp(1, width), h.clamp(1, height));
        [[(width - w) / 2, (height - h) / 2], [w, h]]
    }
}
