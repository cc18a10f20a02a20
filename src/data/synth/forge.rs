//! Forgery traces: what is left in a portrait that somebody changed.

use super::{
    canvas::{Canvas, Rgb},
    face::{Camera, Face, Pose, ellipse, spread},
};
use crate::tensor::{Key, Rng};

/// One way to forge a portrait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Another person's face, pasted in with a soft edge and colours that do not quite match.
    Blended,
    /// Features moved by a local warp.
    Warped,
    /// A region that was scaled down and up again.
    Resampled,
    /// A region with another noise level than the rest.
    Noise,
    /// The checkerboard of a transposed convolution.
    Checkerboard,
}

impl Forgery {
    pub const ALL: [Self; 5] = [Self::Blended, Self::Warped, Self::Resampled, Self::Noise, Self::Checkerboard];

    pub fn name(self) -> &'static str {
        match self {
            Self::Blended => "blended",
            Self::Warped => "warped",
            Self::Resampled => "resampled",
            Self::Noise => "noise",
            Self::Checkerboard => "checkerboard",
        }
    }

    /// The forged `photo` of a head held as `pose` says. At a `strength` of 1 the trace needs looking; it grows in
    /// proportion.
    pub fn apply(self, photo: &Canvas, pose: Pose, strength: f32, key: Key) -> Canvas {
        let mut rng = key.named("forgery").rng();
        let region = Region::draw(pose, photo.side, &mut rng);
        let changed = match self {
            Self::Blended => paste(photo, &region, strength, key, &mut rng),
            Self::Warped => return warp(photo, pose, strength, &mut rng),
            Self::Resampled => resample(photo, 1.0 + strength * spread(&mut rng, 1.6, 0.5)),
            Self::Noise => renoise(photo, strength, &mut rng),
            Self::Checkerboard => checkerboard(photo, strength, &mut rng),
        };
        photo.blend(&changed, |x, y| region.mask(x, y))
    }
}

/// A soft ellipse on the face.
struct Region {
    pose: Pose,
    side: f32,
    centre: (f32, f32),
    radii: (f32, f32),
    softness: f32,
}

impl Region {
    fn draw(pose: Pose, side: usize, rng: &mut Rng) -> Self {
        Self {
            pose,
            side: side as f32,
            centre: (spread(rng, 0.0, 0.1), spread(rng, 0.1, 0.1)),
            radii: (spread(rng, 0.52, 0.08), spread(rng, 0.62, 0.1)),
            softness: spread(rng, 0.1, 0.06),
        }
    }

    fn mask(&self, x: usize, y: usize) -> f32 {
        let (u, v) = self.pose.on_head((x as f32 + 0.5) / self.side, (y as f32 + 0.5) / self.side);
        (0.5 - ellipse(u, v, self.centre, self.radii) / self.softness).clamp(0.0, 1.0)
    }
}

fn paste(photo: &Canvas, region: &Region, strength: f32, key: Key, rng: &mut Rng) -> Canvas {
    let donor = key.named("donor");
    let other = Face::draw(donor).posed(region.pose).photograph(photo.side, &Camera::draw(donor), rng);
    let (here, there) = (photo.mean(|x, y| region.mask(x, y)), other.mean(|x, y| region.mask(x, y)));
    let mismatch: Rgb = std::array::from_fn(|_| strength * spread(rng, 0.0, 0.1));
    other.map(|rgb| std::array::from_fn(|c| rgb[c] * (here[c] / there[c].max(0.02)).clamp(0.4, 2.5) + mismatch[c]))
}

/// Pushes the eyes or the mouth to one side and takes the surroundings along.
fn warp(photo: &Canvas, pose: Pose, strength: f32, rng: &mut Rng) -> Canvas {
    let side = photo.side as f32;
    let feature = [(-0.3, -0.12), (0.3, -0.12), (0.0, 0.5)][rng.below(3)];
    let centre = pose.in_picture(feature.0, feature.1);
    let angle = rng.range(0.0, std::f64::consts::TAU) as f32;
    let push = strength * spread(rng, 0.3, 0.08) * pose.scale;
    let reach = spread(rng, 0.3, 0.05) * pose.scale;
    Canvas::paint(photo.side, |x, y| {
        let (dx, dy) = ((x as f32 + 0.5) / side - centre.0, (y as f32 + 0.5) / side - centre.1);
        let pull = push * (-(dx * dx + dy * dy) / (2.0 * reach * reach)).exp() * side;
        photo.between(x as f32 - pull * angle.cos(), y as f32 - pull * angle.sin())
    })
}

/// Down by `factor` and up again, bilinear both ways.
fn resample(photo: &Canvas, factor: f32) -> Canvas {
    let small = (photo.side as f32 / factor).round().max(2.0);
    let ratio = photo.side as f32 / small;
    let low = Canvas::paint(small as usize, |x, y| {
        photo.between((x as f32 + 0.5) * ratio - 0.5, (y as f32 + 0.5) * ratio - 0.5)
    });
    Canvas::paint(photo.side, |x, y| low.between((x as f32 + 0.5) / ratio - 0.5, (y as f32 + 0.5) / ratio - 0.5))
}

fn renoise(photo: &Canvas, strength: f32, rng: &mut Rng) -> Canvas {
    match rng.chance(0.5) {
        true => photo.blur(strength * spread(rng, 1.1, 0.2)),
        false => photo.noise(strength * spread(rng, 0.065, 0.02), rng),
    }
}

fn checkerboard(photo: &Canvas, strength: f32, rng: &mut Rng) -> Canvas {
    let depth = strength * spread(rng, 0.05, 0.02);
    let pattern: fn(usize, usize) -> bool =
        [|x, y| (x + y) % 2 == 0, |x, _| x % 2 == 0, |_, y| y % 2 == 0, |x, y| (x / 2 + y / 2) % 2 == 0][rng.below(4)];
    Canvas::paint(photo.side, |x, y| {
        let sign = if pattern(x, y) { depth } else { -depth };
        photo.at(x as isize, y as isize).map(|v| v * (1.0 + sign) + 0.3 * sign)
    })
}
