use super::{output, plan, planning};
use crate::{error::Result, exec, report, store::Store};
use std::num::NonZeroUsize;

/// Run every training run of an experiment file that is missing, then write the report
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: planning::FileArgs,
    /// Runs at once [default: measured]
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Show what would run and stop
    #[arg(long)]
    dry_run: bool,
    /// First break one short run off at random moments and check that it ends on the same numbers as when left alone; where
    /// it does not, nothing starts
    #[arg(long)]
    prove_resume: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let (file, runs) = planning::plan(&args.file)?;
    if args.prove_resume {
        output::line(exec::prove(&args.file.out, &runs, &args.file.device, &mut |news| eprintln!("{news}"))?)?;
    }
    let options = exec::Options::new(&file, &args.file.out, args.jobs.map(NonZeroUsize::get), &args.file.device);
    if args.dry_run {
        plan::show(&args.file, &file, &runs, false)?;
        output::print(exec::price(&runs, &options, None)?)?;
        return Ok(0);
    }
    let outcome = exec::sweep(&file, &runs, &options)?;
    let folder = args.file.out.join(&file.name);
    let store = Store::read(&args.file.out.join("runner.sqlite"))?;
    let page = report::write(&store, &file.name, &folder)?;
    output::line(format_args!("{outcome}\nreport: {}", page.display()))?;
    Ok(if outcome.failed > 0 || outcome.interrupted { 1 } else { 0 })
}
