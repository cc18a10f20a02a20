use super::{output, planning};
use crate::{
    error::Result,
    exec,
    spec::ExperimentFile,
    sweep::{self, PlannedRun},
};
use std::num::NonZeroUsize;

/// List every run with its id and state, and where each value came from; starts nothing
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: planning::FileArgs,
    /// Leave out where values came from
    #[arg(long)]
    brief: bool,
    /// Take a few steps of each kind of run that never ran here, to tell what the plan costs; prepares images where needed
    #[arg(long)]
    probe: bool,
    /// Runs at once, for the price [default: as `sweep` would]
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
}

pub fn run(args: &Args) -> Result<u8> {
    let (file, runs) = planning::plan(&args.file)?;
    show(&args.file, &file, &runs, !args.brief)?;
    let options = exec::Options::new(&file, &args.file.out, args.jobs.map(NonZeroUsize::get), &args.file.device);
    let mut tell = |news: &str| eprintln!("{news}");
    let probe: Option<&mut dyn FnMut(&str)> = if args.probe { Some(&mut tell) } else { None };
    output::print(exec::price(&runs, &options, probe)?)?;
    Ok(0)
}

/// Prints the plan.
pub fn show(args: &planning::FileArgs, file: &ExperimentFile, runs: &[PlannedRun], origins: bool) -> Result<u8> {
    if origins {
        for experiment in &file.experiments {
            output::line(format_args!("[{}]", experiment.name))?;
            let width =
                experiment.origins.iter().map(|origin| origin.path.len() + origin.value.len() + 3).max().unwrap_or(0);
            for origin in &experiment.origins {
                let value = format!("{} = {}", origin.path, origin.value);
                output::line(format_args!("  {value:<0$}  # {1}", width.min(70), origin.from))?;
            }
        }
        output::line("")?;
    }
    if let Some(edit) = exec::edited(file, runs, &args.out)? {
        output::line(edit)?;
    }
    for (run, state) in runs.iter().zip(exec::states(runs, &args.out)?) {
        let point: Vec<String> = run.point.iter().map(|(key, value)| format!("{key}={value}")).collect();
        output::line(format_args!(
            "{}  {:<24} seed {:<4} {}{}  {state}",
            run.id,
            run.experiment,
            run.seed,
            run.fold().map_or(String::new(), |fold| format!("fold {fold:<3} ")),
            point.join(" ")
        ))?;
    }
    let lines = [sweep::outlook(file, runs), sweep::twins(runs), file.images()];
    lines.iter().flatten().try_for_each(output::line)?;
    Ok(0)
}
