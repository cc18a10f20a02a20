//! MLflow's folder of runs, its "file store": `mlflow migrate-filestore` takes it into a database. A run is a folder; a metric
//! is a file of `milliseconds value step` lines, a parameter a file with its value.

use super::plain;
use crate::{
    error::{Context, Error, Result},
    report,
    store::{Status, Store, SweepRun},
};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

/// Writes a sweep as an experiment of MLflow's, below `dir`.
pub fn write(dir: &Path, store: &Store, sweep: &str) -> Result<PathBuf> {
    let found = store.sweep(sweep)?;
    let id = experiment_id(sweep);
    let folder = dir.join(&id);
    let whole = std::path::absolute(&folder).context(|| folder.display().to_string())?;
    let place = |run: &str| format!("file://{}{run}", whole.display());
    let updated = milliseconds(Some(found.updated_at));
    save(
        &folder.join("meta.yaml"),
        &yaml(&[
            ("artifact_location", quoted(&place(""))),
            ("creation_time", updated.clone()),
            ("experiment_id", quoted(&id)),
            ("last_update_time", updated),
            ("lifecycle_stage", "active".into()),
            ("name", quoted(sweep)),
        ]),
    )?;
    for at in store.runs(sweep)? {
        let run = folder.join(&at.run.id);
        save(&run.join("meta.yaml"), &run_meta(&at, &id, &place(&format!("/{}/artifacts", at.run.id))))?;
        details(&run, &at, store)?;
    }
    Ok(folder)
}

/// MLflow wants digits: the same for the same sweep.
fn experiment_id(sweep: &str) -> String {
    let hash = sweep
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 8).to_string()
}

fn run_meta(at: &SweepRun, experiment: &str, artifacts: &str) -> String {
    let run = &at.run;
    let fold = run.fold.map_or(String::new(), |fold| format!(" fold {fold}"));
    // Running, scheduled, finished, failed and killed are 1 to 5.
    let status = match run.status {
        Status::Running => 1,
        Status::Pending => 2,
        Status::Finished => 3,
        Status::Failed => 4,
        Status::Pruned => 5,
    };
    let end = run.finished_at.map_or("null".into(), |time| milliseconds(Some(time)));
    yaml(&[
        ("artifact_uri", quoted(artifacts)),
        ("end_time", end),
        ("entry_point_name", quoted("")),
        ("experiment_id", quoted(experiment)),
        ("lifecycle_stage", "active".into()),
        ("run_id", quoted(&run.id)),
        ("run_name", quoted(&format!("{} seed {}{fold}", at.experiment, run.seed))),
        ("run_uuid", quoted(&run.id)),
        ("source_name", quoted("runner")),
        ("source_type", "4".into()),
        ("source_version", quoted("")),
        ("start_time", milliseconds(run.started_at)),
        ("status", status.to_string()),
        ("tags", "[]".into()),
        ("user_id", quoted("")),
    ])
}

/// Metrics by epoch, parameters, and what groups runs.
fn details(folder: &Path, at: &SweepRun, store: &Store) -> Result<()> {
    // A run is known by having all of these.
    for part in ["artifacts", "metrics", "params", "tags"].map(|part| folder.join(part)) {
        std::fs::create_dir_all(&part).context(|| part.display().to_string())?;
    }
    let mut metrics = std::collections::BTreeMap::<String, String>::new();
    let time = milliseconds(at.run.started_at);
    for epoch in store.epochs(&at.run.id)? {
        for (name, value) in &epoch.values {
            let lines = metrics.entry(format!("{}/{}", epoch.split.as_str(), plain(name))).or_default();
            let _ = writeln!(lines, "{time} {value} {}", epoch.epoch);
        }
    }
    for (name, lines) in &metrics {
        save(&folder.join("metrics").join(name), lines)?;
    }
    let spec: toml::Table = at.run.spec.parse().map_err(Error::bug)?;
    for (key, value) in report::flat(&spec) {
        save(&folder.join("params").join(plain(&key)), &value)?;
    }
    let seed = at.run.seed.to_string();
    for (tag, value) in [("experiment", &at.experiment), ("point", &at.point), ("seed", &seed)] {
        save(&folder.join("tags").join(tag), value)?;
    }
    Ok(())
}

fn milliseconds(seconds: Option<f64>) -> String {
    format!("{:.0}", seconds.unwrap_or(0.0) * 1000.0)
}

fn yaml(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

/// In YAML's single quotes nothing but themselves means anything.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn save(path: &Path, text: &str) -> Result<()> {
    let place = || path.display().to_string();
    path.parent().map_or(Ok(()), std::fs::create_dir_all).context(place)?;
    std::fs::write(path, text).context(place)
}
