//! The file of a store. Opens connections to the file, and detects when it is deleted or replaced.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::SqliteConnection;

use super::connect::connect;
use super::error::Fault;
use super::file_id::FileId;
use super::options::SqliteOptions;
use crate::store::{Report, StoreError};
use crate::types::sync::Mutex;

/// Minimum time between two checks of the file names. A check takes three system calls. A check at each commit would slow
/// down commits, because a commit takes only about 100 µs.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The database file of a store.
pub(super) struct DatabaseFile {
    uri: String,
    options: SqliteOptions,
    /// Whether the store was closed. Each connection is then closed after it is used.
    closed: AtomicBool,
    watched: Mutex<WatchedFiles>,
    lost: OnceLock<StoreError>,
}

/// The identities of the database, its write-ahead log and its shared memory at the time when the store was opened.
struct WatchedFiles {
    files: Vec<(PathBuf, FileId)>,
    next_check: Instant,
}

impl DatabaseFile {
    pub(super) fn new(uri: String, options: SqliteOptions) -> Self {
        Self {
            uri,
            options,
            closed: AtomicBool::new(false),
            watched: Mutex::new(WatchedFiles {
                files: Vec::new(),
                next_check: Instant::now(),
            }),
            lost: OnceLock::new(),
        }
    }

    pub(super) fn connect(&self) -> Result<SqliteConnection, StoreError> {
        connect(&self.uri, &self.options)
    }

    /// Marks the store as closed.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Records the identities of the files. Must be called while a connection is open, because SQLite removes the `-wal`
    /// and `-shm` files when the last connection closes.
    pub(super) fn watch(&self) {
        let Some(path) = &self.options.path else {
            return;
        };
        let names = ["", "-wal", "-shm"].map(|suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        });
        self.watched.lock().files = names
            .into_iter()
            .filter_map(|name| FileId::of(&name).map(|id| (name, id)))
            .collect();
    }

    /// Returns an error if a file is known to have been deleted or replaced.
    pub(super) fn refuse_lost(&self) -> Result<(), Fault> {
        self.lost
            .get()
            .map_or(Ok(()), |error| Err(error.clone().into()))
    }

    /// Checks at intervals whether the names still refer to the files that SQLite has open. Writes to a deleted file
    /// are lost.
    pub(super) fn check_files(&self) -> Result<(), Fault> {
        if self.is_closed() {
            return Ok(());
        }
        let now = Instant::now();
        let mut watched = self.watched.lock();
        if now < watched.next_check {
            return Ok(());
        }
        watched.next_check = now + CHECK_INTERVAL;
        let missing = watched
            .files
            .iter()
            .find(|(name, id)| FileId::of(name) != Some(*id));
        if let Some((name, _)) = missing {
            let error = StoreError::Failed(Report::hinted(
                format!(
                    "the file {} of the database {} was deleted or replaced while it was open; writes since then are lost, \
                 and the store refuses further writes",
                    name.display(),
                    self.options.location()
                ),
                "stop all programs that use the database, put the file back or restore a \
                 backup, and start again",
            ));
            let _ = self.lost.set(error);
        }
        drop(watched);
        self.refuse_lost()
    }
}
