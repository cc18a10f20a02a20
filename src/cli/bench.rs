use super::{
    device::{Computer, DeviceArgs},
    output,
};
use crate::{
    error::{Error, Result},
    train::speed::{self, Bench},
};
use std::num::NonZeroUsize;

/// Images per second of a full training step (forward, backward, Adam) on resident data
#[derive(clap::Args)]
pub struct Args {
    /// timm's name
    #[arg(long)]
    backbone: String,
    /// Width and height of the images
    #[arg(long, default_value = "224")]
    size: NonZeroUsize,
    /// Images of one step
    #[arg(long, default_value = "32")]
    batch: NonZeroUsize,
    #[command(flatten)]
    device: DeviceArgs,
    /// Threads [default: every core]
    #[arg(long)]
    threads: Option<usize>,
    /// Counted steps, after two that are not
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Only algorithms whose results are the same every time, as `deterministic = true` in a file
    #[arg(long)]
    deterministic: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let Computer { device, precision } = args.device.open()?;
    let threads = match args.threads {
        Some(threads) => threads.max(1),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let (size, batch, steps) = (args.size.get(), args.batch.get(), args.steps.max(1));
    let bench =
        Bench { backbone: &args.backbone, size, batch, steps, device, precision, deterministic: args.deterministic };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(Error::bug)?;
    let speed = pool.install(|| speed::measure(&bench))?;
    if args.json {
        output::line(serde_json::to_string(&speed).map_err(Error::bug)?)?;
    } else {
        output::line(format_args!(
            "{} {}x{} batch {}, {threads} threads: {:.1} images/s (median step {:.1} ms, fastest {:.1} ms), {}",
            args.backbone,
            args.size,
            args.size,
            args.batch,
            speed.images_per_second,
            speed.median_ms,
            speed.fastest_ms,
            speed.peak_memory_mib.map_or("peak memory unknown".into(), |mib| format!("peak memory {mib:.0} MiB")),
        ))?;
    }
    Ok(0)
}
