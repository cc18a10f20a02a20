//! Opening the file: new, older, newer, foreign, damaged, locked, on a network disk.

use crate::error::{Cause, Context, Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::{path::Path, time::Duration};

/// "runr": marks the file as ours.
const APPLICATION_ID: i32 = 0x7275_6e72;

/// What brings a file of version `i + 1` to version `i + 2`; an empty file gets the schema as it is now.
const MIGRATIONS: &[&str] = &[
    "
    ALTER TABLE runs ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE removed_runs (
        sweep TEXT NOT NULL REFERENCES sweeps(name) ON DELETE CASCADE,
        experiment TEXT NOT NULL,
        point TEXT NOT NULL,
        run_id TEXT NOT NULL REFERENCES runs(id),
        removed_at REAL NOT NULL,
        PRIMARY KEY (sweep, experiment, point, run_id)
    ) WITHOUT ROWID;
    ALTER TABLE attempts ADD COLUMN version TEXT;
    ALTER TABLE attempts ADD COLUMN binary TEXT;
    ALTER TABLE attempts ADD COLUMN git_commit TEXT;
    ALTER TABLE attempts ADD COLUMN git_patch TEXT;
    ALTER TABLE attempts ADD COLUMN command TEXT;
    ALTER TABLE attempts ADD COLUMN host TEXT;
    ALTER TABLE attempts ADD COLUMN hardware TEXT;
",
    "
    CREATE TABLE trials (
        sweep TEXT NOT NULL REFERENCES sweeps(name) ON DELETE CASCADE,
        experiment TEXT NOT NULL,
        search TEXT NOT NULL,
        trial INTEGER NOT NULL,
        sample TEXT NOT NULL,
        PRIMARY KEY (sweep, experiment, search, trial)
    ) WITHOUT ROWID;
    CREATE TABLE race_losses (
        sweep TEXT NOT NULL REFERENCES sweeps(name) ON DELETE CASCADE,
        experiment TEXT NOT NULL,
        point TEXT NOT NULL,
        leader TEXT NOT NULL,
        leader_point TEXT NOT NULL,
        seeds INTEGER NOT NULL,
        behind REAL NOT NULL,
        low REAL,
        high REAL,
        p REAL NOT NULL,
        level REAL NOT NULL,
        PRIMARY KEY (sweep, experiment, point)
    ) WITHOUT ROWID;
",
    "
    ALTER TABLE attempts ADD COLUMN micro_batch INTEGER;
    CREATE TABLE estimates (
        sweep TEXT NOT NULL REFERENCES sweeps(name) ON DELETE CASCADE,
        at REAL NOT NULL,
        runs INTEGER NOT NULL,
        low REAL NOT NULL,
        about REAL NOT NULL,
        high REAL NOT NULL,
        device REAL NOT NULL,
        PRIMARY KEY (sweep, at)
    ) WITHOUT ROWID;
",
];

/// The schema's version now.
const VERSION: usize = MIGRATIONS.len() + 1;

/// How long one process waits for another's transaction before it says so.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a store to write to, made where it is missing, an older one migrated.
pub fn for_writing(path: &Path) -> Result<Connection> {
    let place = || path.display().to_string();
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).context(|| format!("{}: the folder cannot be made", dir.display()))?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).context(place)?;
    db.busy_timeout(PATIENCE).context(place)?;
    check(&db, VERSION).context(place)?;
    choose_journal(&db, path).context(place)?;
    db.pragma_update(None, "foreign_keys", true).context(place)?;
    upgrade(&mut db, super::SCHEMA, MIGRATIONS).context(place)?;
    Ok(db)
}

/// Opens a store that is there to read from.
pub fn for_reading(path: &Path) -> Result<Connection> {
    let place = || path.display().to_string();
    if !path.exists() {
        return Err(Error::user(format!(
            "{}: no results here; `runner sweep FILE` makes them, `--out` names another folder",
            path.display()
        )));
    }
    let db = Connection::open_with_flags(path, read_flags()).context(place)?;
    let db = match db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())) {
        Err(error) if at_rest(&error, path) => open_immutable(path).context(place)?,
        _ => db,
    };
    db.busy_timeout(PATIENCE).context(place)?;
    db.pragma_update(None, "query_only", true).context(place)?;
    check(&db, VERSION).context(place)?;
    match version(&db).context(place)? {
        version if version < VERSION => Err(Error::user(format!(
            "{}: written by an older runner (schema {version}); `runner sweep` brings it up to date",
            path.display()
        ))),
        _ => Ok(db),
    }
}

fn read_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// A WAL file in a folder nobody may write cannot be opened as it is; without a `-wal` file nobody is writing it.
fn at_rest(error: &rusqlite::Error, path: &Path) -> bool {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let refused = matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly));
    refused && !Path::new(&wal).exists()
}

fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    Connection::open_with_flags(format!("file:{name}?immutable=1"), read_flags() | OpenFlags::SQLITE_OPEN_URI)
}

/// Refuses foreign and newer files. One statement, since another process may be creating the file right now.
fn check(db: &Connection, newest: usize) -> Result<()> {
    let found = db.query_row(
        "SELECT (SELECT count(*) FROM sqlite_schema), (SELECT application_id FROM pragma_application_id),
                (SELECT user_version FROM pragma_user_version)",
        [],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i32>(1)?, row.get::<_, i64>(2)?)),
    )?;
    match found {
        (0, 0, _) => Ok(()),
        (_, application, _) if application != APPLICATION_ID => {
            Err(Error::user("an SQLite file of another program; name another results folder with `--out`"))
        }
        (_, _, version) if version > newest as i64 => Err(Error::user(format!(
            "written by a newer runner (schema {version}, this one knows up to {newest}); update runner, or use another `--out`"
        ))),
        _ => Ok(()),
    }
}

fn version(db: &Connection) -> rusqlite::Result<usize> {
    db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map(|version| version.max(0) as usize)
}

/// Brings a file to the newest version. The version is read again inside the transaction: another process may have
/// been faster.
fn upgrade(db: &mut Connection, schema: &str, migrations: &[&str]) -> Result<()> {
    if version(db)? > migrations.len() {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match version(&transaction)? {
        0 => transaction.execute_batch(schema)?,
        old => migrations.iter().skip(old - 1).try_for_each(|migration| transaction.execute_batch(migration))?,
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", (migrations.len() + 1).max(version(&transaction)?) as i64)?;
    Ok(transaction.commit()?)
}

/// WAL with `synchronous = NORMAL` on local disks: a power cut may lose the last transactions but never the file, and
/// the journals hold what was lost. A rollback journal with full syncs elsewhere.
fn choose_journal(db: &Connection, path: &Path) -> Result<()> {
    let mode = if on_network(path) { "DELETE" } else { "WAL" };
    // Two processes that create the file at once can meet here; SQLite does not wait by itself.
    let deadline = std::time::Instant::now() + PATIENCE;
    let set = loop {
        let set = db.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0));
        match set {
            Err(error) if is_busy(&error) && std::time::Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    };
    let safe = if set.eq_ignore_ascii_case("wal") { "NORMAL" } else { "FULL" };
    Ok(db.pragma_update(None, "synchronous", safe)?)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether a file lies on a file system that other machines write too: WAL needs memory shared by all its users.
#[cfg(target_os = "linux")]
fn on_network(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `statfs` is plain data for which zeros are valid, and `path` ends in a zero byte.
    let (status, found) = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &mut found), found)
    };
    status == 0 && is_network(found.f_type as u32)
}

#[cfg(not(target_os = "linux"))]
fn on_network(_path: &Path) -> bool {
    false
}

/// By the magic number of statfs(2): NFS, SMB1, CIFS, SMB2, Lustre, GPFS, Ceph, BeeGFS, AFS, Coda, NCP, 9p, OCFS2, GFS2,
/// and FUSE, behind which sshfs and the object stores hide.
#[cfg(target_os = "linux")]
fn is_network(kind: u32) -> bool {
    const KINDS: [u32; 15] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x0bd0_0bd0,
        0x4750_4653,
        0x00c3_6400,
        0x1983_0326,
        0x5346_414f,
        0x7375_7245,
        0x564c,
        0x0102_1997,
        0x7461_636f,
        0x0116_1970,
        0x6573_5546,
    ];
    KINDS.contains(&kind)
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let (cause, advice) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (Cause::Locked, "another program holds the results file locked; close it and run this again")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
                Cause::Environment,
                "damaged, or no SQLite file; move it away: the next sweep rebuilds it from the runs' journals",
            ),
            Some(ErrorCode::ReadOnly) => (Cause::Environment, "cannot be written: a read-only file or folder"),
            Some(ErrorCode::CannotOpen) => (Cause::Environment, "cannot be opened: a folder, or no permission"),
            Some(ErrorCode::DiskFull) => (Cause::DiskFull, "the disk is full"),
            // What a full disk looks like where the write-ahead log's shared memory grows.
            Some(ErrorCode::SystemIoFailure) if extended(&error) == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => {
                (Cause::DiskFull, "the disk is full")
            }
            Some(ErrorCode::SystemIoFailure) => (Cause::Environment, "the disk refused"),
            Some(ErrorCode::OutOfMemory) => (Cause::OutOfMemory, "out of memory"),
            _ => return Self::bug(format!("SQLite: {error}")),
        };
        Self::new(cause, format!("{advice} ({error})"))
    }
}

fn extended(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}
