//! Opens a connection to SQLite and sets it up.

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::error::Fault;
use super::options::{SqliteOptions, Synchronous};
use crate::store::StoreError;

/// Opens a connection to an SQLite URI and applies the settings. The busy timeout is set first, because the other
/// settings need a lock.
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
                "the database {location} was open in the parent process at the time of the fork, and SQLite cannot use the same \
                 file on both sides of a fork"
            )));
        }
    }
    let mut connection = SqliteConnection::establish(uri).map_err(|error| match error {
        diesel::ConnectionError::BadConnection(message) => {
            super::error::explain(&message, &location)
        }
        other => StoreError::Failed(format!("cannot open the database {location}: {other}").into()),
    })?;
    let synchronous = match options.synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    // mmap_size and wal_autocheckpoint keep their defaults, because other values were not faster with a million
    // executions.
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
