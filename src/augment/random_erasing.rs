use super::{Augment, Context, change::Change};
use crate::{
    error::Result,
    tensor::{Image, Rng},
};
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
    /// Boxes of one colour each; of pixels of their own only the CPU knows.
    fn changes(&self, size: [usize; 2], context: &Context, rng: &mut Rng) -> Option<Vec<Change>> {
        let one_colour = self.mode != Filling::Pixel;
        let fill = |[corner, size]: [[usize; 2]; 2], rng: &mut Rng| {
            self.colour(context, rng).map(|colour| Change::Fill { corner, size, colour })
        };
        one_colour.then(|| self.boxes(size, rng, fill).into_iter().flatten().collect())
    }

    fn sample_in(&self, image: &mut Image, context: &Context, rng: &mut Rng) -> Result<()> {
        self.boxes([image.width, image.height], rng, |[corner, size], rng| {
            self.erase(image, corner, size, context, rng);
        });
        Ok(())
    }
}

impl RandomErasing {
    /// What `each` makes of every box that is drawn for an image of this size.
    fn boxes<T>(
        &self,
        size: [usize; 2],
        rng: &mut Rng,
        mut each: impl FnMut([[usize; 2]; 2], &mut Rng) -> T,
    ) -> Vec<T> {
        if !rng.chance(self.p) {
            return Vec::new();
        }
        let count = self.count[0] + rng.below(self.count[1] - self.count[0] + 1);
        (0..count).filter_map(|_| self.part(size, count, rng).map(|part| each(part, rng))).collect()
    }

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
    pub fn erase(&self, image: &mut Image, corner: [usize; 2], size: [usize; 2], context: &Context, rng: &mut Rng) {
        match self.colour(context, rng) {
            Some(colour) => Change::Fill { corner, size, colour }.apply(image),
            None => scatter(image, corner, size, || random_colour(context, rng)),
        }
    }

    /// The colour of a box; `None` where each pixel has its own.
    fn colour(&self, context: &Context, rng: &mut Rng) -> Option<[u8; 3]> {
        match self.mode {
            Filling::Const => Some(self.value.unwrap_or_else(|| context.colour([0.0; 3]))),
            Filling::Rand => Some(random_colour(context, rng)),
            Filling::Pixel => None,
        }
    }
}

/// Standard normal after normalization.
fn random_colour(context: &Context, rng: &mut Rng) -> [u8; 3] {
    context.colour(std::array::from_fn(|_| rng.normal()))
}

fn scatter(image: &mut Image, [x, y]: [usize; 2], [w, h]: [usize; 2], mut colour: impl FnMut() -> [u8; 3]) {
    for row in y..y + h {
        let start = (row * image.width + x) * 3;
        let pixels = image.pixels[start..start + w * 3].as_chunks_mut::<3>().0;
        pixels.iter_mut().for_each(|pixel| *pixel = colour());
    }
}
