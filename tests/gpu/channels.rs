//! What networks see of images on a GPU: as on the CPU.

use crate::device::on_gpu;
use candle_core::{DType, Device, Tensor};
use runner::{
    augment,
    data::Channels,
    tensor::{Image, Key, gpu::Queue},
    train::Normalize,
};

const COUNT: usize = 3;
const MEAN: [f32; 3] = [0.5, 0.4, 0.3];
const STD: [f32; 3] = [0.2, 0.25, 0.3];

fn images(side: usize) -> Vec<Image> {
    let picture = |which: u64| {
        let mut rng = Key::new(6).with(which).rng();
        // Smooth parts and noisy ones.
        let value = |i: usize| (i / 5) as u8 ^ (rng.below(1 + i % 90) as u8);
        Image { width: side, height: side, pixels: (0..side * side * 3).map(value).collect() }
    };
    (0..COUNT as u64).map(picture).collect()
}

fn check(channels: Channels, side: usize, size: usize) {
    let normalize = Normalize { channels, mean: MEAN, std: STD };
    let cpu = images(side).into_iter().skip(1).flat_map(|mut image| {
        image.center_crop(size);
        normalize.apply(&image.pixels)
    });
    let bytes: Vec<u8> = images(side).into_iter().flat_map(|image| image.pixels).collect();
    let device: Vec<f32> = on_gpu(|device| {
        let bytes = Tensor::from_vec(bytes, (COUNT, side, side, 3), device).unwrap();
        let queue = Queue::of(&bytes).unwrap().unwrap();
        let levels = augment::gpu::levels(&queue, MEAN, STD).unwrap();
        let view = queue.view(&bytes).unwrap();
        let seen = channels.see(&queue, view, 1..COUNT, levels.view(), size, DType::F32).unwrap().into_tensor();
        assert_eq!(seen.dims(), [COUNT - 1, size, size, channels.count()]);
        seen.to_device(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    });
    for (i, (cpu, device)) in cpu.zip(device).enumerate() {
        // Logarithms may be rounded otherwise.
        assert!((cpu - device).abs() <= 1e-5, "{channels:?} of {size} at {i}: {device} and not {cpu}");
    }
}

#[test]
fn every_choice_of_channels() {
    for channels in [Channels::Rgb, Channels::Ycbcr, Channels::Srm, Channels::Dct] {
        for (side, size) in [(16, 16), (13, 13), (21, 18), (24, 7)] {
            check(channels, side, size);
        }
    }
}
