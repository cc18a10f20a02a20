use super::output;
use crate::{error::Result, report, store::Store};
use std::path::PathBuf;

/// Write a sweep's report again, from the store alone
#[derive(clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<u8> {
    let store = Store::read(&args.out.join("runner.sqlite"))?;
    let page = report::write(&store, &args.sweep, &args.out.join(&args.sweep))?;
    output::line(page.display())?;
    Ok(0)
}
