use super::output;
use crate::{error::Result, exec};
use std::path::PathBuf;

/// Run a finished run again, in a folder that is gone afterwards, and say whether its numbers are the same
///
/// Every metric of every epoch and every prediction is compared bit for bit; times are not. Exit code 0 where all are the
/// same, 1 where one is not.
#[derive(clap::Args)]
pub struct Args {
    /// The run's id, or the beginning of it
    run: String,
    /// Where to run: cpu, cuda:0, .. [default: the kind of device it ran on]
    #[arg(long)]
    device: Option<String>,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<u8> {
    let done = exec::reproduce(&args.out, &args.run, args.device.as_deref(), &mut |news| eprintln!("{news}"))?;
    output::print(&done)?;
    Ok(u8::from(done.difference.is_some()))
}
