use super::output;
use crate::{
    error::{Context, Error, Result},
    spec::{Sampler, Space},
    sweep::search::{self, Observation, Outcome},
};
use serde::Deserialize;
use std::io::BufRead;

/// Drive a search from outside: one space on the first line of standard input, then a loss for each point that is printed
#[derive(clap::Args)]
pub struct Args {}

/// The first line, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// `random` or `tpe`.
    sampler: String,
    trials: usize,
    seed: u64,
    /// A TOML table of distributions.
    space: String,
}

pub fn run(_: &Args) -> Result<u8> {
    let mut lines = std::io::stdin().lock().lines();
    let question = lines.next().transpose()?.unwrap_or_default();
    let Question { sampler, trials, seed, space } = serde_json::from_str(&question).map_err(Error::user)?;
    let known = Sampler::ALL.into_iter().find(|known| known.name() == sampler);
    let sampler = known.ok_or_else(|| Error::user(format!("no sampler is called `{sampler}`")))?;
    let space = Space::alone(sampler, trials, seed, &space)?;
    let mut points = search::known_points(&space).into_iter();
    let mut history: Vec<Observation> = Vec::new();
    while history.len() < trials {
        let Some(sample) = points.next().or_else(|| search::suggest(&space, &history)) else { break };
        let values: toml::Table = space.values(&sample).into_iter().collect();
        output::line(format_args!("{}", serde_json::to_string(&values).map_err(Error::bug)?))?;
        let Some(line) = lines.next().transpose()? else { break };
        let loss = line.trim().parse().map_err(Error::user).context(|| "a loss".into())?;
        history.push(Observation { sample, outcome: Outcome::Finished { loss } });
    }
    Ok(0)
}
