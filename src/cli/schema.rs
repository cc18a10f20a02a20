use super::output;
use crate::{
    error::{Error, Result},
    spec,
};

/// Print the JSON schema of experiment files, for editors
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<u8> {
    output::line(serde_json::to_string_pretty(&spec::schema()).map_err(Error::bug)?)?;
    Ok(0)
}
