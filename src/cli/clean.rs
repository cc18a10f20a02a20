use super::output;
use crate::{error::Result, exec};
use std::path::PathBuf;

/// Remove what a results folder no longer needs: left-over checkpoints, unused decoded images, temporary files
///
/// Metrics, predictions, logs and every checkpoint that a run was told to keep stay. Works while a sweep is at work, also
/// one that waits because the disk is full.
#[derive(clap::Args)]
pub struct Args {
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// List what would go and stop
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    output::print(exec::clean(&args.out, args.dry_run)?)?;
    Ok(0)
}
