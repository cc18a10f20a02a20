//! Augmentations on a GPU: the same images as on the CPU, to the bit.

use crate::{check::TYPES, device::on_gpu};
use candle_core::{DType, Device, Tensor};
use runner::{
    augment::{self, AugmentSpec, Batch, Context, Scope, gpu},
    tensor::{Image, Key, gpu::Queue},
};

const SIDE: usize = 21;
const COUNT: usize = 12;
const MEAN: [f32; 3] = [0.5, 0.4, 0.3];
const STD: [f32; 3] = [0.2, 0.25, 0.3];

/// What only the CPU does so far.
const CPU_ALONE: [&str; 12] = [
    "gaussian_blur",
    "sharpness",
    "gaussian_noise",
    "jpeg_compression",
    "webp_compression",
    "downscale",
    "aug_mix",
    "random_crop",
    "random_resized_crop",
    "pad",
    "elastic",
    "grid_mask",
];

fn context() -> Context<'static> {
    Context { class: 0, classes: &[], size: SIDE, mean: MEAN, std: STD }
}

fn images() -> Vec<Image> {
    let picture = |which: usize| {
        let mut rng = Key::new(1).with(which as u64).rng();
        let pixel = |i: usize| ((i * 7 + which * 31) % 256) as u8 ^ (rng.below(40) as u8);
        Image { width: SIDE, height: SIDE, pixels: (0..SIDE * SIDE * 3).map(pixel).collect() }
    };
    (0..COUNT).map(picture).collect()
}

fn key(place: usize) -> Key {
    Key::new(2).with(place as u64)
}

/// The images after the list on the CPU; `None` where a GPU cannot follow.
fn on_cpu(list: &[AugmentSpec]) -> Option<Vec<f32>> {
    let mut values = Vec::new();
    for (place, mut image) in images().into_iter().enumerate() {
        augment::changes(list, [SIDE; 2], &context(), key(place))?;
        augment::sample(list, &mut image, &context(), key(place)).unwrap();
        let mut normalized = vec![0.0; image.pixels.len()];
        augment::normalize(&image.pixels, MEAN, STD, &mut normalized);
        values.extend(normalized);
    }
    Some(values)
}

fn on_device(list: &[AugmentSpec], dtype: DType) -> Option<Vec<f32>> {
    let encode = |place| gpu::encode(&augment::changes(list, [SIDE; 2], &context(), key(place))?, SIDE);
    let changes = (0..COUNT).map(encode).collect::<Option<Vec<_>>>()?;
    let bytes: Vec<u8> = images().into_iter().flat_map(|image| image.pixels).collect();
    let values = on_gpu(|device| {
        let bytes = Tensor::from_vec(bytes, (COUNT, SIDE, SIDE, 3), device).unwrap();
        let queue = Queue::of(&bytes).unwrap().unwrap();
        let source = gpu::Images { bytes: queue.view(&bytes).unwrap(), side: SIDE };
        let samples: Vec<usize> = (0..COUNT).collect();
        let recipe = gpu::Recipe { samples: &samples, changes: &changes, size: SIDE, mean: MEAN, std: STD };
        floats(gpu::batch(&queue, source, &recipe, dtype).unwrap().into_tensor())
    });
    Some(values)
}

fn floats(tensor: Tensor) -> Vec<f32> {
    tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_augmentation_that_says_what_it_changes() {
    for augment in AugmentSpec::every().into_iter().filter(|augment| augment.as_dyn().scope() == Scope::Sample) {
        let list = [augment];
        let (cpu, device) = (on_cpu(&list), on_device(&list, DType::F32));
        let alone = CPU_ALONE.contains(&list[0].name());
        match (cpu, device) {
            (Some(cpu), Some(device)) => {
                assert!(!alone, "{} works on a GPU: take it off the list", list[0].name());
                assert!(cpu == device, "{} differs", list[0].name());
            }
            // A policy may draw sharpness, which is for the CPU alone.
            (_, None) => assert!(alone || list[0].name().contains("augment"), "{} does not work", list[0].name()),
            (None, Some(_)) => panic!("{}: a GPU knows what the CPU does not say", list[0].name()),
        }
    }
}

#[test]
fn settings_that_the_defaults_leave_out() {
    let lists = [
        r#"augment = [{ random_horizontal_flip = {} }, { color_jitter = { brightness = 0.5, contrast = 0.5, saturation = 0.5, hue = 0.5 } }]"#,
        r#"augment = [{ random_rotation = { degrees = 180, interpolation = "bilinear" } }, { random_vertical_flip = {} }]"#,
        r#"augment = [{ random_affine = { degrees = 30, translate = [0.2, 0.2], scale = [0.7, 1.4], shear = 20, interpolation = "bicubic", fill = [1, 2, 3] } }]"#,
        r#"augment = [{ random_perspective = { p = 1.0, interpolation = "nearest" } }, { cutout = { n_holes = 3 } }]"#,
        r#"augment = [{ one_of = [{ invert = { p = 1.0 } }, { equalize = { p = 1.0 } }, { autocontrast = { p = 1.0 } }] }]"#,
        r#"augment = [{ random_erasing = { p = 1.0, mode = "rand", count = [1, 3] } }, { apply = { p = 0.5, augment = [{ solarize = { p = 1.0 } }, { posterize = { p = 1.0, bits = 2 } }] } }]"#,
        r#"augment = [{ random_photometric_distort = { p = 0.9 } }, { random_grayscale = { p = 0.3 } }]"#,
    ];
    for text in lists {
        let mut table: toml::Table = toml::from_str(text).unwrap();
        let list: Vec<AugmentSpec> = table.remove("augment").unwrap().try_into().unwrap();
        let (cpu, device) = (on_cpu(&list).unwrap(), on_device(&list, DType::F32).unwrap());
        let off = cpu.iter().zip(&device).filter(|(a, b)| a != b).count();
        assert_eq!(off, 0, "{off} of {} values differ: {text}", cpu.len());
    }
}

#[test]
fn mixing() {
    for name in ["mixup", "cutmix", "mixup_cutmix"] {
        let mut every = AugmentSpec::every().into_iter();
        let list = [every.find(|augment| augment.name() == name).unwrap()];
        for (dtype, tolerance) in TYPES {
            let mut rng = Key::new(3).rng();
            let values: Vec<f32> = (0..5 * 8 * 8 * 3).map(|_| rng.uniform() as f32).collect();
            let images = Tensor::from_vec(values, (5, 8, 8, 3), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let (mut cpu, mut targets) = (floats(images.clone()), vec![0.0; 5 * 2]);
            let key = Key::new(4).named(name);
            let mut batch =
                Batch { images: &mut cpu, targets: &mut targets, samples: 5, height: 8, width: 8, classes: 2 };
            augment::batch(&list, &mut batch, key).unwrap();
            let mixes = augment::mixes(&list, 5, [8, 8], key).unwrap();
            let device = on_gpu(|device| {
                let images = images.to_device(device).unwrap();
                let queue = Queue::of(&images).unwrap().unwrap();
                floats(gpu::mix(&queue, queue.view(&images).unwrap(), mixes[0].0, &mixes[0].1).unwrap().into_tensor())
            });
            for (cpu, device) in cpu.iter().zip(&device) {
                assert!(f64::from((cpu - device).abs()) <= tolerance, "{name} {dtype:?}: {device} and not {cpu}");
            }
        }
    }
}
