use super::output;
use crate::{error::Result, report, store::Store};
use std::path::PathBuf;

/// List sweeps and their runs
#[derive(clap::Args)]
pub struct Args {
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<u8> {
    let store = Store::read(&args.out.join("runner.sqlite"))?;
    output::print(report::list(&store)?)?;
    Ok(0)
}
