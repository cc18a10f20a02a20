//! A procedural portrait: background, shoulders, hair, a shaded head with eyes, nose and mouth, seen by a camera.

use super::canvas::{Canvas, Field, Rgb, mix};
use crate::tensor::{Key, Rng};

/// Where the head is: what two portraits must share for one to be pasted into the other.
#[derive(Clone, Copy)]
pub struct Pose {
    pub centre: (f32, f32),
    /// Half the head's height, in parts of the picture's side.
    pub scale: f32,
    pub tilt: f32,
}

impl Pose {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            centre: (spread(rng, 0.5, 0.05), spread(rng, 0.5, 0.04)),
            scale: spread(rng, 0.38, 0.04),
            tilt: spread(rng, 0.0, 0.2),
        }
    }

    /// Where a point of the picture (0 to 1) lies on the head: the face is `u` -0.74 to 0.74, `v` -1 (top) to 1 (chin).
    pub fn on_head(&self, x: f32, y: f32) -> (f32, f32) {
        let (x, y) = ((x - self.centre.0) / self.scale, (y - self.centre.1) / self.scale);
        let (sin, cos) = self.tilt.sin_cos();
        (x * cos + y * sin, y * cos - x * sin)
    }

    /// Where a point of the head lies in the picture.
    pub fn in_picture(&self, u: f32, v: f32) -> (f32, f32) {
        let (sin, cos) = self.tilt.sin_cos();
        (self.centre.0 + self.scale * (u * cos - v * sin), self.centre.1 + self.scale * (v * cos + u * sin))
    }
}

/// Everything a portrait shows.
pub struct Face {
    pub pose: Pose,
    skin: Rgb,
    hair: Rgb,
    iris: Rgb,
    lips: Rgb,
    clothes: Rgb,
    background: [Rgb; 2],
    background_angle: f32,
    light: [f32; 3],
    ambient: f32,
    jaw: f32,
    eyes: Eyes,
    mouth: Mouth,
    nose: f32,
    hairline: f32,
    hair_length: f32,
    texture: [Field; 3],
    blobs: Field,
}

struct Eyes {
    apart: f32,
    height: f32,
    open: f32,
    gaze: (f32, f32),
    brow: f32,
}

struct Mouth {
    height: f32,
    width: f32,
    open: f32,
    smile: f32,
}

impl Face {
    /// The portrait under `key`.
    pub fn draw(key: Key) -> Self {
        let mut rng = key.named("face").rng();
        let pose = Pose::draw(&mut rng);
        let skin = skin(&mut rng);
        let turn = rng.range(0.0, std::f64::consts::TAU) as f32;
        Self {
            pose,
            skin,
            hair: mix([0.07, 0.05, 0.04], [0.75, 0.55, 0.3], rng.uniform().powi(2) as f32),
            iris: mix([0.2, 0.12, 0.06], [0.3, 0.5, 0.6], rng.uniform() as f32),
            lips: mix(skin, [0.7, 0.2, 0.25], spread(&mut rng, 0.45, 0.2)),
            clothes: colour(&mut rng),
            background: [colour(&mut rng), colour(&mut rng)],
            background_angle: rng.range(0.0, std::f64::consts::TAU) as f32,
            light: [0.6 * turn.cos(), 0.4 * turn.sin() - 0.3, 0.8],
            ambient: spread(&mut rng, 0.55, 0.12),
            jaw: spread(&mut rng, 0.72, 0.05),
            eyes: Eyes {
                apart: spread(&mut rng, 0.3, 0.03),
                height: spread(&mut rng, -0.12, 0.04),
                open: spread(&mut rng, 0.09, 0.03),
                gaze: (spread(&mut rng, 0.0, 0.04), spread(&mut rng, 0.0, 0.02)),
                brow: spread(&mut rng, 0.2, 0.04),
            },
            mouth: Mouth {
                height: spread(&mut rng, 0.54, 0.04),
                width: spread(&mut rng, 0.28, 0.06),
                open: rng.uniform().powi(2) as f32 * 0.1,
                smile: spread(&mut rng, 0.3, 0.5),
            },
            nose: spread(&mut rng, 0.3, 0.04),
            hairline: spread(&mut rng, -0.62, 0.12),
            hair_length: spread(&mut rng, 0.2, 0.7),
            texture: [Field::new(6, &mut rng), Field::new(17, &mut rng), Field::new(43, &mut rng)],
            blobs: Field::new(4, &mut rng),
        }
    }

    /// The same person with a little other skin, held as `pose` says.
    pub fn posed(mut self, pose: Pose) -> Self {
        self.pose = pose;
        self
    }

    /// The portrait as a camera saw it: uneven exposure, mild blur, noise.
    pub fn photograph(&self, side: usize, camera: &Camera, rng: &mut Rng) -> Canvas {
        let pixel = 1.0 / (side as f32 * self.pose.scale);
        let ideal = Canvas::paint(side, |x, y| {
            let (x, y) = ((x as f32 + 0.5) / side as f32, (y as f32 + 0.5) / side as f32);
            let rgb = self.colour(x, y, pixel);
            let light = 1.0 + camera.gradient.0 * (x - 0.5) + camera.gradient.1 * (y - 0.5);
            std::array::from_fn(|c| rgb[c] * camera.gain[c] * light)
        });
        ideal.blur(camera.blur).noise(camera.noise, rng)
    }

    /// The colour at a point of the picture; `pixel` is a pixel's width on the head, for smooth edges.
    fn colour(&self, x: f32, y: f32, pixel: f32) -> Rgb {
        let (u, v) = self.pose.on_head(x, y);
        let cover = |distance: f32| (0.5 - distance / (1.5 * pixel)).clamp(0.0, 1.0);
        let fine = 0.5 * self.texture[0].at(x, y) + 0.3 * self.texture[1].at(x, y) + 0.35 * self.texture[2].at(x, y);
        let hair = scale(self.hair, 1.0 + 0.5 * self.texture[2].at(x, (y * 0.3).fract()));
        let mut rgb = self.backdrop(x, y);
        rgb = mix(rgb, scale(self.clothes, 1.0 + 0.15 * fine), cover(ellipse(u, v, (0.0, 1.95), (1.5, 0.8))));
        rgb = mix(rgb, hair, cover(ellipse(u, v, (0.0, -0.12), (self.jaw + 0.14, 1.04))));
        let long = (u.abs() - self.jaw - 0.12).max(v - self.hair_length).max(-0.1 - v);
        rgb = mix(rgb, hair, cover(long));
        rgb = mix(rgb, scale(self.skin, 0.75 + 0.05 * fine), cover((u.abs() - 0.4).max(0.4 - v).max(v - 1.3)));
        let skin = scale(self.face(u, v, &cover), self.shade(u, v) + 0.08 * fine);
        rgb = mix(rgb, skin, cover(ellipse(u, v, (0.0, 0.0), (self.jaw, 1.0))));
        let fringe = (v - self.hairline - 0.25 * u * u - 0.06 * self.texture[0].at(x, 0.5)).max(ellipse(
            u,
            v,
            (0.0, -0.1),
            (self.jaw + 0.1, 1.0),
        ));
        mix(rgb, hair, cover(fringe))
    }

    /// The unlit face: skin with its features.
    fn face(&self, u: f32, v: f32, cover: &impl Fn(f32) -> f32) -> Rgb {
        let mut rgb = self.skin;
        let side = u.abs();
        let cheek = (-((side - 0.4).powi(2) + (v - 0.25).powi(2)) / 0.03).exp();
        rgb = mix(rgb, [0.85, 0.35, 0.3], 0.15 * cheek);
        rgb = mix(rgb, scale(rgb, 0.7), 0.6 * (-((side - 0.09).powi(2) / 0.002 + (v - 0.1).powi(2) / 0.05)).exp());
        rgb = mix(rgb, scale(rgb, 0.35), cover(ellipse(side, v, (0.07, self.nose), (0.045, 0.025))));
        let brow = ellipse(side, v + 0.15 * (side - 0.3), (0.3, self.eyes.height - self.eyes.brow), (0.17, 0.035));
        rgb = mix(rgb, scale(self.hair, 0.8), 0.9 * cover(brow));
        rgb = self.eye(rgb, u, v, cover);
        let bent = v + self.mouth.smile * u * u;
        let Mouth { height, width, open, .. } = self.mouth;
        rgb = mix(rgb, self.lips, cover(ellipse(u, bent, (0.0, height), (width, 0.06 + open))));
        mix(rgb, [0.2, 0.05, 0.06], cover(ellipse(u, bent, (0.0, height), (width * 0.9, 0.012 + open * 0.7))))
    }

    fn eye(&self, skin: Rgb, u: f32, v: f32, cover: &impl Fn(f32) -> f32) -> Rgb {
        let eyes = &self.eyes;
        let centre = eyes.apart.copysign(u);
        let lids = ellipse(u, v, (centre, eyes.height), (0.15, eyes.open));
        let gaze = (centre + eyes.gaze.0, eyes.height + eyes.gaze.1);
        let mut ball = [0.92, 0.9, 0.88];
        ball = mix(ball, self.iris, cover(ellipse(u, v, gaze, (0.075, 0.075))));
        ball = mix(ball, [0.02; 3], cover(ellipse(u, v, gaze, (0.035, 0.035))));
        ball = mix(ball, [1.0; 3], cover(ellipse(u, v, (gaze.0 + 0.02, gaze.1 - 0.025), (0.015, 0.015))));
        let socket =
            mix(skin, scale(skin, 0.72), cover(ellipse(u, v, (centre, eyes.height), (0.19, eyes.open + 0.04))));
        mix(socket, ball, cover(lids))
    }

    /// How brightly the head's surface is lit, as if it were an ellipsoid.
    fn shade(&self, u: f32, v: f32) -> f32 {
        let (nx, ny) = (u / self.jaw, v);
        let nz = (1.0 - nx * nx - ny * ny).max(0.0).sqrt();
        let lit = nx * self.light[0] + ny * self.light[1] + nz * self.light[2];
        self.ambient + (1.0 - self.ambient) * lit.max(0.0) * 1.3
    }

    fn backdrop(&self, x: f32, y: f32) -> Rgb {
        let (sin, cos) = self.background_angle.sin_cos();
        let along = 0.5 + 0.7 * ((x - 0.5) * cos + (y - 0.5) * sin) + 0.35 * self.blobs.at(x, y);
        let rgb = mix(self.background[0], self.background[1], along.clamp(0.0, 1.0));
        scale(rgb, 1.0 + 0.1 * self.texture[1].at(y, x))
    }
}

/// What a camera does to every picture it takes.
pub struct Camera {
    gain: Rgb,
    gradient: (f32, f32),
    blur: f32,
    noise: f32,
}

impl Camera {
    pub fn draw(key: Key) -> Self {
        let mut rng = key.named("camera").rng();
        let exposure = spread(&mut rng, 1.0, 0.2);
        Self {
            gain: std::array::from_fn(|_| exposure * spread(&mut rng, 1.0, 0.07)),
            gradient: (spread(&mut rng, 0.0, 0.35), spread(&mut rng, 0.0, 0.35)),
            blur: spread(&mut rng, 0.55, 0.2),
            noise: spread(&mut rng, 0.018, 0.01),
        }
    }
}

/// Uniform within `width` of `middle`.
pub fn spread(rng: &mut Rng, middle: f32, width: f32) -> f32 {
    rng.range(f64::from(middle - width), f64::from(middle + width)) as f32
}

fn skin(rng: &mut Rng) -> Rgb {
    let tone = mix([0.95, 0.78, 0.68], [0.38, 0.25, 0.18], rng.uniform() as f32);
    tone.map(|v| v * spread(rng, 1.0, 0.05))
}

fn colour(rng: &mut Rng) -> Rgb {
    let grey = rng.range(0.15, 0.8) as f32;
    std::array::from_fn(|_| (grey + spread(rng, 0.0, 0.2)).clamp(0.03, 0.97))
}

fn scale(rgb: Rgb, factor: f32) -> Rgb {
    rgb.map(|v| v * factor)
}

/// About the distance to an ellipse's edge; negative inside.
pub fn ellipse(u: f32, v: f32, centre: (f32, f32), radii: (f32, f32)) -> f32 {
    let (a, b) = ((u - centre.0) / radii.0, (v - centre.1) / radii.1);
    ((a * a + b * b).sqrt() - 1.0) * radii.0.min(radii.1)
}
