mod mlflow;
mod tensorboard;

use super::output;
use crate::{
    error::{Context, Result},
    store::{Rows, Store, Value},
};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

/// Write a sweep's runs, metrics and predictions as files for other tools
#[derive(clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    to: Format,
    /// Folder the files go to; default: `export` in the sweep's own
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// runs.csv (a row for each run, with its summary), metrics.csv and predictions.csv: RFC 4180, numbers with all their
    /// digits
    Csv,
    /// A folder of event files for each run: `tensorboard --logdir DIR`
    Tensorboard,
    /// An experiment of MLflow's, as a folder that `mlflow migrate-filestore` takes into its database
    Mlflow,
}

pub fn run(args: &Args) -> Result<u8> {
    let store = Store::read(&args.out.join("runner.sqlite"))?;
    // A name that is not there is told before any file is written.
    let sweep = store.sweep(&args.sweep)?.name;
    let dir = args.dir.clone().unwrap_or_else(|| args.out.join(&sweep).join("export"));
    std::fs::create_dir_all(&dir).context(|| dir.display().to_string())?;
    match args.to {
        Format::Csv => {
            for (name, rows) in tables(&store, &sweep)? {
                write(&dir.join(format!("{name}.csv")), &csv(&rows))?;
            }
        }
        Format::Tensorboard => {
            let files = tensorboard::write(&dir, &store.query(&metrics(&sweep, "r.started_at, "))?)?;
            files.iter().try_for_each(|path| output::line(path.display()))?;
        }
        Format::Mlflow => output::line(mlflow::write(&dir, &store, &sweep)?.display())?,
    }
    Ok(0)
}

const OF: &str = "FROM sweep_runs s JOIN runs r ON r.id = s.run_id";
const KEYS: &str = "s.experiment, s.point, s.run_id, r.seed, r.fold";

/// A sweep's name within SQL's quotes.
fn quote(sweep: &str) -> String {
    sweep.replace('\'', "''")
}

fn here(sweep: &str) -> String {
    format!("WHERE s.sweep = '{}' ORDER BY s.position", quote(sweep))
}

/// Selects every metric of a sweep, with `more` behind the keys of its run.
fn metrics(sweep: &str, more: &str) -> String {
    let here = here(sweep);
    format!(
        "SELECT {KEYS}, {more}m.epoch, m.step, m.split, m.name, m.value {OF} JOIN metrics m ON m.run_id = r.id {here}, m.epoch, m.step, m.split, m.name"
    )
}

/// What is exported: a name and its rows.
fn tables(store: &Store, sweep: &str) -> Result<[(&'static str, Rows); 3]> {
    let metrics = metrics(sweep, "");
    let (sweep, here) = (quote(sweep), here(sweep));
    let summary = |row: &Vec<Value>| match &row[0] {
        Value::Text(name) => Some(name.clone()),
        _ => None,
    };
    let names = store.query(&format!(
        "SELECT DISTINCT name FROM summaries WHERE run_id IN (SELECT run_id FROM sweep_runs WHERE sweep = '{sweep}') ORDER BY 1"
    ))?;
    let columns: String = names.rows.iter().filter_map(summary).fold(String::new(), |columns, name| {
        let (text, column) = (name.replace('\'', "''"), name.replace('"', "\"\""));
        columns + &format!(", (SELECT value FROM summaries WHERE run_id = r.id AND name = '{text}') AS \"{column}\"")
    });
    let runs = format!(
        "SELECT {KEYS}, r.status, r.attempts, r.device, r.parameters, r.epoch, r.best_epoch, r.started_at, r.finished_at{columns} {OF} {here}"
    );
    let predictions = format!(
        "SELECT {KEYS}, p.split, p.image, p.target, p.class, p.score {OF} JOIN predictions p ON p.run_id = r.id {here}, p.split, p.image, p.class"
    );
    Ok([
        ("runs", store.query(&runs)?),
        ("metrics", store.query(&metrics)?),
        ("predictions", store.query(&predictions)?),
    ])
}

/// A name that is one folder on every system.
fn plain(name: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || "-_.=+".contains(c) { c } else { '_' };
    name.chars().map(kept).take(120).collect()
}

fn csv(rows: &Rows) -> String {
    let mut text = String::new();
    record(&mut text, rows.columns.iter().map(|column| quoted(column)));
    rows.rows.iter().for_each(|row| record(&mut text, row.iter().map(field)));
    text
}

fn record(text: &mut String, fields: impl Iterator<Item = String>) {
    let _ = writeln!(text, "{}", fields.collect::<Vec<_>>().join(","));
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        Value::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(|| path.display().to_string())?;
    output::line(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_a_csv_reader() {
        let rows = Rows {
            columns: vec!["name".into(), "value".into()],
            rows: vec![
                vec![Value::Text("a, \"b\"".into()), Value::Real(0.1 + 0.2)],
                vec![Value::Null, Value::Integer(-3)],
            ],
        };
        assert_eq!(csv(&rows), "name,value\n\"a, \"\"b\"\"\",0.30000000000000004\n,-3\n");
    }
}
