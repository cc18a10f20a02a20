//! Geometric augmentations against torchvision and Pillow (tests/golden/geometry.py), and what they draw.

use runner::{
    augment::{
        self, Augment, AugmentSpec, Batch, Context,
        cutmix::Area,
        cutout::Cutout,
        elastic::Elastic,
        frame::{self, PaddingMode},
        grid_mask::{Erased, Grid, GridMask},
        mixing::{Mix, Pairing},
        mixup_cutmix::{MixupCutmix, Mode},
        random_affine::RandomAffine,
        random_erasing::RandomErasing,
        random_perspective::RandomPerspective,
        random_resized_crop::RandomResizedCrop,
        resizemix::Resizemix,
        warp::{self, Affine, Filter, Map},
    },
    data::{Item, Split},
    tensor::{DType, Device, Image, Interpolation, Key, resize::resize},
    train::{Images, Normalize},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    affine: Vec<AffineCase>,
    rotate: Vec<RotateCase>,
    perspective: Vec<PerspectiveCase>,
    pad: Vec<PadCase>,
    center: Vec<CenterCase>,
    resized: Vec<ResizedCase>,
    corners: Vec<CornersCase>,
    elastic: Vec<ElasticCase>,
    grid: Vec<GridCase>,
    cutout: Vec<CutoutCase>,
    erasing: Vec<ErasingCase>,
    mixup_cutmix: Vec<MixCase>,
    resizemix: Vec<ResizemixCase>,
    drawn: BTreeMap<String, Moments>,
}

/// What the original makes of a picture.
#[derive(Debug, Deserialize)]
struct Outcome {
    sha256: String,
    out: [usize; 2],
    /// Some pixels and where they are, to see what differs.
    bytes: Vec<(usize, [u8; 3])>,
}

#[derive(Deserialize)]
struct AffineCase {
    size: [usize; 2],
    filter: Filter,
    angle: f64,
    translate: [f64; 2],
    scale: f64,
    shear: [f64; 2],
    center: Option<[f64; 2]>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct RotateCase {
    size: [usize; 2],
    filter: Filter,
    angle: f64,
    center: Option<[f64; 2]>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct PerspectiveCase {
    size: [usize; 2],
    filter: Filter,
    start: [[f64; 2]; 4],
    end: [[f64; 2]; 4],
    coefficients: [f64; 8],
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct PadCase {
    size: [usize; 2],
    mode: PaddingMode,
    margin: usize,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct CenterCase {
    size: [usize; 2],
    side: usize,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct ResizedCase {
    size: [usize; 2],
    part: [[usize; 2]; 2],
    side: usize,
    filter: Interpolation,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct CornersCase {
    size: [usize; 2],
    scale: f64,
    end: String,
    corners: [[f64; 2]; 4],
}

#[derive(Deserialize)]
struct ElasticCase {
    size: [usize; 2],
    alpha: f64,
    sigma: f64,
    fill: [u8; 3],
    pixels: Vec<u8>,
}

#[derive(Deserialize)]
struct GridCase {
    size: [usize; 2],
    d: usize,
    ratio: f64,
    start: [usize; 2],
    angle: usize,
    mode: Erased,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct CutoutCase {
    size: [usize; 2],
    length: usize,
    center: [usize; 2],
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct ErasingCase {
    size: [usize; 2],
    area: f64,
    ratio: f64,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
struct MixCase {
    mode: Mode,
    samples: usize,
    correct: bool,
    /// Of each mix its share, whether it is cutmix, and the box's center.
    draws: Vec<(f64, bool, Option<[usize; 2]>)>,
    images: Vec<f32>,
    targets: Vec<f32>,
}

#[derive(Deserialize)]
struct ResizemixCase {
    samples: usize,
    x: [usize; 2],
    y: [usize; 2],
    images: Vec<f32>,
    targets: Vec<f32>,
}

/// Of x, y, width and height.
#[derive(Deserialize)]
struct Moments {
    mean: [f64; 4],
    std: [f64; 4],
}

const CONTEXT: Context =
    Context { class: 0, classes: &[], size: 32, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

const FILL: [u8; 3] = [10, 200, 77];

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/geometry.json")).unwrap()
}

/// The script's `picture`.
fn picture([width, height]: [usize; 2]) -> Image {
    let mut image = Image::new(width, height);
    for (i, value) in image.pixels.iter_mut().enumerate() {
        let (y, x, c) = (i / 3 / width, i / 3 % width, i % 3);
        *value = (x * (3 + 2 * c) + y * (5 - c) + ((x * y) >> (2 + c)) + c * 40) as u8;
    }
    image
}

fn assert_same(image: &Image, outcome: &Outcome, place: &str) {
    assert_eq!([image.width, image.height], outcome.out, "{place}");
    for (at, bytes) in &outcome.bytes {
        assert_eq!(&image.pixels[*at..at + 3], bytes, "{place}, byte {at}");
    }
    let digest: String = Sha256::digest(&image.pixels).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, outcome.sha256, "{place}");
}

#[test]
fn affine_is_pillow_bit_for_bit() {
    let cases = golden().affine;
    assert_eq!(cases.len(), 54);
    for AffineCase { size, filter, angle, translate, scale, shear, center, outcome } in cases {
        let affine = Affine { angle, translate, scale, shear, center };
        assert_same(
            &affine.apply(&picture(size), filter, FILL),
            &outcome,
            &format!("{affine:?} {filter:?} on {size:?}"),
        );
    }
}

#[test]
fn rotate_is_pillow_bit_for_bit() {
    let cases = golden().rotate;
    assert_eq!(cases.len(), 72);
    for RotateCase { size, filter, angle, center, outcome } in cases {
        let image = warp::rotate(&picture(size), angle, filter, center, FILL);
        assert_same(&image, &outcome, &format!("{angle} {center:?} {filter:?} on {size:?}"));
    }
}

#[test]
fn perspective_is_pillow_bit_for_bit() {
    let cases = golden().perspective;
    assert_eq!(cases.len(), 27);
    for PerspectiveCase { size, filter, start, end, coefficients, outcome } in cases {
        // Solved by other means: equal up to f32's rounding, which may turn a level where a value is truncated.
        let Some(Map::Perspective(ours)) = warp::perspective(start, end) else { panic!("no map to {end:?}") };
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-6 * b.abs().max(1.0);
        assert!(ours.iter().zip(&coefficients).all(close), "{ours:?}, not {coefficients:?}");
        let image = warp::transform(&picture(size), size, Map::Perspective(coefficients), filter, FILL);
        assert_same(&image, &outcome, &format!("{end:?} {filter:?} on {size:?}"));
    }
}

#[test]
fn pad_is_torchvision_bit_for_bit() {
    for PadCase { size, mode, margin, outcome } in golden().pad {
        let image = frame::pad(&picture(size), [margin; 2], mode, FILL);
        assert_same(&image, &outcome, &format!("{mode:?} by {margin} on {size:?}"));
    }
}

#[test]
fn center_crop_is_torchvision_bit_for_bit() {
    for CenterCase { size, side, outcome } in golden().center {
        let mut image = picture(size);
        image.center_crop(side);
        assert_same(&image, &outcome, &format!("{side} of {size:?}"));
    }
}

#[test]
fn resized_crop_is_torchvision_bit_for_bit() {
    for ResizedCase { size, part: [corner, part], side, filter, outcome } in golden().resized {
        let mut image = picture(size);
        image.crop(corner, part);
        let image = resize(&image, side, side, filter).unwrap();
        assert_same(&image, &outcome, &format!("{corner:?} {part:?} {filter:?} of {size:?}"));
    }
}

/// The script's `noise`.
fn noise([width, height]: [usize; 2], axis: i64) -> Vec<f32> {
    let value = |i: i64| (i * (7919 + 1013 * axis) + i * i * 31) % 2001;
    // The draw of 0..1 that torchvision scales has passed through f32.
    let draw = |i| (((value(i) as f64 / 1000.0 - 1.0) as f32 + 1.0) / 2.0) * 2.0 - 1.0;
    (0..(width * height) as i64).map(draw).collect()
}

#[test]
fn elastic_is_torchvision_within_one_level() {
    for ElasticCase { size, alpha, sigma, fill, pixels } in golden().elastic {
        let mut image = picture(size);
        Elastic { alpha, sigma, fill }.displace(&mut image, [noise(size, 0), noise(size, 1)]);
        let step = if image.pixels.len() > 3000 { 7 } else { 1 };
        let ours: Vec<u8> = image.pixels.iter().step_by(step).copied().collect();
        assert_eq!(ours.len(), pixels.len());
        let off = ours.iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off <= Some(1), "alpha {alpha}, sigma {sigma}: off by {off:?}");
        assert_ne!(image, picture(size));
    }
}

#[test]
fn grid_mask_is_the_authors_bit_for_bit() {
    for GridCase { size, d, ratio, start, angle, mode, outcome } in golden().grid {
        let mut image = picture(size);
        GridMask { ratio, mode, ..Default::default() }.erase(&mut image, Grid { d, start, angle }, FILL);
        assert_same(&image, &outcome, &format!("{mode:?} {d} {start:?} {angle} on {size:?}"));
    }
}

#[test]
fn cutout_is_the_authors_bit_for_bit() {
    for CutoutCase { size, length, center, outcome } in golden().cutout {
        let mut image = picture(size);
        let hole = Cutout { length, ..Default::default() }.hole([image.width, image.height], center, FILL);
        hole.apply(&mut image).unwrap();
        assert_same(&image, &outcome, &format!("{length} around {center:?}"));
    }
}

#[test]
fn random_erasing_is_that_of_timm_behind_normalization() {
    for ErasingCase { size, area, ratio, outcome } in golden().erasing {
        let erasing = RandomErasing { scale: [area; 2], ratio: [ratio; 2], ..Default::default() };
        let mut rng = Key::new(0).rng();
        let [_, part] = erasing.part(size, 1, &mut rng).unwrap();
        let mut image = picture(size);
        erasing.erase([0, 0], part, &CONTEXT, &mut rng).apply(&mut image).unwrap();
        assert_same(&image, &outcome, &format!("{area} {ratio} on {size:?}"));
    }
}

#[test]
fn erased_colours_are_standard_normal_after_normalization() {
    for (mode, boxes) in [("rand", 900), ("pixel", 1)] {
        let AugmentSpec::random_erasing(erasing) =
            toml::from_str(&format!("random_erasing = {{ mode = '{mode}' }}")).unwrap()
        else {
            panic!()
        };
        let mut rng = Key::new(8).rng();
        let side = if boxes == 1 { 30 } else { 1 };
        let values: Vec<f64> = (0..boxes)
            .flat_map(|_| {
                let mut image = Image::new(30, 30);
                erasing.erase([0, 0], [side; 2], &CONTEXT, &mut rng).apply(&mut image).unwrap();
                image.pixels.into_iter().take(side * side * 3).collect::<Vec<u8>>()
            })
            .enumerate()
            .map(|(i, v)| (f64::from(v) / 255.0 - f64::from(CONTEXT.mean[i % 3])) / f64::from(CONTEXT.std[i % 3]))
            .collect();
        let (mean, std) = mean_and_std(&values);
        // Clipping at two standard deviations takes a little of the spread.
        assert!(mean.abs() < 0.1 && (0.93..1.0).contains(&std), "{mode}: {mean} {std}");
    }
}

fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

/// Draws boxes and compares with what the original drew, up to five standard errors of the smaller sample.
fn assert_drawn(name: &str, draw: impl Fn(u64) -> [[usize; 2]; 2]) {
    let moments = &golden().drawn[name];
    let boxes: Vec<[f64; 4]> = (0..5000)
        .map(|i| {
            let [[x, y], [w, h]] = draw(i);
            [x, y, w, h].map(|value| value as f64)
        })
        .collect();
    for (at, what) in ["x", "y", "width", "height"].into_iter().enumerate() {
        let (mean, std) = mean_and_std(&boxes.iter().map(|part| part[at]).collect::<Vec<_>>());
        let error = 5.0 * moments.std[at] * (2.0 / 5000f64).sqrt();
        assert!((mean - moments.mean[at]).abs() <= error, "{name}: mean {what} {mean}, not {}", moments.mean[at]);
        assert!((std - moments.std[at]).abs() <= error, "{name}: spread of {what} {std}, not {}", moments.std[at]);
    }
}

#[test]
fn boxes_are_drawn_as_in_the_originals() {
    for size in [[100, 80], [30, 90]] {
        let [width, height] = size;
        let key = Key::new(21).with(width as u64);
        let crop = RandomResizedCrop::default();
        assert_drawn(&format!("resized {width}x{height}"), |i| crop.part(size, &mut key.with(i).rng()));
        let erasing = RandomErasing::default();
        let draw = |i| erasing.part(size, 1, &mut key.named("erasing").with(i).rng()).unwrap();
        assert_drawn(&format!("erasing {width}x{height}"), draw);
    }
}

#[test]
fn corners_are_drawn_evenly_between_those_of_torchvision() {
    let golden = golden().corners;
    for pair in golden.chunks(2) {
        let [low, high] = pair else { panic!() };
        assert_eq!((low.end.as_str(), high.end.as_str(), low.size), ("low", "high", high.size));
        let perspective = RandomPerspective { distortion_scale: low.scale, ..Default::default() };
        let draws: Vec<_> = (0..4000).map(|i| perspective.corners(low.size, &mut Key::new(2).with(i).rng())).collect();
        for (corner, axis) in (0..4).flat_map(|corner| [(corner, 0), (corner, 1)]) {
            let values: Vec<f64> = draws.iter().map(|draw| draw[corner][axis]).collect();
            let (least, most) = (low.corners[corner][axis], high.corners[corner][axis]);
            assert!(values.contains(&least) && values.contains(&most), "corner {corner}, axis {axis}: {least}..{most}");
            assert!(values.iter().all(|value| (least..=most).contains(value)), "corner {corner}, axis {axis}");
            let (mean, spread) = (mean_and_std(&values).0, (most - least) / 12f64.sqrt());
            assert!((mean - (least + most) / 2.0).abs() < 5.0 * spread / 4000f64.sqrt() + 0.1, "mean {mean}");
        }
    }
}

#[test]
fn affine_draws_evenly_and_whole_pixels() {
    let spec: AugmentSpec = toml::from_str(
        "random_affine = { degrees = [-20, 40], translate = [0.1, 0.2], scale = [0.5, 2], shear = 5, shear_y = [1, 3] }",
    )
    .unwrap();
    let AugmentSpec::random_affine(affine) = spec else { panic!() };
    let draws: Vec<Affine> = (0..4000).map(|i| affine.draw([100, 50], &mut Key::new(4).with(i).rng())).collect();
    let even = |low: f64, high: f64, of: &dyn Fn(&Affine) -> f64| {
        let values: Vec<f64> = draws.iter().map(of).collect();
        let ((mean, std), spread) = (mean_and_std(&values), (high - low) / 12f64.sqrt());
        assert!((mean - (low + high) / 2.0).abs() < 5.0 * spread / 4000f64.sqrt(), "{low}..{high}: mean {mean}");
        assert!((std / spread - 1.0).abs() < 0.05, "{low}..{high}: spread {std}");
        assert!(values.iter().all(|value| (low..=high).contains(value)), "{low}..{high}");
    };
    even(-20.0, 40.0, &|draw| draw.angle);
    even(-10.0, 10.0, &|draw| draw.translate[0]);
    even(-10.0, 10.0, &|draw| draw.translate[1]);
    even(0.5, 2.0, &|draw| draw.scale);
    even(-5.0, 5.0, &|draw| draw.shear[0]);
    even(1.0, 3.0, &|draw| draw.shear[1]);
    assert!(draws.iter().all(|draw| draw.translate.iter().all(|pixels| pixels.fract() == 0.0)));
    let none = RandomAffine { degrees: augment::color_jitter::Amount::Around(0.0), ..Default::default() };
    let mut image = picture([20, 30]);
    none.sample(&mut image, &mut Key::new(1).rng()).unwrap();
    assert_eq!(image, picture([20, 30]));
}

/// Values drawn evenly between two ends: their mean and spread, up to five standard errors.
fn assert_even(what: &str, values: &[f64], [low, high]: [f64; 2]) {
    let ((mean, std), spread) = (mean_and_std(values), (high - low) / 12f64.sqrt());
    let error = 5.0 * spread / (values.len() as f64).sqrt();
    assert!((mean - (low + high) / 2.0).abs() < error, "{what}: mean {mean} between {low} and {high}");
    assert!((std - spread).abs() < error, "{what}: spread {std}, not {spread}");
}

/// The angle is read from where a dot on the right has gone.
#[test]
fn rotations_are_drawn_evenly() {
    let list: Vec<AugmentSpec> =
        vec![toml::from_str("random_rotation = { degrees = [-20, 50], interpolation = \"bilinear\" }").unwrap()];
    let angle = |i| {
        let mut image = Image::new(121, 121);
        (0..9).for_each(|at| image.set_pixel(106 + at % 3, 59 + at / 3, [255; 3]));
        augment::sample(&list, &mut image, &CONTEXT, Key::new(8).with(i)).unwrap();
        let places = (0..121 * 121).map(|at| ((at % 121) as f64 - 60.0, (at / 121) as f64 - 60.0));
        let weighed = places.zip(image.pixels.chunks_exact(3)).map(|((x, y), pixel)| (x, y, f64::from(pixel[0])));
        let (x, y) = weighed.fold((0.0, 0.0), |(sx, sy), (x, y, weight)| (sx + weight * x, sy + weight * y));
        // Counter-clockwise on an image whose rows go down.
        (-y).atan2(x).to_degrees()
    };
    let angles: Vec<f64> = (0..1500).map(angle).collect();
    assert!(angles.iter().all(|angle| (-20.5..=50.5).contains(angle)));
    assert_even("angle", &angles, [-20.0, 50.0]);
}

/// Without smoothing, a slope of two levels a pixel shows how far each pixel moved.
#[test]
fn elastic_noise_is_drawn_evenly() {
    let elastic = Elastic { alpha: 20.0, sigma: 0.0, ..Default::default() };
    for axis in [0, 1] {
        let mut image = Image::new(100, 100);
        let value = |x: usize, y: usize| 2 * [x, y][axis] as u8 + 20;
        (0..10_000).for_each(|at| image.set_pixel(at % 100, at / 100, [value(at % 100, at / 100); 3]));
        elastic.sample(&mut image, &mut Key::new(9).rng()).unwrap();
        let inner =
            (0..10_000).map(|at| (at % 100, at / 100)).filter(|(x, y)| (12..88).contains(x) && (12..88).contains(y));
        let moved: Vec<f64> =
            inner.map(|(x, y)| (f64::from(image.pixel(x, y)[0]) - f64::from(value(x, y))) / 2.0).collect();
        assert!(moved.iter().all(|pixels| pixels.abs() <= 10.25));
        assert_even("pixels moved", &moved, [-10.0, 10.0]);
    }
}

/// A hole of two pixels ends one behind its centre.
#[test]
fn holes_of_cutout_lie_anywhere_as_often() {
    let images = outcomes("cutout = { length = 2, fill = [0, 0, 0] }", [40, 30], &CONTEXT, 4000);
    let centers = images.iter().map(|image| {
        let erased = |at: &usize| image.pixel(at % 40, at / 40) == [0; 3];
        let last = (0..40 * 30).rev().find(erased).expect("a hole");
        [(last % 40) as f64, (last / 40) as f64]
    });
    let centers: Vec<[f64; 2]> = centers.collect();
    for (axis, size) in [(0, 40.0), (1, 30.0)] {
        let values: Vec<f64> = centers.iter().map(|center| center[axis]).collect();
        // Whole numbers below `size` spread as an interval half a pixel longer at each end.
        assert_even("centre", &values, [-0.5, size - 0.5]);
    }
}

/// Without a turn, squares of `d - bar` by `d - bar` in every `d` by `d` are erased, in as many images as told.
#[test]
fn grids_are_drawn_as_often_as_told_and_start_anywhere() {
    let text = "grid_mask = { d = [10, 11], rotate = 1, ratio = 0.4, mode = \"squares\", p = 0.7, fill = [0, 0, 0] }";
    let images = outcomes(text, [40, 40], &CONTEXT, 3000);
    let erased = |image: &Image| image.pixels.chunks_exact(3).filter(|pixel| *pixel == [0; 3]).count();
    let drawn: Vec<&Image> = images.iter().filter(|image| erased(image) > 0).collect();
    let share = drawn.len() as f64 / images.len() as f64;
    assert!((share - 0.7).abs() < 5.0 * (0.21f64 / 3000.0).sqrt(), "{share} of the images");
    assert!(drawn.iter().all(|image| erased(image) == 16 * 36), "{}", erased(drawn[0]));
    for along in [0, 1] {
        let black = |image: &Image, at: usize| {
            (0..40).any(|other| image.pixel([at, other][along], [other, at][along]) == [0; 3])
        };
        // The first square behind a bar starts at one of ten places.
        let start = |image: &&Image| (0..10).find(|&at| black(image, at + 1) && !black(image, at)).unwrap_or(9) as f64;
        assert_even("start", &drawn.iter().map(start).collect::<Vec<_>>(), [-0.5, 9.5]);
    }
}

/// Applies an entry under many keys to a picture whose pixels tell their place.
fn outcomes(text: &str, size: [usize; 2], context: &Context, count: u64) -> Vec<Image> {
    let list: Vec<AugmentSpec> = vec![toml::from_str(text).unwrap()];
    let outcome = |i| {
        let mut image = Image::new(size[0], size[1]);
        (0..size[1]).for_each(|y| (0..size[0]).for_each(|x| image.set_pixel(x, y, [x as u8 + 1, y as u8 + 1, 0])));
        augment::sample(&list, &mut image, context, Key::new(31).with(i)).unwrap();
        image
    };
    (0..count).map(outcome).collect()
}

#[test]
fn a_random_crop_lies_anywhere_as_often() {
    let mut counts = BTreeMap::new();
    for image in outcomes("random_crop = { size = 6 }", [8, 7], &CONTEXT, 6000) {
        assert_eq!((image.width, image.height), (6, 6));
        let [x, y, _] = image.pixel(0, 0);
        assert_eq!(image.pixel(5, 5), [x + 5, y + 5, 0]);
        *counts.entry([x, y]).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn a_random_crop_pads_first() {
    let crops = outcomes("random_crop = { padding = 2, fill = [9, 9, 9] }", [32, 32], &CONTEXT, 200);
    assert!(crops.iter().all(|image| (image.width, image.height) == (32, 32)));
    assert!(
        crops.iter().any(|image| image.pixel(0, 0) == [9; 3])
            && crops.iter().any(|image| image.pixel(0, 0) == [3, 3, 0])
    );
    let small = outcomes("random_crop = { pad_if_needed = true, padding_mode = 'edge' }", [20, 32], &CONTEXT, 20);
    assert!(small.iter().all(|image| (image.width, image.height) == (32, 32)));
    assert!(small.iter().all(|image| image.pixel(0, 31)[1] == 32 && image.pixels.iter().any(|value| *value > 0)));
}

#[test]
fn wrappers_apply_as_often_as_told_and_to_whom() {
    let context = |class| Context { class, classes: &[], ..CONTEXT };
    let plain = outcomes("pad = { padding = 0 }", [4, 4], &CONTEXT, 1)[0].clone();
    let changed = |text: &str, context: &Context| {
        outcomes(text, [4, 4], context, 4000).iter().filter(|image| **image != plain).count()
    };
    let list = "augment = [{ color_jitter = { brightness = [0, 0] } }, { pad = { padding = 1 } }, { center_crop = { size = 4 } }]";
    let half = changed(&format!("apply = {{ p = 0.3, {list} }}"), &CONTEXT);
    assert!((1050..1350).contains(&half), "{half}");
    assert_eq!(changed(&format!("only_class = {{ class = 1, {list} }}"), &context(1)), 4000);
    assert_eq!(changed(&format!("only_class = {{ class = 1, {list} }}"), &context(0)), 0);
    let classes = ["real".to_string(), "fake".to_string()];
    for (class, count) in [(0, 0), (1, 4000)] {
        let named = Context { class, classes: &classes, ..CONTEXT };
        assert_eq!(changed(&format!("only_class = {{ class = 'fake', {list} }}"), &named), count);
        let inside = format!(
            "one_of = [{{ apply = {{ p = 1, augment = [{{ only_class = {{ class = 'fake', {list} }} }}] }} }}]"
        );
        assert_eq!(changed(&inside, &named), count);
    }
}

#[test]
fn sizes_are_followed_through_a_list() {
    let left = |text: &str, size| {
        let spec: AugmentSpec = toml::from_str(text).unwrap();
        spec.as_dyn().output_size(size, 32)
    };
    assert_eq!(left("random_crop = {}", [40, 50]), Ok([32, 32]));
    assert_eq!(left("random_crop = { size = 20 }", [40, 50]), Ok([20, 20]));
    assert_eq!(left("random_crop = { padding = 3 }", [26, 26]), Ok([32, 32]));
    assert!(left("random_crop = { padding = 2 }", [26, 26]).unwrap_err().contains("30 x 30"));
    assert_eq!(left("random_crop = { pad_if_needed = true }", [10, 50]), Ok([32, 32]));
    assert_eq!(left("random_resized_crop = {}", [10, 50]), Ok([32, 32]));
    assert_eq!(left("pad = { padding = 2 }", [10, 50]), Ok([14, 54]));
    assert!(left("center_crop = { size = 11 }", [10, 50]).is_err());
    assert_eq!(left("apply = { p = 1, augment = [{ pad = {} }, { center_crop = {} }] }", [30, 30]), Ok([32, 32]));
    assert!(left("apply = { p = 0.5, augment = [{ pad = {} }, { center_crop = {} }] }", [30, 30]).is_err());
    assert!(left("only_class = { augment = [{ center_crop = {} }] }", [40, 40]).is_err());
    assert_eq!(left("one_of = [{ random_crop = {} }, { random_resized_crop = {} }]", [40, 40]), Ok([32, 32]));
    assert!(left("one_of = [{ random_crop = {} }, { random_rotation = {} }]", [40, 40]).is_err());
}

/// The script's `batch`: 6 wide, 4 high, 3 classes.
fn with_batch(samples: usize, work: impl FnOnce(&mut Batch)) -> (Vec<f32>, Vec<f32>) {
    let mut images: Vec<f32> = (0..samples * 4 * 6 * 3).map(|i| i as f32 / 64.0 - 3.0).collect();
    let mut targets = vec![0.0; samples * 3];
    (0..samples).for_each(|i| targets[i * 3 + i % 3] = 1.0);
    work(&mut Batch { images: &mut images, targets: &mut targets, samples, height: 4, width: 6, classes: 3 });
    (images, targets)
}

fn assert_close(ours: &[f32], original: &[f32], place: &str) {
    assert_eq!(ours.len(), original.len(), "{place}");
    let off = ours.iter().zip(original).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 2e-6, "{place}: off by {off}");
}

#[test]
fn mixup_cutmix_is_that_of_timm() {
    for MixCase { mode, samples, correct, draws, images, targets } in golden().mixup_cutmix {
        let mix = |&(share, cut, center): &(f64, bool, Option<[usize; 2]>)| match (cut, center) {
            (true, Some(center)) => {
                let area = Area::whole_around(center, share, 6, 4);
                Mix::Paste(if correct { area.rest(6, 4) } else { share }, area)
            }
            _ => Mix::Average(share),
        };
        let drawn: Vec<Mix> = draws.iter().map(mix).collect();
        let mixes = match mode {
            Mode::Batch => vec![drawn[0]; samples],
            Mode::Pair => drawn.iter().chain(drawn.iter().rev()).copied().collect(),
            Mode::Elem => drawn,
        };
        let (ours, our_targets) = with_batch(samples, |batch| batch.mix(Pairing::Flip, &mixes));
        assert_close(&ours, &images, &format!("{mode:?} images"));
        assert_close(&our_targets, &targets, &format!("{mode:?} targets"));
    }
}

#[test]
fn mixup_cutmix_draws_for_whom_it_should() {
    let draws = |mode, samples| {
        let mixer = MixupCutmix { mode, prob: 0.8, switch_prob: 0.25, ..Default::default() };
        let mut all = Vec::new();
        for i in 0..2000 {
            all.push(mixer.draw(samples, [6, 4], &mut Key::new(5).with(i).rng()));
        }
        all
    };
    assert!(draws(Mode::Batch, 4).iter().all(|mixes| mixes.iter().all(|mix| *mix == mixes[0])));
    for samples in [4, 5] {
        let pairs = draws(Mode::Pair, samples);
        assert!(pairs.iter().all(|mixes| (0..samples).all(|i| mixes[i] == mixes[samples - 1 - i])));
        assert!(pairs.iter().any(|mixes| mixes[0] != mixes[1]));
    }
    let each: Vec<Mix> = draws(Mode::Elem, 4).concat();
    let share = |of: fn(&Mix) -> bool| each.iter().filter(|mix| of(mix)).count() as f64 / each.len() as f64;
    let (nothing, paste) = (share(|mix| *mix == Mix::Nothing), share(|mix| matches!(mix, Mix::Paste(..))));
    assert!((nothing - 0.2).abs() < 0.02 && (paste - 0.2).abs() < 0.02, "{nothing} {paste}");
    let kept: Vec<f64> =
        each.iter().filter_map(|mix| if let Mix::Average(share) = mix { Some(*share) } else { None }).collect();
    let (mean, std) = mean_and_std(&kept);
    let spread = (1.0f64 / (4.0 * (2.0 * 0.8 + 1.0))).sqrt();
    assert!((mean - 0.5).abs() < 0.02 && (std / spread - 1.0).abs() < 0.03, "{mean} {std}");
}

#[test]
fn resizemix_is_torch_nearest_in_a_box() {
    for ResizemixCase { samples, x, y, images, targets } in golden().resizemix {
        let (ours, our_targets) = with_batch(samples, |batch| {
            let area = Area { x, y };
            let mix = Mix::Shrink(area.rest(batch.width, batch.height), area);
            batch.mix(Pairing::Roll, &vec![mix; samples]);
        });
        assert_close(&ours, &images, "images");
        assert_close(&our_targets, &targets, "targets");
    }
}

#[test]
fn resizemix_draws_its_side_from_its_scope() {
    let own = |i| {
        let (_, targets) = with_batch(2, |batch| Resizemix::default().batch(batch, &mut Key::new(6).with(i).rng()));
        f64::from(targets[0])
    };
    let shares: Vec<f64> = (0..2000).map(own).collect();
    // At most 0.8 of each side; some of it is cut off at the border.
    assert!(shares.iter().all(|share| (1.0 - 0.64..=1.0).contains(share)));
    assert!(shares.iter().any(|share| *share < 0.7) && shares.iter().any(|share| *share > 0.95));
}

#[test]
fn wrong_parameters_are_refused() {
    use garde::Validate;
    for (text, message) in [
        ("random_affine = { scale = [2, 1] }", "[low, high]"),
        ("random_rotation = { degrees = -3 }", "lower than 0"),
        ("random_rotation = { degrees = [3, -3] }", "[low, high]"),
        ("apply = { augment = [] }", "length"),
        ("apply = { augment = [{ mixup = {} }, { pad = {} }] }", "mixup on batches"),
        ("only_class = { augment = [{ mixup = {} }] }", "no one class"),
        ("grid_mask = { d = [1, 8] }", "d"),
        ("random_erasing = { count = [3, 1] }", "[low, high]"),
    ] {
        let report = toml::from_str::<AugmentSpec>(text).unwrap().validate().unwrap_err().to_string();
        assert!(report.contains(message), "{text}: {report}");
    }
}

#[test]
fn images_without_a_crop_show_their_middle() {
    let (loaded, size) = (40, 32);
    let pictures = [picture([loaded; 2]), Image::new(loaded, loaded)];
    let items = ["a", "b"].map(|name| Item { name: name.into(), ..Item::default() }).into();
    let split = Split::in_memory(items, loaded, pictures.iter().flat_map(|image| image.pixels.clone()).collect());
    let normalize = Normalize { channels: runner::data::Channels::Rgb, mean: CONTEXT.mean, std: CONTEXT.std };
    let images = Images::of(size, normalize, &Device::Cpu, DType::F32);
    let tensor = images.load(&images.of_split(&split, 0..2, None).unwrap()).unwrap();
    assert_eq!(tensor.dims(), [2, size, size, 3]);
    let mut middle = picture([loaded; 2]);
    middle.crop([4, 4], [size; 2]);
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values[..size * size * 3], normalize.apply(&middle.pixels));
}
