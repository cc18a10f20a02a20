use super::{inputs, output};
use crate::error::{Error, Result};

/// Every metric of a trained model on labelled images
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: inputs::InputArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    if args.input.labels.is_none() {
        return Err(Error::user("eval compares with labels: give --labels FILE (img_name,target)"));
    }
    let rows = inputs::score(&args.input)?;
    let values = inputs::metrics(&rows)?;
    if args.json {
        output::line(serde_json::to_string_pretty(&values).map_err(Error::bug)?)?;
        return Ok(0);
    }
    output::line(format_args!("{:<22} {}", "images", rows.len()))?;
    for (name, value) in values {
        output::line(format_args!("{name:<22} {value:.6}"))?;
    }
    Ok(0)
}
