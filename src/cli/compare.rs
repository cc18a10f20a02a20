use super::output;
use crate::{error::Result, report, store::Store};
use std::path::PathBuf;

/// Compare two experiments or two runs: difference, interval, verdict
#[derive(clap::Args)]
pub struct Args {
    /// An experiment (`baseline`, or `sweep/baseline` where several sweeps have one) or a run's id
    a: String,
    /// What it is compared with
    b: String,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<u8> {
    let store = Store::read(&args.out.join("runner.sqlite"))?;
    output::print(report::compare(&store, &args.a, &args.b)?)?;
    Ok(0)
}
