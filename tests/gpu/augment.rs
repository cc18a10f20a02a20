//! Augmentations on a GPU: the same images as on the CPU, to the bit, but for the last bits of a GPU's own sines and
//! logarithms.

use crate::{check::TYPES, device::on_gpu};
use candle_core::{DType, Device, Tensor};
use runner::{
    augment::{
        self, AugmentSpec, Batch, Context, Scope,
        change::{self, Change},
        encode::Program,
        gpu,
        policy::{Canvas, Step},
        policy_timm,
        warp::Filter,
    },
    tensor::{Image, Interpolation, Key, gpu::Queue},
};

const COUNT: usize = 12;
const MEAN: [f32; 3] = [0.5, 0.4, 0.3];
const STD: [f32; 3] = [0.2, 0.25, 0.3];

/// What a GPU leaves to the CPU: whole batches then come from there.
const CPU_ALONE: [&str; 1] = ["webp_compression"];

/// The images' side, and that which the network sees.
#[derive(Clone, Copy)]
struct Sides {
    stored: usize,
    seen: usize,
}

const SAME: Sides = Sides { stored: 21, seen: 21 };

impl Sides {
    fn context(self) -> Context<'static> {
        Context { class: 0, classes: &[], size: self.seen, mean: MEAN, std: STD }
    }

    fn images(self) -> Vec<Image> {
        let side = self.stored;
        let picture = |which: usize| {
            let mut rng = Key::new(1).with(which as u64).rng();
            let pixel = |i: usize| ((i * 7 + which * 31) % 256) as u8 ^ (rng.below(40) as u8);
            Image { width: side, height: side, pixels: (0..side * side * 3).map(pixel).collect() }
        };
        (0..COUNT).map(picture).collect()
    }

    fn changes(self, list: &[AugmentSpec], place: usize) -> Vec<Change> {
        let mut changes = augment::changes(list, [self.stored; 2], &self.context(), key(place));
        changes.push(Change::CenterCrop(self.seen));
        assert_eq!(change::size_after(&changes, [self.stored; 2]), [self.seen; 2]);
        changes
    }

    fn on_cpu(self, list: &[AugmentSpec]) -> Vec<f32> {
        let mut values = Vec::new();
        for (place, mut image) in self.images().into_iter().enumerate() {
            augment::sample(list, &mut image, &self.context(), key(place)).unwrap();
            image.center_crop(self.seen);
            let mut normalized = vec![0.0; image.pixels.len()];
            augment::normalize(&image.pixels, MEAN, STD, &mut normalized);
            values.extend(normalized);
        }
        values
    }

    /// `None` where something is for the CPU alone.
    fn on_device(self, list: &[AugmentSpec]) -> Option<Vec<f32>> {
        let program = |place| Program::new(&self.changes(list, place), [self.stored; 2]);
        let programs = (0..COUNT).map(program).collect::<Option<Vec<_>>>()?;
        let bytes: Vec<u8> = self.images().into_iter().flat_map(|image| image.pixels).collect();
        Some(on_gpu(|device| {
            let bytes = Tensor::from_vec(bytes, (COUNT, self.stored, self.stored, 3), device).unwrap();
            let queue = Queue::of(&bytes).unwrap().unwrap();
            let levels = gpu::levels(&queue, MEAN, STD).unwrap();
            let images = gpu::Images { bytes: queue.view(&bytes).unwrap(), side: self.stored };
            let output = gpu::Output::Normalized(levels.view(), DType::F32);
            let jobs: Vec<_> =
                programs.iter().enumerate().map(|(sample, program)| gpu::Job { sample, program }).collect();
            floats(gpu::batch(&queue, images, &jobs, self.seen, output).unwrap().into_tensor())
        }))
    }

    /// The GPU makes of every image what the CPU makes of it.
    fn check(self, list: &[AugmentSpec], what: &str) {
        let (cpu, device) = (self.on_cpu(list), self.on_device(list));
        let device = device.unwrap_or_else(|| panic!("a GPU does not know {what}"));
        assert_eq!(cpu.len(), device.len());
        let off: Vec<usize> = (0..cpu.len()).filter(|&i| cpu[i] != device[i]).collect();
        // The functions of a GPU's own may turn the rounding of one value in thousands.
        let level = |i: usize| ((cpu[i] - device[i]) * STD[i % 3] * 255.0).abs() < 1.01;
        let rounding = cfg!(feature = "cuda") && off.len() * 1000 < cpu.len() && off.iter().all(|&i| level(i));
        assert!(off.is_empty() || rounding, "{what}: {} of {} values differ", off.len(), cpu.len());
    }
}

fn key(place: usize) -> Key {
    Key::new(2).with(place as u64)
}

fn list(text: &str) -> Vec<AugmentSpec> {
    let mut table: toml::Table = toml::from_str(&format!("augment = [{text}]")).unwrap();
    table.remove("augment").unwrap().try_into().unwrap()
}

fn floats(tensor: Tensor) -> Vec<f32> {
    tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn every(scope: Scope) -> impl Iterator<Item = AugmentSpec> {
    AugmentSpec::every().into_iter().filter(move |augment| augment.as_dyn().scope() == scope)
}

#[test]
fn every_augmentation_of_an_image() {
    for augment in every(Scope::Sample) {
        let name = augment.name();
        match CPU_ALONE.contains(&name) {
            true => assert_eq!(SAME.on_device(&[augment]), None, "{name}: take it off the list"),
            false => SAME.check(&[augment], name),
        }
    }
}

#[test]
fn settings_that_the_defaults_leave_out() {
    for text in [
        r#"{ random_horizontal_flip = {} }, { color_jitter = { brightness = 0.5, contrast = 0.5, saturation = 0.5, hue = 0.5 } }"#,
        r#"{ random_rotation = { degrees = 180, interpolation = "bilinear" } }, { random_vertical_flip = {} }"#,
        r#"{ random_affine = { degrees = 30, translate = [0.2, 0.2], scale = [0.7, 1.4], shear = 20, interpolation = "bicubic", fill = [1, 2, 3] } }"#,
        r#"{ random_affine = { degrees = 0, translate = [0.2, 0.2], scale = [0.7, 1.4], fill = [1, 2, 3] } }"#,
        r#"{ random_perspective = { p = 1.0, interpolation = "nearest" } }, { cutout = { n_holes = 3 } }"#,
        r#"{ one_of = [{ invert = { p = 1.0 } }, { equalize = { p = 1.0 } }, { autocontrast = { p = 1.0 } }] }"#,
        r#"{ random_erasing = { p = 1.0, mode = "rand", count = [1, 3] } }, { apply = { p = 0.5, augment = [{ solarize = { p = 1.0 } }, { posterize = { p = 1.0, bits = 2 } }] } }"#,
        r#"{ apply = { p = 1.0, augment = [{ random_erasing = { p = 0.9, mode = "pixel", count = [1, 3] } }, { gaussian_noise = { p = 0.7 } }, { elastic = {} }] } }"#,
        r#"{ random_photometric_distort = { p = 0.9 } }, { random_grayscale = { p = 0.3 } }"#,
        r#"{ sharpness = { p = 1.0, sharpness_factor = 0.0 } }, { gaussian_blur = { kernel_size = 31, sigma = [0.5, 9] } }"#,
        r#"{ gaussian_noise = { mean = 0.1, sigma = 0.5 } }, { elastic = { alpha = 200, sigma = 0, fill = [9, 8, 7] } }"#,
        r#"{ elastic = { alpha = 90, sigma = 2.5 } }"#,
        r#"{ rand_augment = { num_ops = 4, magnitude = 9, mstd = 0.5, increasing = true } }"#,
        r#"{ rand_augment = { num_ops = 3, magnitude = 20, interpolation = "bilinear", fill = [4, 5, 6] } }"#,
        r#"{ trivial_augment_wide = {} }, { auto_augment = { policy = "svhn" } }"#,
        r#"{ aug_mix = { severity = 9, mixture_width = 4, interpolation = "nearest", fill = [70, 80, 90] } }, { aug_mix = { all_ops = false } }"#,
        r#"{ grid_mask = { d = [4, 9], mode = "bars", ratio = 0.3, p = 1.0, fill = [1, 2, 3] } }"#,
        r#"{ grid_mask = { d = [4, 9], rotate = 1, p = 1.0 } }"#,
    ] {
        SAME.check(&list(text), text);
    }
}

#[test]
fn images_that_change_their_size() {
    for (stored, seen) in [(21, 21), (37, 24), (16, 29)] {
        for text in [
            r#"{ random_resized_crop = {} }"#,
            r#"{ random_resized_crop = { scale = [0.05, 0.3], ratio = [0.1, 10], interpolation = "nearest" } }"#,
            r#"{ random_resized_crop = { scale = [0.05, 1.0], interpolation = "bicubic" } }, { random_horizontal_flip = {} }"#,
            r#"{ random_resized_crop = { scale = [0.05, 1.0], ratio = [0.1, 10], interpolation = "lanczos" } }"#,
            r#"{ random_crop = { padding = 5, pad_if_needed = true, fill = [1, 2, 3] } }"#,
            r#"{ random_crop = { padding = 2, pad_if_needed = true, padding_mode = "edge" } }"#,
            r#"{ pad = { padding = 50, padding_mode = "reflect" } }, { random_crop = {} }"#,
            r#"{ pad = { padding = 50, padding_mode = "symmetric" } }, { random_rotation = { degrees = 30 } }"#,
            r#"{ downscale = { scale = [0.05, 0.9], down = "bicubic", up = "lanczos" } }, { pad = { padding = 9 } }"#,
            r#"{ downscale = { scale = 0.3, down = "nearest", up = "nearest" } }, { pad = { padding = 9 } }"#,
        ] {
            Sides { stored, seen }.check(&list(text), &format!("{text} of {stored} to {seen}"));
        }
    }
}

/// Checks these changes to one image, which leave it square.
fn check_changes(changes: &[Change], what: &str) {
    let sides = Sides { stored: 48, seen: change::size_after(changes, [48; 2])[0] };
    let mut image = sides.images().remove(3);
    let source = image.pixels.clone();
    changes.iter().for_each(|change| change.apply(&mut image).unwrap());
    let program = Program::new(changes, [sides.stored; 2]).unwrap();
    let device = on_gpu(|device| {
        let bytes = Tensor::from_vec(source, (1, sides.stored, sides.stored, 3), device).unwrap();
        let queue = Queue::of(&bytes).unwrap().unwrap();
        let images = gpu::Images { bytes: queue.view(&bytes).unwrap(), side: sides.stored };
        let jobs = [gpu::Job { sample: 0, program: &program }];
        floats(gpu::batch(&queue, images, &jobs, sides.seen, gpu::Output::Bytes).unwrap().into_tensor())
    });
    let off = image.pixels.iter().zip(device).filter(|(cpu, device)| f32::from(**cpu) != *device).count();
    assert_eq!(off, 0, "{what}: {off} of {} values differ", image.pixels.len());
}

#[test]
fn every_operation_of_the_policies() {
    for op in policy_timm::OPS {
        for (filter, arguments) in [
            (Filter::Nearest, [0.0, 0.4, 45.0]),
            (Filter::Bilinear, [1.7, 4.0, -0.3]),
            (Filter::Bicubic, [7.5, -20.0, 200.0]),
        ] {
            for argument in arguments {
                let canvas = Canvas { filter, fill: [10, 20, 30] };
                // An image that is not square shows which axis is which.
                let crop = Change::Crop { corner: [3, 5], size: [40, 31] };
                let changes = [crop, Change::Step(Step { op, argument }, canvas), Change::CenterCrop(31)];
                check_changes(&changes, &format!("{op:?} by {argument}, {filter:?}"));
            }
        }
    }
}

#[test]
fn resizing_bit_by_bit() {
    for filter in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos] {
        for (from, to) in [([21, 21], [13, 13]), ([21, 34], [40, 16]), ([30, 20], [30, 7]), ([9, 30], [21, 30])] {
            let changes = [Change::Resize(from, filter), Change::Resize(to, filter), Change::CenterCrop(7)];
            check_changes(&changes, &format!("{filter:?} from {from:?} to {to:?}"));
        }
    }
}

#[test]
fn jpeg_bit_by_bit() {
    for size in [[48, 48], [1, 1], [2, 3], [4, 9], [5, 4], [8, 7], [16, 17], [33, 15], [17, 34], [47, 31]] {
        for quality in [1, 10, 30, 49, 50, 75, 90, 100] {
            // Noise first, then something smooth.
            for blurred in [false, true] {
                let blur = blurred.then_some(Change::Blur { kernel_size: 11, sigma: 3.0 });
                let back = Change::Resize([48; 2], Interpolation::Nearest);
                let changes = [Change::Crop { corner: [0, 0], size }, Change::Jpeg(quality), back];
                let changes: Vec<Change> = blur.into_iter().chain(changes).collect();
                check_changes(&changes, &format!("quality {quality} of {size:?}, blurred: {blurred}"));
            }
        }
    }
}

/// Three images a batch of five, so that some are cut off, and channels beside the colours.
fn mixed(entries: &[AugmentSpec], dtype: DType, channels: usize, key: Key) -> [Vec<f32>; 2] {
    let mut rng = Key::new(3).rng();
    let values: Vec<f32> = (0..5 * 9 * 9 * channels).map(|_| rng.uniform() as f32).collect();
    let images = Tensor::from_vec(values, (5, 9, 9, channels), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    let (mut cpu, mut targets) = (floats(images.clone()), vec![0.0; 5 * 2]);
    let mut batch = Batch { images: &mut cpu, targets: &mut targets, samples: 5, height: 9, width: 9, classes: 2 };
    augment::batch(entries, &mut batch, key);
    let device = on_gpu(|device| {
        let mut images = images.to_device(device).unwrap();
        let queue = Queue::of(&images).unwrap().unwrap();
        for (pairing, mixes) in augment::mixes(entries, 5, [9, 9], key) {
            images = gpu::mix(&queue, queue.view(&images).unwrap(), pairing, &mixes).unwrap().into_tensor();
        }
        floats(images)
    });
    [cpu, device]
}

#[test]
fn every_augmentation_of_a_batch() {
    for augment in every(Scope::Batch) {
        for (i, (dtype, tolerance)) in TYPES.into_iter().enumerate() {
            let [cpu, device] = mixed(std::slice::from_ref(&augment), dtype, 3 + i, Key::new(4).with(i as u64));
            let tolerance = if dtype == DType::F32 { 0.0 } else { tolerance };
            for (cpu, device) in cpu.iter().zip(&device) {
                let off = f64::from((cpu - device).abs());
                assert!(off <= tolerance, "{} {dtype:?}: {device} and not {cpu}", augment.name());
            }
        }
    }
}

#[test]
fn settings_of_batches_that_the_defaults_leave_out() {
    for text in [
        r#"{ apply = { p = 1.0, augment = [{ cutmix = { pairing = "flip" } }, { mixup = {} }] } }"#,
        r#"{ mixup_cutmix = { mode = "elem", prob = 0.8, correct_lam = false } }, { resizemix = {} }"#,
        r#"{ one_of = [{ resizemix = { scope = [0.0, 1.0], pairing = "flip" } }, { mixup_cutmix = { mode = "pair" } }] }"#,
    ] {
        for draw in 0..6 {
            let [cpu, device] = mixed(&list(text), DType::F32, 3, Key::new(5).with(draw));
            assert!(cpu == device, "{text}, draw {draw}");
        }
    }
}
