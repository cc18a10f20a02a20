use super::output;
use crate::{
    data::{self, synthetic::Synthetic},
    error::Result,
    spec::ExperimentFile,
};
use std::path::PathBuf;

/// Make or audit data sets
#[derive(clap::Subcommand)]
pub enum Args {
    /// Write the procedural data set as an FFDI folder
    Synth(SynthArgs),
    /// Audit an experiment file's data: classes, sizes, broken files, duplicates, shortcuts
    Check(CheckArgs),
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
}

pub fn run(args: &Args) -> Result<u8> {
    match args {
        Args::Synth(args) => synth(args),
        Args::Check(args) => check(args),
    }
}

fn synth(args: &SynthArgs) -> Result<u8> {
    let SynthArgs { train, val, size, strength, seed, .. } = *args;
    let set = Synthetic { train, val, size, strength, seed, ..Default::default() };
    data::synth::write_ffdi(&set, &args.dir)?;
    output::line(format_args!("{} + {} images: {}", train, val, args.dir.display()))?;
    Ok(0)
}

/// Audits every data set that the file's experiments use, each once.
fn check(args: &CheckArgs) -> Result<u8> {
    let file = ExperimentFile::load(&args.file, &args.set)?;
    let mut seen: Vec<&data::DataSpec> = Vec::new();
    let mut code = 0;
    for experiment in &file.experiments {
        let data = &experiment.spec.data;
        if seen.contains(&data) {
            continue;
        }
        seen.push(data);
        let audit = data::check::audit(data)?;
        output::print(&audit)?;
        code = code.max(u8::from(audit.has_unreadable()));
    }
    Ok(code)
}
