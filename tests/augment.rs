//! Augmentations against torchvision and Pillow (tests/golden/augment.py), and what they draw.

use runner::{
    augment::{
        self, Augment, AugmentSpec, Batch, Context, Scope,
        color_jitter::{Amount, ColorJitter},
        cutmix::{Area, Cutmix},
        mixup::Mixup,
        pillow,
        random_horizontal_flip::RandomHorizontalFlip,
        random_vertical_flip::RandomVerticalFlip,
    },
    tensor::{Image, Key},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    colour: Vec<Colour>,
    normalized: Vec<f32>,
    mixup: Vec<Mixed>,
    cutmix: Vec<Mixed>,
}

#[derive(Deserialize)]
struct Colour {
    function: String,
    factor: f64,
    /// Width and height of the made picture; none: the picture of all colours.
    size: Option<[usize; 2]>,
    sha256: String,
    bytes: BTreeMap<usize, Vec<u8>>,
}

#[derive(Deserialize)]
struct Mixed {
    samples: usize,
    share: f64,
    center: Option<[usize; 2]>,
    #[serde(rename = "box")]
    area: Option<[usize; 4]>,
    images: Vec<f32>,
    targets: Vec<f32>,
}

const CONTEXT: Context = Context { class: 0, classes: &[], size: 224, mean: [0.5; 3], std: [0.5; 3] };

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/augment.json")).unwrap()
}

/// The script's `picture`.
fn picture(width: usize, height: usize) -> Image {
    let mut image = Image::new(width, height);
    for (i, value) in image.pixels.iter_mut().enumerate() {
        let (y, x, c) = (i / 3 / width, i / 3 % width, i % 3);
        *value = (x * (3 + 2 * c) + y * (5 - c) + ((x * y) >> (2 + c)) + c * 40) as u8;
    }
    image
}

/// The script's `all_colours`.
fn all_colours() -> Image {
    let pixels = (0..1u32 << 24).flat_map(|i| [(i >> 16) as u8, (i >> 8) as u8, i as u8]).collect();
    Image { width: 4096, height: 4096, pixels }
}

#[test]
fn colour_functions_are_pillow_bit_for_bit() {
    let golden = golden();
    assert_eq!(golden.colour.len(), 71);
    for case in &golden.colour {
        let mut image = case.size.map_or_else(all_colours, |[width, height]| picture(width, height));
        let function = match case.function.as_str() {
            "brightness" => pillow::adjust_brightness,
            "contrast" => pillow::adjust_contrast,
            "saturation" => pillow::adjust_saturation,
            "hue" => pillow::adjust_hue,
            other => panic!("unknown function {other}"),
        };
        function(&mut image, case.factor);
        let place = format!("{} by {} on {:?}", case.function, case.factor, case.size);
        for (at, bytes) in &case.bytes {
            assert_eq!(&image.pixels[*at..at + 3], bytes, "{place}, byte {at}");
        }
        let digest: String = Sha256::digest(&image.pixels).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, case.sha256, "{place}");
    }
}

#[test]
fn normalize_is_torchvision_bit_for_bit() {
    let mut out = vec![0.0; 8 * 6 * 3];
    augment::normalize(&picture(8, 6).pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], &mut out);
    assert_eq!(out, golden().normalized);
}

/// The script's `batch`: 6 wide, 4 high, 3 classes.
fn with_batch<T>(samples: usize, work: impl FnOnce(&mut Batch) -> T) -> (Vec<f32>, Vec<f32>, T) {
    let mut images: Vec<f32> = (0..samples * 4 * 6 * 3).map(|i| i as f32 / 64.0 - 3.0).collect();
    let mut targets = vec![0.0; samples * 3];
    (0..samples).for_each(|i| targets[i * 3 + i % 3] = 1.0);
    let mut batch = Batch { images: &mut images, targets: &mut targets, samples, height: 4, width: 6, classes: 3 };
    let result = work(&mut batch);
    (images, targets, result)
}

fn assert_close(ours: &[f32], original: &[f32], place: &str) {
    assert_eq!(ours.len(), original.len(), "{place}");
    let off = ours.iter().zip(original).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-6, "{place}: off by {off}");
}

#[test]
fn mixup_is_that_of_torchvision() {
    for case in golden().mixup {
        let (images, targets, ()) = with_batch(case.samples, |batch| Mixup::default().mix(batch, case.share));
        assert_close(&images, &case.images, "images");
        assert_close(&targets, &case.targets, "targets");
    }
}

#[test]
fn cutmix_is_that_of_torchvision() {
    for case in golden().cutmix {
        let area = Area::around(case.center.unwrap(), case.share, 6, 4);
        let [x1, y1, x2, y2] = case.area.unwrap();
        assert_eq!(area, Area { x: [x1, x2], y: [y1, y2] });
        let (images, targets, ()) = with_batch(case.samples, |batch| Cutmix::default().paste(batch, area));
        assert_close(&images, &case.images, "images");
        assert_close(&targets, &case.targets, "targets");
    }
}

#[test]
fn flip_pairs_an_image_with_the_one_at_the_other_end() {
    let spec: AugmentSpec = toml::from_str("mixup = { pairing = 'flip' }").unwrap();
    let AugmentSpec::mixup(mixup) = &spec else { panic!("not mixup") };
    let (_, targets, ()) = with_batch(5, |batch| mixup.mix(batch, 0.25));
    assert_close(&targets[0..3], &[0.25, 0.75, 0.0], "0 with 4");
    assert_close(&targets[6..9], &[0.0, 0.0, 1.0], "2 with itself");
}

#[test]
fn flips_mirror_and_undo_themselves() {
    for (width, height) in [(4, 4), (5, 3), (1, 2), (3, 1)] {
        let image = picture(width, height);
        let (horizontal, vertical) = (RandomHorizontalFlip { p: 1.0 }, RandomVerticalFlip { p: 1.0 });
        let flipped = |augment: &dyn Augment, image: &Image| {
            let mut image = image.clone();
            augment.sample(&mut image, &mut Key::new(0).rng()).unwrap();
            image
        };
        let (h, v) = (flipped(&horizontal, &image), flipped(&vertical, &image));
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            assert_eq!(h.pixel(x, y), image.pixel(width - 1 - x, y));
            assert_eq!(v.pixel(x, y), image.pixel(x, height - 1 - y));
        }
        assert_eq!(flipped(&horizontal, &h), image);
        assert_eq!(flipped(&vertical, &v), image);
    }
}

/// Applies an entry under many keys to a gray pixel and returns what comes out.
fn draws(text: &str, pixel: [u8; 3], count: u64) -> Vec<[u8; 3]> {
    let list: Vec<AugmentSpec> = vec![toml::from_str(text).unwrap()];
    let draw = |i| {
        let mut image = Image::new(1, 1);
        image.set_pixel(0, 0, pixel);
        augment::sample(&list, &mut image, &CONTEXT, Key::new(7).with(i)).unwrap();
        image.pixel(0, 0)
    };
    (0..count).map(draw).collect()
}

#[test]
fn brightness_is_drawn_evenly_from_its_range() {
    for (text, low, high) in [
        ("color_jitter = { brightness = 0.5 }", 50.0, 150.0),
        ("color_jitter = { brightness = [0.2, 0.4] }", 20.0, 40.0),
        ("color_jitter = { brightness = 2 }", 0.0, 255.0),
    ] {
        let values: Vec<f64> = draws(text, [100; 3], 4000).iter().map(|[r, ..]| f64::from(*r)).collect();
        let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        assert!((low..=low + 2.0).contains(&least) && (high - 2.0..=high).contains(&most), "{text}: {least}..{most}");
        if high < 255.0 {
            let mean = values.iter().sum::<f64>() / 4000.0;
            let spread = (high - low) / 12f64.sqrt() / 4000f64.sqrt();
            // Truncation takes half a level.
            assert!((mean + 0.5 - (low + high) / 2.0).abs() < 5.0 * spread, "{text}: mean {mean}");
        }
    }
}

#[test]
fn the_order_of_changes_varies() {
    // Black first to 80 % brightness and then by contrast is something else than the other way round.
    let jitter = ColorJitter {
        brightness: Amount::Between([0.5, 0.5]),
        saturation: Amount::Between([0.0, 0.0]),
        hue: Amount::Between([0.25, 0.25]),
        ..Default::default()
    };
    let outcome = |i| {
        let mut image = Image::new(1, 1);
        image.set_pixel(0, 0, [201, 35, 90]);
        jitter.sample(&mut image, &mut Key::new(3).with(i).rng()).unwrap();
        image.pixels
    };
    let kinds: std::collections::BTreeSet<Vec<u8>> = (0..100).map(outcome).collect();
    assert!(kinds.len() > 1, "{kinds:?}");
}

#[test]
fn nothing_switched_on_changes_nothing() {
    for text in ["color_jitter = {}", "color_jitter = { contrast = [1, 1], hue = [0, 0] }"] {
        assert!(draws(text, [12, 200, 77], 20).iter().all(|pixel| *pixel == [12, 200, 77]), "{text}");
    }
}

#[test]
fn one_of_takes_each_entry_as_often() {
    let text = "one_of = [{ color_jitter = { brightness = [0, 0] } }, { color_jitter = { saturation = [0, 0] } }, { color_jitter = {} }]";
    let pixels = draws(text, [200, 10, 10], 6000);
    let black = pixels.iter().filter(|pixel| **pixel == [0; 3]).count();
    let same = pixels.iter().filter(|pixel| **pixel == [200, 10, 10]).count();
    let gray = 6000 - black - same;
    for count in [black, same, gray] {
        assert!(count.abs_diff(2000) < 200, "{black} {gray} {same}");
    }
}

#[test]
fn mixup_draws_its_share_from_beta() {
    let share = |alpha: f64, i: u64| {
        let mixup = Mixup { alpha, ..Default::default() };
        let mut rng = Key::new(11).with(i).rng();
        let (_, targets, ()) = with_batch(2, |batch| mixup.batch(batch, &mut rng));
        f64::from(targets[0])
    };
    for alpha in [0.2, 1.0, 4.0] {
        let shares: Vec<f64> = (0..4000).map(|i| share(alpha, i)).collect();
        let mean = shares.iter().sum::<f64>() / 4000.0;
        let variance = shares.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4000.0;
        let wanted = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        assert!((mean - 0.5).abs() < 5.0 * (wanted / 4000.0).sqrt(), "alpha {alpha}: mean {mean}");
        assert!((variance / wanted - 1.0).abs() < 0.1, "alpha {alpha}: variance {variance}, not {wanted}");
    }
}

#[test]
fn p_is_how_often_a_batch_is_mixed() {
    let mixed = |i| {
        let cutmix = Cutmix { p: 0.3, ..Default::default() };
        let mut rng = Key::new(5).with(i).rng();
        let (images, _, ()) = with_batch(2, |batch| cutmix.batch(batch, &mut rng));
        let (plain, ..) = with_batch(2, |_| ());
        images != plain
    };
    let count = (0..3000).filter(|i| mixed(*i)).count();
    // Some boxes are empty: a center in the corner, or no area.
    assert!((500..=950).contains(&count), "{count} of 3000");
}

#[test]
fn a_list_runs_in_order_and_each_scope_at_its_time() {
    let list: Vec<AugmentSpec> =
        ["random_horizontal_flip = { p = 1 }", "mixup = {}", "color_jitter = { hue = [0.5, 0.5] }"]
            .map(|text| toml::from_str(text).unwrap())
            .into();
    assert_eq!(list.iter().map(|a| a.as_dyn().scope()).filter(|scope| *scope == Scope::Batch).count(), 1);
    let mut image = picture(6, 4);
    augment::sample(&list, &mut image, &CONTEXT, Key::new(1)).unwrap();
    let mut wanted = picture(6, 4);
    RandomHorizontalFlip { p: 1.0 }.sample(&mut wanted, &mut Key::new(0).rng()).unwrap();
    pillow::adjust_hue(&mut wanted, 0.5);
    assert_eq!(image, wanted);
    let (_, targets, ()) = with_batch(3, |batch| augment::batch(&list, batch, Key::new(1)));
    assert!(targets[0] < 1.0 && targets[2] > 0.0, "{targets:?}");
}

#[test]
fn wrong_amounts_are_refused() {
    use garde::Validate;
    for (text, message) in [
        ("color_jitter = { hue = 0.6 }", "greater than 0.5"),
        ("color_jitter = { hue = [-0.6, 0] }", "between -0.5 and 0.5"),
        ("color_jitter = { brightness = -1 }", "lower than 0"),
        ("color_jitter = { contrast = [2, 1] }", "[low, high]"),
        ("one_of = []", "length"),
        ("one_of = [{ mixup = {} }, { random_vertical_flip = {} }]", "mixup on batches"),
        ("one_of = [{ mixup = { alpha = 0 } }]", "alpha"),
    ] {
        let report = toml::from_str::<AugmentSpec>(text).unwrap().validate().unwrap_err().to_string();
        assert!(report.contains(message), "{text}: {report}");
    }
}
