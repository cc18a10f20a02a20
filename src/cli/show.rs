use super::output;
use crate::{error::Result, report, store::Store};
use std::path::PathBuf;

/// Show one run: its specification, attempts and metrics
#[derive(clap::Args)]
pub struct Args {
    /// The run's id, or the beginning of it
    run: String,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<u8> {
    let store = Store::read(&args.out.join("runner.sqlite"))?;
    output::print(report::show(&store, &args.run)?)?;
    Ok(0)
}
