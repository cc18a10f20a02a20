//! The results file: idempotent writes, resumed runs, versions, readers beside a writer, read-only queries.

use runner::{
    error::Cause,
    event::{Event, Prediction, Record, Split, Values},
    store::{NewRun, NewSweep, Status, Store, Value},
};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("results/runner.sqlite")
    }

    fn open(&self) -> Store {
        Store::open(&self.file()).unwrap()
    }

    /// A store with one sweep of two experiments and the runs `aa11` and `ab22`.
    fn store(&self) -> Store {
        let mut store = self.open();
        store.add_sweep(&sweep(&[run("aa11", "baseline", 0), run("ab22", "strong", 0)])).unwrap();
        store
    }
}

fn run(id: &str, experiment: &str, seed: u64) -> NewRun {
    NewRun {
        id: id.into(),
        experiment: experiment.into(),
        point: String::new(),
        seed,
        fold: None,
        spec: "epochs = 3\n".into(),
        data: "fingerprint".into(),
    }
}

fn sweep(runs: &[NewRun]) -> NewSweep<'_> {
    static EXPERIMENTS: std::sync::LazyLock<Vec<(String, String)>> = std::sync::LazyLock::new(|| {
        vec![("baseline".into(), "epochs = 3\n".into()), ("strong".into(), "epochs = 3\n".into())]
    });
    NewSweep {
        name: "quick",
        file: "name = \"quick\"",
        path: "quick.toml",
        partial: false,
        experiments: &EXPERIMENTS,
        runs,
    }
}

fn values(pairs: &[(&str, f64)]) -> Values {
    pairs.iter().map(|(name, value)| (name.to_string(), *value)).collect()
}

fn started(attempt: u32, epoch: u32) -> Event {
    let (device, threads) = ("cpu".to_string(), 2);
    Event::Started { attempt, device, threads, epoch, epochs: 3, steps_per_epoch: 10, parameters: 1234 }
}

fn epoch(epoch: u32, auc: f64) -> Event {
    Event::Epoch { epoch, split: Split::Val, values: values(&[("auc", auc), ("loss", 1.0 - auc)]) }
}

fn step(epoch: u32, step: u64, loss: f64) -> Event {
    Event::Step { epoch, step, values: values(&[("loss", loss)]) }
}

fn predictions() -> Event {
    let row = |image: &str, target: u32, fake: f32| Prediction {
        image: image.into(),
        target,
        scores: vec![1.0 - fake, fake],
    };
    let rows = vec![row("b.jpg", 1, 0.75), row("a.jpg", 0, 0.25)];
    Event::Predictions { epoch: 2, split: Split::Val, classes: vec!["real".into(), "fake".into()], rows }
}

fn finished() -> Event {
    Event::Finished { best_epoch: 2, summary: values(&[("auc", 0.9), ("seconds", 12.5)]) }
}

fn failed(cause: Cause, message: &str) -> Event {
    Event::Failed { cause, message: message.into() }
}

fn records(attempt: u32, from: f64, events: Vec<Event>) -> Vec<Record> {
    let record = |(i, event)| Record { time: from + i as f64, attempt, event };
    events.into_iter().enumerate().map(record).collect()
}

fn whole_run() -> Vec<Record> {
    let warning = Event::Warning { message: "from scratch".into() };
    let (one, two) = (step(1, 1, 0.7), step(2, 11, 0.5));
    let events = vec![started(1, 0), warning, one, epoch(1, 0.6), two, epoch(2, 0.9), predictions(), finished()];
    records(1, 100.0, events)
}

/// Every row of every table, as text.
fn dump(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let tables = ["runs", "sweep_runs", "attempts", "metrics", "summaries", "predictions", "classes", "warnings"];
    let mut lines = Vec::new();
    for table in tables {
        let mut query = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let width = query.column_count();
        let rows = query.query_map([], |row| (0..width).map(|i| row.get::<_, Value>(i)).collect::<Result<Vec<_>, _>>());
        lines.extend(rows.unwrap().map(|row| format!("{table} {:?}", row.unwrap())));
    }
    lines.sort();
    lines
}

#[test]
fn a_run_comes_back_as_it_was_told() {
    let place = Place::new();
    let mut store = place.store();
    assert_eq!(store.status("aa11").unwrap(), Some(Status::Pending));
    assert_eq!(store.status("zz").unwrap(), None);
    store.ingest("aa11", &whole_run(), 777).unwrap();
    assert_eq!(store.journal_offset("aa11").unwrap(), 777);
    assert_eq!(store.journal_offset("ab22").unwrap(), 0);

    let run = store.run("aa11").unwrap().unwrap();
    assert_eq!((run.status, run.attempts, run.epoch, run.best_epoch), (Status::Finished, 1, 2, Some(2)));
    assert_eq!((run.device.as_deref(), run.threads, run.parameters), (Some("cpu"), Some(2), Some(1234)));
    assert_eq!((run.started_at, run.finished_at, run.seconds), (Some(100.0), Some(107.0), 7.0));
    assert_eq!(run.summary, values(&[("auc", 0.9), ("seconds", 12.5)]));
    assert_eq!(store.curves("quick", Split::Val, "auc").unwrap()["aa11"], [(1, 0.6), (2, 0.9)]);
    assert_eq!(store.warnings("aa11").unwrap()[0].message, "from scratch");
    assert_eq!(store.classes("aa11").unwrap(), ["real", "fake"]);
    let seen = store.predictions("aa11", Split::Val).unwrap();
    assert_eq!(seen[0], Prediction { image: "a.jpg".into(), target: 0, scores: vec![0.75, 0.25] });
    assert_eq!((seen.len(), store.predictions("aa11", Split::Test).unwrap().len()), (2, 0));
    let epochs = store.epochs("aa11").unwrap();
    let val: Vec<(u32, f64)> =
        epochs.iter().filter(|e| e.split == Split::Val).map(|e| (e.epoch, e.values["auc"])).collect();
    assert_eq!(val, [(1, 0.6), (2, 0.9)]);
    let sweep = store.sweep("quick").unwrap();
    assert_eq!((sweep.runs, sweep.finished, sweep.failed), (2, 1, 0));
    let runs = store.runs("quick").unwrap();
    let places: Vec<(&str, &str)> = runs.iter().map(|at| (at.run.id.as_str(), at.experiment.as_str())).collect();
    assert_eq!(places, [("aa11", "baseline"), ("ab22", "strong")]);
    assert_eq!(runs[0].run, run);
}

#[test]
fn the_same_records_twice_change_nothing() {
    let place = Place::new();
    let mut store = place.store();
    store.ingest("aa11", &whole_run(), 777).unwrap();
    let once = dump(&place.file());
    store.ingest("aa11", &whole_run(), 777).unwrap();
    assert_eq!(dump(&place.file()), once);
    // Record by record, with all before it again in between, as when a second coordinator read an older offset.
    let other = Place::new();
    let mut slow = other.store();
    for (i, record) in whole_run().iter().enumerate() {
        slow.ingest("aa11", std::slice::from_ref(record), i as u64).unwrap();
        slow.ingest("aa11", &whole_run()[..=i], i as u64).unwrap();
    }
    slow.ingest("aa11", &[], 777).unwrap();
    assert_eq!(dump(&other.file()), once);
}

#[test]
fn a_resumed_attempt_replaces_what_the_broken_one_wrote() {
    let place = Place::new();
    let mut store = place.store();
    // Broken in epoch 3, its checkpoint stands at epoch 1.
    let (one, two, three) = (step(1, 1, 0.7), step(2, 11, 0.5), step(3, 21, 9.0));
    let first = vec![started(1, 0), one, epoch(1, 0.6), two, epoch(2, 0.2), three, epoch(3, 0.1)];
    store.ingest("aa11", &records(1, 0.0, first), 10).unwrap();
    store.ingest("aa11", &records(2, 50.0, vec![started(2, 1)]), 20).unwrap();
    assert_eq!(store.curves("quick", Split::Val, "auc").unwrap()["aa11"], [(1, 0.6)]);
    assert_eq!(store.run("aa11").unwrap().unwrap().epoch, 1);
    let rest = vec![step(2, 11, 0.4), epoch(2, 0.9), step(3, 21, 0.3), epoch(3, 0.8), finished()];
    store.ingest("aa11", &records(2, 60.0, rest), 30).unwrap();
    assert_eq!(store.curves("quick", Split::Val, "auc").unwrap()["aa11"], [(1, 0.6), (2, 0.9), (3, 0.8)]);
    let losses = store.query("SELECT step, value FROM metrics WHERE step IS NOT NULL ORDER BY step").unwrap();
    let expected = [(1, 0.7), (11, 0.4), (21, 0.3)].map(|(step, loss)| vec![Value::Integer(step), Value::Real(loss)]);
    assert_eq!(losses.rows, expected);
    let attempts = store.attempts("aa11").unwrap();
    let ends: Vec<_> = attempts.iter().map(|a| (a.attempt, a.epoch, a.outcome.as_deref())).collect();
    assert_eq!(ends, [(1, 0, None), (2, 1, Some("finished"))]);
}

#[test]
fn failures_and_interruptions_keep_their_cause() {
    let place = Place::new();
    let mut store = place.store();
    let nan = "loss is NaN at step 7";
    store.ingest("aa11", &records(1, 0.0, vec![started(1, 0), failed(Cause::NonFinite, nan)]), 1).unwrap();
    store.ingest("ab22", &records(1, 0.0, vec![started(1, 0), failed(Cause::Interrupted, "stopped")]), 1).unwrap();
    let run = store.run("aa11").unwrap().unwrap();
    assert_eq!(
        (run.status, run.cause.as_deref(), run.error.as_deref()),
        (Status::Failed, Some("non_finite"), Some(nan))
    );
    assert_eq!(store.status("ab22").unwrap(), Some(Status::Pending));
    store.reset("aa11").unwrap();
    let run = store.run("aa11").unwrap().unwrap();
    assert_eq!((run.status, run.error, run.attempts), (Status::Pending, None, 1));
    assert_eq!(store.attempts("aa11").unwrap()[0].message.as_deref(), Some(nan));
    // A finished run stays finished.
    store.ingest("ab22", &records(2, 5.0, vec![started(2, 0), finished()]), 2).unwrap();
    store.reset("ab22").unwrap();
    assert_eq!(store.status("ab22").unwrap(), Some(Status::Finished));
}

#[test]
fn planning_again_keeps_what_is_there() {
    let place = Place::new();
    let mut store = place.store();
    store.ingest("aa11", &whole_run(), 777).unwrap();
    let serving_twice = NewRun { point: "lr=1".into(), ..run("aa11", "strong", 0) };
    store.add_sweep(&sweep(&[run("cc33", "baseline", 1), run("aa11", "baseline", 0), serving_twice])).unwrap();
    let places: Vec<(String, String)> =
        store.runs("quick").unwrap().into_iter().map(|at| (at.run.id, at.experiment)).collect();
    let expected = [("cc33", "baseline"), ("aa11", "baseline"), ("aa11", "strong")];
    assert_eq!(places, expected.map(|(run, experiment)| (run.to_string(), experiment.to_string())));
    assert_eq!(store.status("aa11").unwrap(), Some(Status::Finished));
    assert_eq!(store.sweep("quick").unwrap().runs, 2);
    assert_eq!(store.status("ab22").unwrap(), Some(Status::Pending), "a run stays known when no sweep wants it");
    assert_eq!(store.serves("aa11").unwrap().len(), 2);
}

#[test]
fn values_that_are_not_numbers_survive() {
    let place = Place::new();
    let mut store = place.store();
    let events = vec![started(1, 0), epoch(1, f64::NAN), epoch(2, f64::INFINITY)];
    store.ingest("aa11", &records(1, 0.0, events), 5).unwrap();
    let curve = &store.curves("quick", Split::Val, "auc").unwrap()["aa11"];
    assert!(curve[0].1.is_nan() && curve[1].1.is_infinite());
}

#[test]
fn runs_are_found_by_the_beginning_of_their_id() {
    let place = Place::new();
    let store = place.store();
    assert_eq!(store.find_run("aa").unwrap().id, "aa11");
    assert!(store.find_run("a").unwrap_err().to_string().contains("aa11, ab22"));
    assert!(store.find_run("%").unwrap_err().to_string().contains("no run `%`"));
    assert!(store.sweep("slow").unwrap_err().to_string().contains("there is: quick"));
}

#[test]
fn an_unknown_run_is_a_bug_of_the_caller() {
    let place = Place::new();
    let mut store = place.store();
    let error = store.ingest("zz", &[], 5).unwrap_err();
    assert_eq!((error.cause, error.to_string().contains("zz")), (Cause::Bug, true));
}

#[test]
fn queries_only_read() {
    let place = Place::new();
    let mut store = place.store();
    store.ingest("aa11", &whole_run(), 777).unwrap();
    let before = dump(&place.file());
    let out = place.0.path().join("out.sqlite");
    let (vacuum, attach) = (format!("VACUUM INTO '{}'", out.display()), format!("ATTACH '{}' AS o", out.display()));
    let writes = [
        "DELETE FROM runs",
        "UPDATE runs SET status = 'failed'",
        "INSERT INTO sweeps VALUES (1, 2, 3, 4, 5, 6)",
        "DROP TABLE runs",
        "CREATE TEMP TABLE t (x)",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA user_version = 9",
        "PRAGMA writable_schema = 1",
        "VACUUM",
        &vacuum,
        &attach,
        "BEGIN",
        "WITH x AS (SELECT 1) DELETE FROM runs",
    ];
    for sql in writes {
        let error = store.query(sql).expect_err(sql);
        assert!(error.cause == Cause::User && error.to_string().contains("only reads"), "{sql}: {error}");
    }
    for sql in ["SELECT 1; DELETE FROM runs", "SELECT load_extension('x')", "", "SELECT ?", "nonsense", "SELECT x"] {
        let error = store.query(sql).expect_err(sql);
        assert_eq!(error.cause, Cause::User, "{sql}: {error}");
    }
    assert!(!out.exists());
    assert_eq!(dump(&place.file()), before);
}

#[test]
fn queries_answer_in_columns() {
    let place = Place::new();
    let mut store = place.store();
    store.ingest("aa11", &whole_run(), 777).unwrap();
    let rows = store.query("SELECT id, status, attempts, error FROM runs ORDER BY id").unwrap();
    assert_eq!(rows.columns, ["id", "status", "attempts", "error"]);
    let (id, status) = (Value::Text("aa11".into()), Value::Text("finished".into()));
    assert_eq!(rows.rows[0], [id, status, Value::Integer(1), Value::Null]);
    let expected = "id    status    attempts  error\naa11  finished         1\nab22  pending          0\n";
    assert_eq!(rows.to_string(), expected);
    assert!(store.query("PRAGMA table_info(runs)").unwrap().rows.len() > 10);
    let counting = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT max(x) FROM n";
    assert_eq!(store.query(counting).unwrap().rows, [[Value::Integer(3)]]);
}

#[test]
fn a_reader_works_beside_a_writer_and_sees_whole_transactions() {
    let place = Place::new();
    let mut writer = place.store();
    let reader = Store::read(&place.file()).unwrap();
    assert_eq!(reader.status("aa11").unwrap(), Some(Status::Pending));
    let raw = Connection::open(place.file()).unwrap();
    raw.execute_batch("BEGIN IMMEDIATE; UPDATE runs SET status = 'failed'").unwrap();
    assert_eq!(
        reader.status("aa11").unwrap(),
        Some(Status::Pending),
        "an open transaction is not seen, nor waited for"
    );
    raw.execute_batch("ROLLBACK").unwrap();
    let seen = reader.snapshot(|reader| {
        let before = reader.status("aa11")?;
        writer.ingest("aa11", &whole_run(), 777)?;
        Ok((before, reader.status("aa11")?))
    });
    assert_eq!(seen.unwrap(), (Some(Status::Pending), Some(Status::Pending)), "one moment");
    assert_eq!(reader.status("aa11").unwrap(), Some(Status::Finished));
}

#[test]
fn several_processes_create_and_write_one_file() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let place = &place;
            scope.spawn(move || {
                let id = format!("{thread}{thread}");
                for _ in 0..5 {
                    let mut store = place.open();
                    store.add_sweep(&NewSweep { name: &id, ..sweep(&[run(&id, "baseline", 0)]) }).unwrap();
                    store.ingest(&id, &whole_run(), 777).unwrap();
                }
            });
        }
    });
    let store = Store::read(&place.file()).unwrap();
    assert_eq!(store.sweeps().unwrap().iter().map(|sweep| sweep.finished).collect::<Vec<_>>(), [1; 4]);
}

#[test]
fn a_file_at_rest_is_one_file() {
    let place = Place::new();
    let store = place.store();
    let names = || -> Vec<String> {
        let dir = std::fs::read_dir(place.file().parent().unwrap()).unwrap();
        let mut names: Vec<String> = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["runner.sqlite", "runner.sqlite-shm", "runner.sqlite-wal"]);
    let reader = Store::read(&place.file()).unwrap();
    drop(store);
    drop(reader);
    drop(place.open());
    assert_eq!(names(), ["runner.sqlite"]);
    drop(Store::read(&place.file()).unwrap());
    assert_eq!(names(), ["runner.sqlite"]);
}

#[test]
fn reading_writes_nothing() {
    let place = Place::new();
    drop(place.store());
    let bytes = std::fs::read(place.file()).unwrap();
    let mut reader = Store::read(&place.file()).unwrap();
    assert_eq!(reader.sweeps().unwrap().len(), 1);
    let error = reader.ingest("aa11", &whole_run(), 1).unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    drop(reader);
    assert_eq!(std::fs::read(place.file()).unwrap(), bytes);
}

#[test]
fn a_newer_file_is_refused_and_stays_as_it_is() {
    let place = Place::new();
    drop(place.store());
    Connection::open(place.file()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let newer = std::fs::read(place.file()).unwrap();
    for error in [Store::open(&place.file()), Store::read(&place.file())].map(|store| store.err().unwrap()) {
        assert!(error.to_string().contains("newer runner (schema 99"), "{error}");
        assert_eq!(error.cause, Cause::User);
    }
    assert_eq!(std::fs::read(place.file()).unwrap(), newer);
}

#[test]
fn an_older_file_is_migrated_by_a_writer_only() {
    // Version 0 stands in for older versions: our mark, and nothing else yet.
    let place = Place::new();
    std::fs::create_dir(place.file().parent().unwrap()).unwrap();
    Connection::open(place.file()).unwrap().pragma_update(None, "application_id", 0x7275_6e72).unwrap();
    let error = Store::read(&place.file()).err().unwrap();
    assert!(error.to_string().contains("older runner (schema 0)"), "{error}");
    drop(place.store());
    assert_eq!(Store::read(&place.file()).unwrap().sweeps().unwrap().len(), 1);
}

#[test]
fn a_file_of_the_first_version_becomes_like_a_new_one() {
    let columns = |file: &std::path::Path| {
        let db = Connection::open(file).unwrap();
        let sql = "SELECT m.name, p.name, p.type, p.\"notnull\", p.dflt_value, p.pk
                   FROM sqlite_schema m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' ORDER BY m.name, p.name";
        let mut columns = db.prepare(sql).unwrap();
        let column = |row: &rusqlite::Row| (0..6).map(|i| row.get(i)).collect::<Result<Vec<Value>, _>>();
        columns.query_map([], column).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    let (old, new) = (Place::new(), Place::new());
    std::fs::create_dir(old.file().parent().unwrap()).unwrap();
    let db = Connection::open(old.file()).unwrap();
    db.execute_batch(include_str!("golden/schema-1.sql")).unwrap();
    db.pragma_update(None, "application_id", 0x7275_6e72).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    drop((db, old.store(), new.store()));
    assert_eq!(columns(&old.file()), columns(&new.file()));
}

#[test]
fn foreign_damaged_and_missing_files_are_named() {
    let place = Place::new();
    let refusal = |store: runner::error::Result<Store>| {
        let error = store.and_then(|store| store.sweeps()).unwrap_err().to_string();
        assert!(error.contains("runner.sqlite"), "{error}");
        error
    };
    let replace = |bytes: &[u8]| {
        let _ = std::fs::remove_file(place.file());
        std::fs::write(place.file(), bytes).unwrap();
    };
    assert!(refusal(Store::read(&place.file())).contains("no results here"));
    drop(place.store());
    let good = std::fs::read(place.file()).unwrap();

    replace(&[]);
    Connection::open(place.file()).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(refusal(Store::open(&place.file())).contains("another program"));
    assert!(refusal(Store::read(&place.file())).contains("another program"));
    replace(&[7; 5000]);
    assert!(refusal(Store::open(&place.file())).contains("no SQLite file"));
    assert!(refusal(Store::read(&place.file())).contains("no SQLite file"));
    let (head, tail) = good.split_at(4096);
    replace(&[head, &vec![0xab; tail.len()]].concat());
    assert!(refusal(Store::read(&place.file())).contains("damaged"));
    std::fs::remove_file(place.file()).unwrap();
    std::fs::create_dir(place.file()).unwrap();
    assert!(refusal(Store::open(&place.file())).contains("a folder, or no permission"));
}

/// `schema.sql` is the documentation: every table has a comment in front.
#[test]
fn every_table_is_described() {
    let schema = include_str!("../src/store/schema.sql");
    let blocks: Vec<&str> = schema.split("\n\n").filter(|block| block.contains("CREATE TABLE")).collect();
    assert_eq!(blocks.len(), schema.matches("CREATE TABLE").count());
    for block in blocks {
        assert!(block.starts_with("--"), "{block}");
    }
}

/// A million metric rows take seconds: `cargo test --release --test store -- --ignored --nocapture million`.
#[test]
#[ignore = "a measurement"]
fn a_million_rows() {
    let place = Place::new();
    let mut store = place.store();
    let step = |i: u64| Event::Step {
        epoch: 1 + i as u32 / 1000,
        step: i,
        values: values(&[("loss", 1.0 / i as f64), ("lr", 0.1), ("accuracy", 0.5), ("grad_norm", i as f64)]),
    };
    let all = records(1, 0.0, (1..=250_000).map(step).collect());
    for round in ["new", "again"] {
        let start = std::time::Instant::now();
        for (i, chunk) in all.chunks(1000).enumerate() {
            store.ingest("aa11", chunk, i as u64).unwrap();
        }
        println!("1,000,000 rows, {round}: {:.2?}", start.elapsed());
    }
    assert_eq!(store.query("SELECT count(*) FROM metrics").unwrap().rows, [[Value::Integer(1_000_000)]]);
}
