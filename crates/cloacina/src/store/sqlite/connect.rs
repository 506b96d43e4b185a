//! Opens a connection to SQLite and sets it up.

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::error::Fault;
use super::options::{SqliteOptions, Synchronous};
use crate::store::StoreError;

/// Opens a connection at an URI of SQLite. The busy timeout comes first: the other settings already need a lock.
pub(super) fn connect(uri: &str, options: &SqliteOptions) -> Result<SqliteConnection, StoreError> {
    let location = options.location();
    #[cfg(target_os = "linux")]
    {
        super::locks::install();
        if options
            .path
            .as_deref()
            .is_some_and(super::locks::is_inherited)
        {
            return Err(StoreError::Forked(format!(
                "the database {location} was open in a process that forked this one, and SQLite cannot be used on the \
                 same file on both sides of a fork"
            )));
        }
    }
    let mut connection = SqliteConnection::establish(uri).map_err(|error| match error {
        diesel::ConnectionError::BadConnection(message) => {
            super::error::explain(&message, &location)
        }
        other => StoreError::Failed(format!("the database {location} cannot be opened: {other}")),
    })?;
    let synchronous = match options.synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    // Left at their defaults, because measuring found no gain on a million executions: mmap_size, wal_autocheckpoint.
    let settings = format!(
        "PRAGMA busy_timeout = {}; PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON; \
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4000; PRAGMA journal_size_limit = 67108864;",
        options.busy_timeout.as_millis()
    );
    connection
        .batch_execute(&settings)
        .map_err(|error| Fault::Sql(error).at(&location))?;
    Ok(connection)
}
