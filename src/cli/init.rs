use super::output;
use crate::{error::Result, spec};

/// Print a commented experiment file to start from: runner init > my.toml
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<u8> {
    output::print(spec::starter())?;
    Ok(0)
}
