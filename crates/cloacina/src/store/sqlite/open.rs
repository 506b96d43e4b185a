//! Opens a database. If opening fails, leaves no new files behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::sql_types::Text;
use diesel::{RunQueryDsl, SqliteConnection};

use super::connect::connect;
use super::connection::{ReadPool, Writer, read};
use super::error::{Fault, is_busy};
use super::file::DatabaseFile;
use super::migration::{Schema, migrate};
use super::options::{OpenMode, SqliteOptions};
use super::statement::query;
use crate::store::{Report, StoreError};

query! { JournalMode {} -> Text; "PRAGMA journal_mode" }
query! { UseWal {} -> Text; "PRAGMA journal_mode = WAL" }

/// Size of a page in bytes, which is also the size of a file without tables.
const FIRST_PAGE: u64 = 4096;

/// The parts of an open store.
pub(super) struct Opened {
    pub(super) location: String,
    pub(super) writer: Writer,
    /// `None` for an in-memory database, which has only one connection.
    pub(super) readers: Option<ReadPool>,
}

pub(super) fn open(options: &SqliteOptions) -> Result<Opened, StoreError> {
    let Some(path) = &options.path else {
        let connection = connect(":memory:", options)?;
        return finish(connection, options, None);
    };
    let path = std::path::absolute(path).map_err(|error| {
        StoreError::Failed(
            format!(
                "the database path '{}' cannot be used: {error}",
                path.display()
            )
            .into(),
        )
    })?;
    let options = SqliteOptions {
        path: Some(path.clone()),
        ..options.clone()
    };
    let existed = check_path(&path, &options)?;
    if !existed {
        create(&path);
    }
    let uri = options.uri(&path);
    let opened =
        connect(&uri, &options).and_then(|connection| finish(connection, &options, Some(uri)));
    if opened.is_err() && !existed {
        remove_created(&path);
    }
    opened
}

/// Reads the schema versions of a database. Creates and changes nothing.
pub(super) fn schema(options: &SqliteOptions) -> Result<Schema, StoreError> {
    let Some(path) = &options.path else {
        let mut connection = connect(":memory:", options)?;
        return Schema::read(&mut connection).map_err(|fault| fault.at(&options.location()));
    };
    let path = std::path::absolute(path).map_err(|error| {
        StoreError::Failed(
            format!(
                "the database path '{}' cannot be used: {error}",
                path.display()
            )
            .into(),
        )
    })?;
    let options = SqliteOptions {
        path: Some(path.clone()),
        mode: OpenMode::ReadWrite,
        ..options.clone()
    };
    check_path(&path, &options)?;
    let mut connection = connect(&options.uri(&path), &options)?;
    read(&mut connection, Schema::read).map_err(|fault| fault.at(&options.location()))
}

/// Creates an empty file that only its owner can read, because contexts can contain secrets. SQLite gives its other
/// files the same permissions. Ignores errors: SQLite then fails to open the file, and reports the cause.
fn create(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(path));
}

/// Returns whether the file exists. Fails if the path is a folder or cannot be accessed. If the file is missing, also
/// fails if the options do not allow creating and migrating it, or if its folder does not exist.
fn check_path(path: &Path, options: &SqliteOptions) -> Result<bool, StoreError> {
    let location = options.location();
    if path.is_dir() {
        return Err(StoreError::Failed(Report::hinted(
            format!("the database {location} is a folder"),
            format!(
                "name a file in it, e.g. {}",
                path.join("cloacina.db").display()
            ),
        )));
    }
    match path.try_exists() {
        Ok(true) => return Ok(true),
        Ok(false) => {}
        Err(error) => {
            return Err(StoreError::Failed(Report::hinted(
                format!("cannot access the database {location}: {error}"),
                "check the path and its permissions",
            )));
        }
    }
    if options.mode != OpenMode::Create {
        return Err(StoreError::Failed(Report::hinted(
            format!("the database {location} does not exist"),
            "check the path; a runner creates its database, unless the URL has mode=ro or mode=rw",
        )));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        return Err(StoreError::Failed(Report::hinted(
            format!(
                "cannot create the database {location}: the folder {} does not exist",
                folder.display()
            ),
            "create the folder first",
        )));
    }
    if !options.auto_migrate {
        return Err(not_migrated(&location, "does not exist yet"));
    }
    Ok(false)
}

fn finish(
    mut connection: SqliteConnection,
    options: &SqliteOptions,
    uri: Option<String>,
) -> Result<Opened, StoreError> {
    let location = options.location();
    let fault = |fault: Fault| fault.at(&location);
    // This first read detects a file that is not a database, before anything is written.
    let schema = read(&mut connection, Schema::read).map_err(fault)?;
    schema.refuse_newer().map_err(fault)?;
    let pending = !schema.pending.is_empty();
    if pending {
        let what = format!("lacks the schema version {}", schema.pending.join(", "));
        if options.mode == OpenMode::ReadOnly {
            return Err(fault(Fault::Migration(Report::hinted(
                format!("{what}, and mode=ro does not allow migrating it"),
                "open the database once without mode=ro",
            ))));
        }
        if !options.auto_migrate {
            return Err(not_migrated(&location, &what));
        }
    }
    let is_wal = options.path.is_some()
        && options.mode != OpenMode::ReadOnly
        && use_wal(&mut connection, options.busy_timeout).map_err(fault)?;
    let file = uri.map(|uri| Arc::new(DatabaseFile::new(uri, options.clone())));
    let writer = Writer::new(connection, file.clone(), options.busy_timeout, is_wal)
        .map_err(|error| fault(error.into()))?;
    if pending {
        let connection = &mut *writer.lock().map_err(fault)?;
        writer.write(connection, migrate).map_err(fault)?;
    }
    if let Some(file) = &file {
        file.watch();
    }
    let readers = file.map(ReadPool::new);
    Ok(Opened {
        location,
        writer,
        readers,
    })
}

fn not_migrated(location: &str, what: &str) -> StoreError {
    StoreError::Migration(Report::hinted(
        format!("the database {location} {what}, and migrating it at start is turned off"),
        "run `cloaca db migrate`",
    ))
}

/// Switches the file to write-ahead logging. Returns `false` if the file system does not support the shared memory that
/// WAL needs; the file then keeps its rollback journal, and a commit waits for readers. If another connection switches
/// at the same moment, SQLite does not wait for the lock, so this function waits.
fn use_wal(connection: &mut SqliteConnection, busy_timeout: Duration) -> Result<bool, Fault> {
    let give_up = Instant::now() + busy_timeout;
    let is_wal = |modes: Vec<String>| modes == ["wal"];
    loop {
        let now = JournalMode {}.load(connection).map(is_wal);
        let turned = match now {
            Ok(false) => UseWal {}.load(connection).map(is_wal),
            result => result,
        };
        match turned {
            Err(error) if is_busy(&error) && Instant::now() < give_up => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "no event tells when another process releases its lock"
                )]
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return Ok(result?),
        }
    }
}

/// Removes the files that a failed opening has created, unless another process has created a database in them
/// meanwhile.
fn remove_created(path: &Path) {
    let files = ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    });
    // On a full disk, SQLite cannot even read the file. Tables need a second page or a journal, so a file that has
    // neither contains no tables.
    let size = |file: &Path| std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    let has_no_pages = size(&files[0]) <= FIRST_PAGE && size(&files[1]) == 0;
    if has_no_pages || has_no_schema(path) {
        for file in files {
            // Errors are ignored, because the caller receives the error that prevented the opening.
            let _ = std::fs::remove_file(file);
        }
    }
}

fn has_no_schema(path: &Path) -> bool {
    let mut options = SqliteOptions::file(path);
    options.mode = OpenMode::ReadOnly;
    options.busy_timeout = Duration::ZERO;
    connect(&options.uri(path), &options)
        .and_then(|mut connection| {
            read(&mut connection, Schema::read).map_err(|fault| fault.at(""))
        })
        .is_ok_and(|schema| schema.applied.is_empty())
}
