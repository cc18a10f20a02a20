use super::{output, preview};
use crate::{
    data::{self, synthetic::Synthetic},
    error::{Error, Result},
    spec::ExperimentFile,
};
use std::path::PathBuf;

/// Make, audit or look at data sets
#[derive(clap::Subcommand)]
pub enum Args {
    /// Write the procedural data set as an FFDI folder
    Synth(SynthArgs),
    /// Audit an experiment file's data: classes, sizes, broken files, duplicates, shortcuts
    Check(CheckArgs),
    /// Draw contact sheets of what an experiment file's augmentations do
    Preview(preview::Args),
}

#[derive(clap::Args)]
pub struct SynthArgs {
    /// The folder to make
    dir: PathBuf,
    /// Training images
    #[arg(long, default_value_t = Synthetic::default().train)]
    train: usize,
    /// Validation images
    #[arg(long, default_value_t = Synthetic::default().val)]
    val: usize,
    /// Width and height in pixels
    #[arg(long, default_value_t = Synthetic::default().size)]
    size: usize,
    /// How plain the forgeries are: 1 needs looking, 2 is seen at a glance
    #[arg(long, default_value_t = Synthetic::default().strength)]
    strength: f64,
    /// Another seed makes another set
    #[arg(long, default_value_t = Synthetic::default().seed)]
    seed: u64,
}

#[derive(clap::Args)]
pub struct CheckArgs {
    /// The experiment file
    file: PathBuf,
    /// Sets a value, e.g. --set data.ffdi.root=data/phase1
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One data set and the experiments that use it.
#[derive(serde::Serialize)]
struct Checked<'a> {
    experiments: Vec<&'a str>,
    data: &'a data::DataSpec,
    audit: data::check::Audit,
}

pub fn run(args: &Args) -> Result<u8> {
    match args {
        Args::Synth(args) => synth(args),
        Args::Check(args) => check(args),
        Args::Preview(args) => preview::run(args),
    }
}

fn synth(args: &SynthArgs) -> Result<u8> {
    let SynthArgs { train, val, size, strength, seed, .. } = *args;
    let set = Synthetic { train, val, size, strength, seed, ..Default::default() };
    data::synth::write_ffdi(&set, &args.dir)?;
    output::line(format_args!("{} + {} images: {}", train, val, args.dir.display()))?;
    Ok(0)
}

/// Audits every data set that the file's experiments use, each once. Warnings leave the exit code 0; data that nothing
/// would start on, unreadable images with `on_bad_image = "error"`, are the user's mistake: 2.
fn check(args: &CheckArgs) -> Result<u8> {
    let file = ExperimentFile::load(&args.file, &args.set)?;
    let mut sets: Vec<(&data::DataSpec, Vec<&str>)> = Vec::new();
    for experiment in &file.experiments {
        let data = &experiment.spec.data;
        match sets.iter_mut().find(|(known, _)| *known == data) {
            Some((_, experiments)) => experiments.push(&experiment.name),
            None => sets.push((data, vec![&experiment.name])),
        }
    }
    let mut all = Vec::new();
    for (data, experiments) in sets {
        let checked = Checked { experiments, data, audit: data::check::audit(data)? };
        if !args.json {
            output::print(format_args!("data of {}\n\n{}", checked.experiments.join(", "), checked.audit))?;
        }
        all.push(checked);
    }
    if args.json {
        output::line(serde_json::to_string_pretty(&all).map_err(Error::bug)?)?;
    }
    Ok(if all.iter().any(|checked| checked.audit.unusable) { 2 } else { 0 })
}
