//! Colour, filter and codec augmentations against torchvision and Pillow (tests/golden/color.py), and what they draw.

mod pictures;

use pictures::{digest, dim, picture};
use runner::{
    augment::{
        AugmentSpec, downscale::Downscale, filters, gaussian_noise::GaussianNoise, jpeg_compression::through_jpeg,
        pillow_levels, webp_compression::through_webp,
    },
    tensor::{Image, Interpolation, Key},
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Golden {
    exact: Vec<Exact>,
    downscale: Vec<Down>,
    blur: Vec<Blur>,
    normals: Vec<f64>,
    noise: Vec<Noise>,
}

#[derive(Deserialize)]
struct Exact {
    function: String,
    argument: f64,
    picture: String,
    size: [usize; 2],
    sha256: String,
}

#[derive(Deserialize)]
struct Down {
    down: Interpolation,
    up: Interpolation,
    scale: f64,
    size: [usize; 2],
    sha256: String,
}

#[derive(Deserialize)]
struct Blur {
    size: [usize; 2],
    kernel_size: usize,
    sigma: f64,
    /// In hexadecimal.
    pixels: String,
}

#[derive(Deserialize)]
struct Noise {
    mean: f64,
    sigma: f64,
    level: u8,
    out: Vec<u8>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/color.json")).unwrap()
}

/// The script's `plain`: one colour.
fn plain(width: usize, height: usize) -> Image {
    Image { width, height, pixels: [10, 20, 30].repeat(width * height) }
}

fn apply(function: &str, image: &mut Image, argument: f64) {
    match function {
        "grayscale" => pillow_levels::grayscale(image),
        "invert" => pillow_levels::invert(image),
        "posterize" => pillow_levels::posterize(image, argument as u32),
        "solarize" => pillow_levels::solarize(image, argument),
        "solarize_add" => pillow_levels::solarize_add(image, argument as u8),
        "autocontrast" => pillow_levels::autocontrast(image),
        "equalize" => pillow_levels::equalize(image),
        "sharpness" => filters::adjust_sharpness(image, argument),
        "jpeg" | "jpeg_torchvision" => through_jpeg(image, argument as u8).unwrap(),
        "webp" => through_webp(image, argument as u8).unwrap(),
        other => panic!("unknown function {other}"),
    }
}

#[test]
fn functions_are_those_of_pillow_bit_for_bit() {
    let cases = golden().exact;
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let [width, height] = case.size;
            let mut image = match case.picture.as_str() {
                "picture" => picture(width, height),
                "dim" => dim(width, height),
                _ => plain(width, height),
            };
            apply(&case.function, &mut image, case.argument);
            let place = format!("{} by {} on {} {:?}", case.function, case.argument, case.picture, case.size);
            (digest(&image) != case.sha256).then_some(place)
        })
        .collect();
    assert_eq!(cases.len(), 45 * 12);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn downscale_is_resizing_of_pillow_bit_for_bit() {
    let cases = golden().downscale;
    assert_eq!(cases.len(), 40);
    for Down { down, up, scale, size: [width, height], sha256 } in cases {
        let downscale = Downscale { down, up, ..Default::default() };
        let mut image = picture(width, height);
        downscale.at([width, height], scale).iter().for_each(|change| change.apply(&mut image).unwrap());
        assert_eq!(digest(&image), sha256, "{width} x {height} at {scale}, {down:?} and {up:?}");
    }
}

#[test]
fn gaussian_blur_is_within_a_level_of_torchvision() {
    for case in golden().blur {
        let mut image = picture(case.size[0], case.size[1]);
        filters::gaussian_blur(&mut image, case.kernel_size, case.sigma);
        let wanted =
            (0..case.pixels.len() / 2).map(|i| u8::from_str_radix(&case.pixels[2 * i..2 * i + 2], 16).unwrap());
        let off: Vec<u8> = image.pixels.iter().zip(wanted).map(|(a, b)| a.abs_diff(b)).collect();
        let place = format!("{} by {} on {:?}", case.kernel_size, case.sigma, case.size);
        assert_eq!(off.len(), image.pixels.len(), "{place}");
        // Ties of rounding are rare.
        assert!(off.iter().all(|off| *off <= 1), "{place}");
        assert!(off.iter().filter(|off| **off > 0).count() * 500 <= off.len(), "{place}");
    }
}

#[test]
fn gaussian_blur_bears_a_kernel_larger_than_the_image() {
    for (width, height) in [(1, 1), (2, 1), (3, 2)] {
        let mut image = plain(width, height);
        filters::gaussian_blur(&mut image, 23, 3.0);
        assert_eq!(image, plain(width, height));
    }
}

#[test]
fn gaussian_noise_adds_what_torchvision_adds() {
    let golden = golden();
    for Noise { mean, sigma, level, out } in golden.noise {
        let noise = GaussianNoise { mean, sigma, p: 1.0 };
        let ours: Vec<u8> = golden.normals.iter().map(|normal| noise.add(level, *normal)).collect();
        assert_eq!(ours, out, "mean {mean}, sigma {sigma} on {level}");
    }
}

fn entry(text: &str) -> AugmentSpec {
    toml::from_str(text).unwrap()
}

/// An entry's results under many keys.
fn draws(text: &str, image: &Image, count: u64) -> Vec<Image> {
    let entry = entry(text);
    let draw = |i| {
        let mut image = image.clone();
        entry.as_dyn().sample(&mut image, &mut Key::new(7).with(i).rng()).unwrap();
        image
    };
    (0..count).map(draw).collect()
}

#[test]
fn p_is_how_often_an_image_changes() {
    for (text, p) in [
        ("random_grayscale = {}", 0.1),
        ("random_grayscale = { p = 0.3 }", 0.3),
        ("sharpness = {}", 0.5),
        ("sharpness = { p = 0.3 }", 0.3),
        ("autocontrast = {}", 0.5),
        ("autocontrast = { p = 0.3 }", 0.3),
        ("equalize = {}", 0.5),
        ("equalize = { p = 0.3 }", 0.3),
        ("posterize = {}", 0.5),
        ("posterize = { p = 0.3 }", 0.3),
        ("solarize = {}", 0.5),
        ("solarize = { p = 0.3 }", 0.3),
        ("invert = {}", 0.5),
        ("invert = { p = 0.3 }", 0.3),
        // A blur of the least sigma leaves bytes as they are.
        ("gaussian_blur = { sigma = 1 }", 1.0),
        ("gaussian_blur = { sigma = 1, p = 0.3 }", 0.3),
        ("gaussian_noise = {}", 1.0),
        ("gaussian_noise = { p = 0.3 }", 0.3),
        ("jpeg_compression = {}", 1.0),
        ("jpeg_compression = { p = 0.3 }", 0.3),
        ("webp_compression = {}", 1.0),
        ("webp_compression = { p = 0.3 }", 0.3),
        ("downscale = {}", 1.0),
        ("downscale = { p = 0.3 }", 0.3),
    ] {
        let image = dim(24, 20);
        let changed = draws(text, &image, 1000).iter().filter(|other| **other != image).count() as f64;
        let spread = 5.0 * f64::sqrt(1000.0 * p * (1.0 - p));
        assert!((changed - 1000.0 * p).abs() <= spread, "{text}: {changed} of 1000");
    }
}

#[test]
fn quality_is_drawn_evenly_with_both_ends() {
    for (name, through) in [
        ("jpeg_compression", through_jpeg as fn(&mut Image, u8) -> runner::error::Result<()>),
        ("webp_compression", through_webp),
    ] {
        let qualities = [40, 41, 42, 43];
        let outcomes = qualities.map(|quality| {
            let mut image = picture(37, 29);
            through(&mut image, quality).unwrap();
            digest(&image)
        });
        assert_eq!(outcomes.iter().collect::<BTreeSet<_>>().len(), 4, "{name}");
        let mut counts = BTreeMap::new();
        for image in draws(&format!("{name} = {{ quality = [40, 43] }}"), &picture(37, 29), 2000) {
            *counts.entry(digest(&image)).or_insert(0) += 1;
        }
        assert_eq!(counts.keys().collect::<BTreeSet<_>>(), outcomes.iter().collect(), "{name}");
        assert!(counts.values().all(|count| (400..600).contains(count)), "{name}: {counts:?}");
        let fixed = draws(&format!("{name} = {{ quality = 41 }}"), &picture(37, 29), 20);
        assert!(fixed.iter().all(|image| digest(image) == outcomes[1]), "{name}");
    }
}

/// A white line blurred by a kernel that holds it whole has the variance of sigma squared.
#[test]
fn sigma_is_drawn_evenly() {
    let mut line = Image::new(33, 1);
    line.set_pixel(16, 0, [255; 3]);
    let images = draws("gaussian_blur = { kernel_size = 33, sigma = [1, 3] }", &line, 2000);
    // The peak of a Gaussian of sigma s is 1 / (s sqrt(2 pi)).
    let sigma = |image: &Image| 255.0 / f64::from(image.pixel(16, 0)[0]) / std::f64::consts::TAU.sqrt();
    let counts = images.iter().fold([0; 4], |mut counts, image| {
        counts[((sigma(image) - 1.0) * 2.0).clamp(0.0, 3.0) as usize] += 1;
        counts
    });
    assert!(counts.iter().all(|count| (420..580).contains(count)), "{counts:?}");
}

/// With nearest neighbours there are as many different columns as the small image was wide.
#[test]
fn scale_is_drawn_evenly() {
    let image = picture(100, 1);
    let widths: Vec<usize> =
        draws("downscale = { scale = [0.2, 0.6], down = 'nearest', up = 'nearest' }", &image, 2000)
            .iter()
            .map(|image| 1 + image.pixels.chunks(3).zip(image.pixels[3..].chunks(3)).filter(|(a, b)| a != b).count())
            .collect();
    let quarters = widths.iter().fold([0; 4], |mut counts, width| {
        counts[((width - 20) / 10).min(3)] += 1;
        counts
    });
    // Widths are rounded: the first and the last whole step are half as wide.
    assert!(widths.iter().all(|width| (20..=60).contains(width)));
    assert!(quarters.iter().all(|count| (400..600).contains(count)), "{quarters:?}");
}

#[test]
fn noise_has_its_mean_and_spread_and_differs_between_channels() {
    let gray = Image { width: 100, height: 100, pixels: vec![128; 30_000] };
    let [image] = &draws("gaussian_noise = { mean = 0.1, sigma = 0.05 }", &gray, 1)[..] else { panic!("not one") };
    let noise: Vec<f64> = image.pixels.iter().map(|value| f64::from(*value) - 128.0).collect();
    let mean = noise.iter().sum::<f64>() / 30_000.0;
    let spread = (noise.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 30_000.0).sqrt();
    // Cutting takes half a level, as nearly all noise is positive here.
    assert!((mean - (25.5 - 0.5)).abs() < 5.0 * 12.75 / 30_000f64.sqrt() + 0.05, "mean {mean}");
    assert!((spread / 12.75 - 1.0).abs() < 0.03, "spread {spread}");
    let gray = |pixel: &[u8]| pixel[0] == pixel[1] && pixel[1] == pixel[2];
    assert!(image.pixels.chunks(3).filter(|pixel| gray(pixel)).count() < 100);
}

#[test]
fn wrong_parameters_are_refused() {
    use garde::Validate;
    for (text, message) in [
        ("gaussian_blur = { kernel_size = 4 }", "odd"),
        ("gaussian_blur = { sigma = 0 }", "lower than"),
        ("gaussian_blur = { sigma = [2, 1] }", "[low, high]"),
        ("jpeg_compression = { quality = 0 }", "lower than 1"),
        ("jpeg_compression = { quality = [30, 101] }", "greater than 100"),
    ] {
        let report = toml::from_str::<AugmentSpec>(text).unwrap().validate().unwrap_err().to_string();
        assert!(report.contains(message), "{text}: {report}");
    }
    let error = toml::from_str::<AugmentSpec>("jpeg_compression = { quality = 0.5 }").unwrap_err().to_string();
    assert!(error.contains("floating point"), "{error}");
    let blur = entry("gaussian_blur = { kernel_size = 63 }");
    assert!(blur.as_dyn().check(32).is_ok());
    assert!(blur.as_dyn().check(31).unwrap_err().contains("kernel_size is 63"));
}
