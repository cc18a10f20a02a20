use super::output;
use crate::{
    error::Result,
    exec::control::{self, Action},
};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Sweeps by name, runs by the beginning of their id [default: everything in the results folder]
    what: Vec<String>,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

/// Asks the sweep at work in the results folder, or acts on the folder where none is.
pub fn run(args: &Args, action: Action) -> Result<u8> {
    output::line(control::ask(&args.out, action, &args.what)?)?;
    Ok(0)
}
