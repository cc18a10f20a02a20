use crate::{error::Result, exec};

/// Take runs from a coordinator on standard input
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<u8> {
    exec::worker()?;
    Ok(0)
}
