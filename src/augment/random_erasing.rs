use super::{Augment, Context, byte_colour, change::Change};
use crate::tensor::Rng;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Erases random boxes of an image. timm's `RandomErasing`, torchvision's with `mode = "const"`; Zhong et al. 2017,
/// arXiv:1708.04896. Both erase normalized images; here the same values are written back into the 8-bit image, so that
/// what the model sees differs only by rounding, and by clipping of random colours that no 8-bit image can hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RandomErasing {
    /// Probability that an image is changed.
    #[garde(range(min = 0.0, max = 1.0))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Least and largest share of the image's area, all boxes together.
    #[garde(inner(range(min = 0.0, max = 1.0)), custom(super::limits::ordered))]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub scale: [f64; 2],
    /// Least and largest height by width of a box.
    #[garde(inner(range(min = 1e-3, max = 1e3)), custom(super::limits::ordered))]
    #[schemars(inner(range(min = 1e-3, max = 1e3)))]
    pub ratio: [f64; 2],
    /// What a box is filled with.
    #[garde(skip)]
    pub mode: Filling,
    /// Colour of `mode = "const"`, 8-bit RGB; default: `input.mean`, which is 0 after normalization.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub value: Option<[u8; 3]>,
    /// Least and largest number of boxes.
    #[garde(inner(range(min = 1, max = 1000)), custom(super::limits::ordered))]
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub count: [usize; 2],
}

/// What an erased box is filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filling {
    /// One colour.
    #[default]
    Const,
    /// A colour of its own for each box, standard normal after normalization.
    Rand,
    /// A colour of its own for each pixel, standard normal after normalization.
    Pixel,
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self {
            p: 0.5,
            scale: [0.02, 1.0 / 3.0],
            ratio: [0.3, 1.0 / 0.3],
            mode: Filling::Const,
            value: None,
            count: [1, 1],
        }
    }
}

impl Augment for RandomErasing {
    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Vec<Change> {
        if !rng.chance(self.p) {
            return Vec::new();
        }
        let count = self.count[0] + rng.below(self.count[1] - self.count[0] + 1);
        (0..count)
            .filter_map(|_| self.part(size, count, rng).map(|[corner, size]| self.erase(corner, size, context, rng)))
            .collect()
    }
}

impl RandomErasing {
    /// The corner and the size of a box, one of `count`; `None` where ten tries found none that fits.
    pub fn part(&self, [width, height]: [usize; 2], count: usize, rng: &mut Rng) -> Option<[[usize; 2]; 2]> {
        (0..10).find_map(|_| {
            let area = rng.range(self.scale[0], self.scale[1]) * (width * height) as f64 / count as f64;
            let ratio = rng.range(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            let [h, w] = [(area * ratio).sqrt(), (area / ratio).sqrt()].map(|side| side.round_ties_even() as usize);
            (w < width && h < height).then(|| {
                let y = rng.below(height - h + 1);
                [[rng.below(width - w + 1), y], [w, h]]
            })
        })
    }

    /// Fills a box that lies within the image.
    pub fn erase(&self, corner: [usize; 2], size: [usize; 2], context: &Context, rng: &mut Rng) -> Change {
        let colours = Colours { mean: context.mean, std: context.std };
        let colour = match self.mode {
            Filling::Const => self.value.unwrap_or_else(|| context.colour([0.0; 3])),
            Filling::Rand => colours.draw(rng),
            Filling::Pixel => {
                let start = rng.clone();
                rng.skip_normals(size[0] * size[1] * 3);
                return Change::Scatter { corner, size, colours, rng: start };
            }
        };
        Change::Fill { corner, size, colour }
    }
}

/// Random colours: standard normal after normalization by these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colours {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Colours {
    pub fn draw(&self, rng: &mut Rng) -> [u8; 3] {
        byte_colour(std::array::from_fn(|_| rng.normal()), self.mean, self.std)
    }
}
