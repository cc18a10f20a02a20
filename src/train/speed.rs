//! How fast a full training step is, on resident data.

use super::{
    forward::{self, Ends, Outcome},
    groups::Groups,
    recorded::Recorder,
    update::Updater,
};
use crate::{
    backbone::{self, Options},
    error::{Error, Result, log},
    loss::{Loss, Targets, cross_entropy::CrossEntropy},
    optim::OptimizerSpec,
    spec::Precision,
    tensor::{
        Device, Key, Pass, Tensor, Turn,
        gpu::{self, Queue},
    },
};
use std::time::Instant;

/// What is measured: forward, backward and an Adam step on one batch of random images, two classes.
#[derive(Clone, Debug)]
pub struct Bench<'a> {
    pub backbone: &'a str,
    pub size: usize,
    pub batch: usize,
    /// Counted steps.
    pub steps: usize,
    pub device: Device,
    pub precision: Precision,
    /// As `deterministic` of a run.
    pub deterministic: bool,
}

/// What was measured.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Speed {
    /// From the median step; on a GPU, from the median of tens of steps: waiting for each would slow them down.
    pub images_per_second: f64,
    pub median_ms: f64,
    pub fastest_ms: f64,
    /// The process's largest resident set, where the system tells; of a GPU, the most memory in use.
    pub peak_memory_mib: Option<f64>,
}

/// Measures in the current rayon pool, after two steps of warm-up.
pub fn measure(bench: &Bench) -> Result<Speed> {
    let device = &bench.device;
    let (warm_up, together) = if device.is_cpu() { (2, 1) } else { (20, 10) };
    gpu::set_mode(device, gpu::Mode { tf32: bench.precision == Precision::Tf32, deterministic: bench.deterministic })?;
    let options = Options { image_size: bench.size, ..Options::new(2) };
    let model = backbone::build(bench.backbone, &options, device, Key::new(0))?;
    let mut updater = Updater::new(&OptimizerSpec::adam(Default::default()), &model.params, &Groups::default())?;
    let (images, targets) = random_batch(bench)?;
    let mut recorder = Recorder::new(&model.params)?;
    let work = |[images, targets]: [&Tensor; 2], turn: Turn| -> Result<Outcome> {
        let pass = Pass { turn: Some(turn), ..Pass::train(Key::new(0)) };
        forward::outcome(model.net.as_ref(), images, &pass, false, |features| {
            let logits = model.net.logits(features, &pass)?;
            let loss = CrossEntropy::default().loss(&logits, &Targets { probabilities: targets, classes: None })?;
            Ok(Ends { scaled: loss.clone(), logits, loss })
        })
    };
    let mut times = Vec::with_capacity(bench.steps);
    let mut began = Instant::now();
    for step in 1..=warm_up + bench.steps.next_multiple_of(together) {
        let turn = Turn { step: step as u64, ..Turn::default() };
        let Outcome { gradients, loss, .. } = match &mut recorder {
            Some(recorder) => recorder.step([&images, &targets], turn, &model.params, work)?,
            None => work([&images, &targets], turn)?,
        };
        updater.accumulate(&gradients)?;
        updater.step(1e-4, None, None)?;
        if !step.is_multiple_of(together) {
            continue;
        }
        if let Some(message) = recorder.as_mut().and_then(Recorder::warning) {
            log(message);
        }
        if !loss.to_scalar::<f32>()?.is_finite() {
            return Err(Error::bug("the benchmark's loss is not finite"));
        }
        if step > warm_up {
            times.push(began.elapsed().as_secs_f64() * 1e3 / together as f64);
        }
        began = Instant::now();
    }
    times.sort_by(f64::total_cmp);
    let (fastest_ms, median_ms) = (times[0], times[times.len() / 2]);
    let images_per_second = bench.batch as f64 / median_ms * 1e3;
    let on_device = Queue::of_device(device)?.map(|queue| queue.peak_memory()).transpose()?.flatten();
    let peak_memory_mib = on_device.map(|bytes| bytes as f64 / f64::from(1 << 20)).or_else(peak_memory_mib);
    Ok(Speed { images_per_second, median_ms, fastest_ms, peak_memory_mib })
}

fn random_batch(bench: &Bench) -> Result<(Tensor, Tensor)> {
    let mut rng = Key::new(0).named("bench").rng();
    let pixels: Vec<f32> = (0..bench.batch * bench.size * bench.size * 3).map(|_| rng.normal() as f32).collect();
    let targets: Vec<f32> = (0..bench.batch).flat_map(|i| if i % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
    let images = Tensor::from_vec(pixels, (bench.batch, bench.size, bench.size, 3), &bench.device)?;
    Ok((images.to_dtype(bench.precision.dtype())?, Tensor::from_vec(targets, (bench.batch, 2), &bench.device)?))
}

/// `VmHWM` of `/proc/self/status`; the processes of a run have one each.
pub fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
