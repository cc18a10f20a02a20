//! How fast a full training step is, on resident data.

use super::{groups::Groups, image_tensor, update::Updater};
use crate::{
    backbone::{self, Options},
    error::{Error, Result},
    loss::{Loss, Targets, cross_entropy::CrossEntropy},
    optim::OptimizerSpec,
    tensor::{Device, Key, Pass, Tensor},
};
use std::time::Instant;

/// What is measured: forward, backward and an Adam step on one batch of random images, two classes.
#[derive(Clone, Copy, Debug)]
pub struct Bench<'a> {
    pub backbone: &'a str,
    pub size: usize,
    pub batch: usize,
    /// Counted steps.
    pub steps: usize,
}

#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Speed {
    /// From the median step.
    pub images_per_second: f64,
    pub median_ms: f64,
    pub fastest_ms: f64,
    /// The process's largest resident set, where the system tells.
    pub peak_memory_mib: Option<f64>,
}

/// Measures in the current rayon pool, after two steps of warm-up.
pub fn measure(bench: &Bench) -> Result<Speed> {
    const WARM_UP: usize = 2;
    let device = Device::Cpu;
    let options = Options { image_size: bench.size, ..Options::new(2) };
    let model = backbone::build(bench.backbone, &options, &device, Key::new(0))?;
    let mut updater = Updater::new(&OptimizerSpec::adam(Default::default()), &model.params, &Groups::default());
    let (images, targets) = random_batch(bench, &device)?;
    let targets = Targets { probabilities: &targets, classes: None };
    let mut times = Vec::with_capacity(bench.steps);
    for step in 0..WARM_UP + bench.steps {
        let began = Instant::now();
        let logits = model.net.forward(&images, &Pass::train(Key::new(step as u64)))?;
        let loss = CrossEntropy::default().loss(&logits, &targets)?;
        updater.accumulate(&loss.backward()?)?;
        updater.step(1e-4, None, None)?;
        if !loss.to_scalar::<f32>()?.is_finite() {
            return Err(Error::bug("the benchmark's loss is not finite"));
        }
        if step >= WARM_UP {
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    let (fastest_ms, median_ms) = (times[0], times[times.len() / 2]);
    let images_per_second = bench.batch as f64 / median_ms * 1e3;
    Ok(Speed { images_per_second, median_ms, fastest_ms, peak_memory_mib: peak_memory_mib() })
}

fn random_batch(bench: &Bench, device: &Device) -> Result<(Tensor, Tensor)> {
    let mut rng = Key::new(0).named("bench").rng();
    let pixels = (0..bench.batch * bench.size * bench.size * 3).map(|_| rng.normal() as f32).collect();
    let targets: Vec<f32> = (0..bench.batch).flat_map(|i| if i % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
    let images = image_tensor(pixels, bench.batch, bench.size, device)?;
    Ok((images, Tensor::from_vec(targets, (bench.batch, 2), device)?))
}

/// `VmHWM` of `/proc/self/status`; the processes of a run have one each.
pub fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
