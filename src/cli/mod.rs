//! The command line: one file per command.

mod ask;
mod bench;
mod clean;
mod compare;
mod control;
mod data;
mod device;
mod doctor;
mod eval;
mod exec;
mod explain;
mod export;
mod groups;
mod init;
mod inputs;
mod list;
mod models;
mod output;
mod plan;
mod planning;
mod predict;
mod preview;
mod query;
mod report;
mod reproduce;
mod robustness;
mod schema;
mod sheet;
mod show;
mod sweep;
mod validation;
mod watch;

use crate::{
    error::{Error, Result},
    exec::control::Action,
};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Runs every training run an experiment file describes, and says which experiment is better, by how much, and how sure
/// that is.
#[derive(Parser)]
#[command(name = "runner", version, arg_required_else_help = true, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 some runs failed, 2 a mistake in the file or command line, 3 a bug.\n\
    Start with: runner init > my.toml; runner plan my.toml; runner sweep my.toml")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Sweep(sweep::Args),
    Plan(plan::Args),
    /// Stop a sweep at work, or some of its runs, as Ctrl-C would: checkpoints first; the next `sweep` goes on from there
    ///
    /// From any terminal. What is stopped stays pending; the sweep goes on with its other runs, and ends when none is left.
    Stop(control::Args),
    /// Pause runs or whole sweeps: they write a checkpoint and free their slots until `resume`
    ///
    /// From any terminal. The sweep goes on with its other runs, then waits for `resume` or `stop`. Where no sweep is at
    /// work, the next one leaves paused runs out.
    Pause(control::Args),
    /// Let paused runs go on from their checkpoints
    Resume(control::Args),
    /// Set failed runs back, so that they are tried again
    Retry(control::Args),
    Watch(watch::Args),
    Report(report::Args),
    Compare(compare::Args),
    List(list::Args),
    Show(show::Args),
    Reproduce(reproduce::Args),
    Clean(clean::Args),
    Query(query::Args),
    Export(export::Args),
    Predict(predict::Args),
    Eval(eval::Args),
    Bench(bench::Args),
    #[command(subcommand)]
    Data(data::Args),
    Explain(explain::Args),
    Schema(schema::Args),
    Init(init::Args),
    Doctor(doctor::Args),
    #[command(hide = true)]
    Exec(exec::Args),
    #[command(hide = true)]
    Ask(ask::Args),
}

/// Parses the command line, runs the command, turns an error into text and an exit code.
pub fn main() -> ExitCode {
    // Before anything reads it: runs compute in their own pools, and Candle's global one would make them wait for each other.
    // SAFETY: no other thread exists yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    match run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a command line inside another program; the first word is the program's name.
///
/// # Errors
/// The command's, and those of the line itself.
pub fn line(words: &[&str]) -> Result<u8> {
    run(Cli::try_parse_from(words).map_err(Error::user)?.command)
}

/// Runs one command and returns the exit code.
fn run(command: Command) -> Result<u8> {
    match command {
        Command::Sweep(args) => sweep::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Stop(args) => control::run(&args, Action::Stop),
        Command::Pause(args) => control::run(&args, Action::Pause),
        Command::Resume(args) => control::run(&args, Action::Resume),
        Command::Retry(args) => control::run(&args, Action::Retry),
        Command::Watch(args) => watch::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::List(args) => list::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Reproduce(args) => reproduce::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Exec(args) => exec::run(&args),
        Command::Ask(args) => ask::run(&args),
    }
}
