use super::{inputs, output};
use crate::{
    error::{Context, Error, Result},
    event::Prediction,
};
use std::{fmt::Write, path::PathBuf};

/// Score images with a trained model: img_name,y_pred with y_pred = P(class 1)
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: inputs::InputArgs,
    /// Where the scores go; - is standard output
    #[arg(long, default_value = "prediction.csv", value_name = "FILE")]
    out: PathBuf,
    /// A column for every class
    #[arg(long)]
    all_classes: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let items = args.input.items()?;
    let rows = inputs::Scorer::new(&args.input)?.score(&items, &inputs::unchanged)?;
    let classes = if rows.is_empty() { 2 } else { inputs::classes(&rows) };
    if classes != 2 && !args.all_classes {
        return Err(Error::user(format!("the model has {classes} classes: say --all-classes for a column each")));
    }
    let text = csv(&rows, classes, args.all_classes);
    if args.out.as_os_str() == "-" {
        output::print(text)?;
    } else {
        std::fs::write(&args.out, text).context(|| format!("cannot write {}", args.out.display()))?;
        output::line(format_args!("{} images: {}", rows.len(), args.out.display()))?;
    }
    Ok(0)
}

fn csv(rows: &[Prediction], classes: usize, all_classes: bool) -> String {
    let columns =
        if all_classes { (0..classes).map(|class| format!("y_{class}")).collect() } else { vec!["y_pred".into()] };
    let mut text = format!("img_name,{}\n", columns.join(","));
    for row in rows {
        let scores = if all_classes { &row.scores[..] } else { &row.scores[1..] };
        let scores: Vec<String> = scores.iter().map(f32::to_string).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{},{}", output::quoted(&row.image), scores.join(","));
    }
    text
}
