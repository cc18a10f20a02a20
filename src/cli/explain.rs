use super::output;
use crate::{error::Result, spec};

/// Explain a key or a component of the experiment file; without a name, list them all
#[derive(clap::Args)]
pub struct Args {
    /// E.g. cutmix, adamw, early_stop
    name: Option<String>,
}

pub fn run(args: &Args) -> Result<u8> {
    output::print(spec::explain(args.name.as_deref())?)?;
    Ok(0)
}
