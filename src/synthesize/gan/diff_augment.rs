//! Augmentations that gradients flow through, of real and made images alike, so that a discriminator cannot learn a few
//! real images by heart. Zhao et al. 2020, arXiv:2006.10738: `DiffAugment(policy="color,translation")` or less of it.

use crate::{
    error::Result,
    tensor::{
        DType, Rng, Tensor,
        gpu::{Array, Grid, Queue, View, args},
        ops::{Given, Gradient, Known, Op, apply1},
    },
};
use candle_core::{Result as Candle, Shape, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the discriminator sees of an image, real or made. DiffAugment, arXiv:2006.10738.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "DiffAugment")]
pub enum Policy {
    /// The image itself.
    None,
    /// The image moved by up to an eighth of its size.
    #[default]
    Translation,
    /// Moved, and in other colours: for long trainings on very few images. Under random colours it hardly shows that
    /// made images all have the same ones: after 1500 steps the generator makes one and the same image of a class.
    ColorTranslation,
}

/// What happens to one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Added to every value.
    pub brightness: f32,
    /// Factor of the distance to each pixel's mean over the channels.
    pub saturation: f32,
    /// Factor of the distance to the image's mean.
    pub contrast: f32,
    /// Pixels the image moves to the right and down; what comes in is 0.
    pub shift: [i32; 2],
}

impl Policy {
    /// The original's distributions, for images of `size x size`.
    pub fn draw(self, size: usize, rng: &mut Rng) -> Option<Change> {
        let reach = (size as f64 * 0.125 + 0.5) as i32;
        let mut shift = || rng.below(2 * reach as usize + 1) as i32 - reach;
        let moved = Change { brightness: 0.0, saturation: 1.0, contrast: 1.0, shift: [shift(), shift()] };
        match self {
            Self::None => None,
            Self::Translation => Some(moved),
            Self::ColorTranslation => Some(Change {
                brightness: (rng.uniform() - 0.5) as f32,
                saturation: (rng.uniform() * 2.0) as f32,
                contrast: (rng.uniform() + 0.5) as f32,
                ..moved
            }),
        }
    }
}

impl Change {
    /// Colours, which are a symmetric linear map of an image and, forward, a brightness: backward is the same map.
    fn colour(&self, image: &[f32], brightness: f32) -> Vec<f32> {
        let Self { saturation, contrast, .. } = *self;
        let total: f64 = image.iter().map(|&value| f64::from(value)).sum();
        let mean = (total / image.len().max(1) as f64) as f32 + brightness;
        let pixel = |&[r, g, b]: &[f32; 3]| {
            let grey = (r + g + b) / 3.0 + brightness;
            let all = contrast * (1.0 - saturation) * grey + (1.0 - contrast) * mean;
            [r, g, b].map(|value| contrast * saturation * (value + brightness) + all)
        };
        image.as_chunks::<3>().0.iter().flat_map(pixel).collect()
    }

    /// Each target pixel that shows something, with the source pixel it shows.
    fn moves(&self, height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
        let source =
            |at: usize, shift: i32, length: usize| at.checked_add_signed(-shift as isize).filter(|&s| s < length);
        let shift = self.shift;
        (0..height * width).filter_map(move |at| {
            let (x, y) = (at % width, at / width);
            Some((at, source(y, shift[1], height)? * width + source(x, shift[0], width)?))
        })
    }
}

/// `images (N, H, W, 3)`, f32, after one change each.
pub fn diff_augment(images: &Tensor, changes: Vec<Change>) -> Result<Tensor> {
    Ok(apply1(DiffAugment(changes), images)?)
}

struct DiffAugment(Vec<Change>);

impl DiffAugment {
    /// Height and width of as many images as there are changes.
    fn sizes(&self, shape: &Shape) -> Candle<[usize; 2]> {
        match shape.dims4()? {
            (count, height, width, 3) if count == self.0.len() => Ok([height, width]),
            _ => bail!("diff_augment: {} changes for images of {shape:?}", self.0.len()),
        }
    }

    /// Applies `one` to each image of a batch.
    fn each(&self, images: Given, one: impl Fn(&Change, [usize; 2], &[f32]) -> Vec<f32>) -> Candle<Vec<f32>> {
        let [height, width] = self.sizes(images.shape)?;
        let images = images.values.chunks_exact((height * width * 3).max(1));
        Ok(images.zip(&self.0).flat_map(|(image, change)| one(change, [height, width], image)).collect())
    }

    /// On a GPU, or `back` for gradients.
    fn on(&self, queue: &Queue, images: View, back: bool) -> Candle<Array> {
        let ([height, width], out) = (self.sizes(images.shape)?, queue.like(images)?);
        let numbers = |change: &Change| {
            let Change { brightness, saturation, contrast, shift: [right, down] } = *change;
            [brightness, saturation, contrast, right as f32, down as f32]
        };
        let changes = queue.upload(&self.0.iter().flat_map(numbers).collect::<Vec<f32>>())?;
        let arguments = args![images, &changes, &out, height as i32, width as i32, i32::from(back)];
        queue.launch("diff_augment", DType::F32, Grid::blocks([self.0.len(), 1], [256, 1]), arguments)?;
        Ok(out)
    }
}

impl Op<1> for DiffAugment {
    fn name(&self) -> &'static str {
        "diff-augment"
    }

    fn reads(&self) -> [bool; 1] {
        [false]
    }

    fn cpu(&self, [x]: [Given; 1]) -> Candle<(Vec<f32>, Shape)> {
        let y = self.each(x, |change, [h, w], image| {
            let coloured = change.colour(image, change.brightness);
            let mut y = vec![0.0; image.len()];
            change.moves(h, w).for_each(|(to, from)| y[to * 3..][..3].copy_from_slice(&coloured[from * 3..][..3]));
            y
        })?;
        Ok((y, x.shape.clone()))
    }

    fn cpu_gradients(&self, Known { dy, .. }: Known<Given, 1>) -> Candle<[Gradient<Vec<f32>>; 1]> {
        let dx = self.each(dy, |change, [h, w], dy| {
            let mut dx = vec![0.0; dy.len()];
            change.moves(h, w).for_each(|(to, from)| dx[from * 3..][..3].copy_from_slice(&dy[to * 3..][..3]));
            change.colour(&dx, 0.0)
        })?;
        Ok([Gradient::New(dx)])
    }

    fn gpu(&self, queue: &Queue, [x]: [View; 1]) -> Candle<Array> {
        self.on(queue, x, false)
    }

    fn gpu_gradients(&self, queue: &Queue, Known { dy, .. }: Known<View, 1>) -> Candle<[Gradient; 1]> {
        Ok([Gradient::New(self.on(queue, dy, true)?)])
    }
}
