use super::output;
use crate::{error::Result, report, store::Store};
use std::path::PathBuf;

/// List sweeps and their experiments, or the runs of one sweep
#[derive(clap::Args)]
pub struct Args {
    /// The sweep whose runs to list, with their ids [default: every sweep and its experiments]
    sweep: Option<String>,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<u8> {
    let store = Store::read(&args.out.join("runner.sqlite"))?;
    match &args.sweep {
        Some(sweep) => output::print(report::runs(&store, sweep)?)?,
        None => output::print(report::list(&store)?)?,
    }
    Ok(0)
}
