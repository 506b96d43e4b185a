//! The file of a store: opening connections to it, and noticing that it was taken away.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::SqliteConnection;

use super::connect::connect;
use super::error::Fault;
use super::file_id::FileId;
use super::options::SqliteOptions;
use crate::store::StoreError;
use crate::types::sync::Mutex;

/// Least time between two looks at the file's names: three system calls, against one commit's hundred microseconds.
const LOOK: Duration = Duration::from_millis(20);

/// The database file of a store.
pub(super) struct DatabaseFile {
    uri: String,
    options: SqliteOptions,
    /// Whether connections are closed after each use.
    closed: AtomicBool,
    watched: Mutex<Watched>,
    lost: OnceLock<StoreError>,
}

/// The database, its write-ahead log and the shared memory, as they were when the store was opened.
struct Watched {
    files: Vec<(PathBuf, FileId)>,
    next_look: Instant,
}

impl DatabaseFile {
    pub(super) fn new(uri: String, options: SqliteOptions) -> Self {
        Self {
            uri,
            options,
            closed: AtomicBool::new(false),
            watched: Mutex::new(Watched {
                files: Vec::new(),
                next_look: Instant::now(),
            }),
            lost: OnceLock::new(),
        }
    }

    pub(super) fn connect(&self) -> Result<SqliteConnection, StoreError> {
        connect(&self.uri, &self.options)
    }

    /// Has all connections closed after their use from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Remembers which files the names stand for. To be called while a connection keeps SQLite from removing them.
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

    /// Refuses to go on once a file was found to be gone.
    pub(super) fn refuse_lost(&self) -> Result<(), Fault> {
        self.lost
            .get()
            .map_or(Ok(()), |error| Err(error.clone().into()))
    }

    /// Looks now and then whether the names still stand for the files that SQLite has open. What is written to a file
    /// without a name is lost.
    pub(super) fn look(&self) -> Result<(), Fault> {
        if self.is_closed() {
            return Ok(());
        }
        let now = Instant::now();
        let mut watched = self.watched.lock();
        if now < watched.next_look {
            return Ok(());
        }
        watched.next_look = now + LOOK;
        let missing = watched
            .files
            .iter()
            .find(|(name, id)| FileId::of(name) != Some(*id));
        if let Some((name, _)) = missing {
            let error = StoreError::Failed(format!(
                "the file {} of the database {} was deleted or replaced while it was open: what was written since is \
                 not in the database, and nothing more is written; stop all programs that use it, put the file back or \
                 restore a backup, and start again",
                name.display(),
                self.options.location()
            ));
            let _ = self.lost.set(error);
        }
        drop(watched);
        self.refuse_lost()
    }
}
