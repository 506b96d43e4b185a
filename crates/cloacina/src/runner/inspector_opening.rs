//! Opens a database for an inspector.

use std::sync::Arc;
use std::time::Duration;

use super::open::{StoreOptions, open_store};
use super::{Access, Inspector};
use crate::store::{Report, Request, Response, Store, StoreError};
use crate::types::{Error, SystemClock};

impl Inspector {
    /// Opens a database, in a PostgreSQL schema if one is given.
    ///
    /// # Errors
    /// `UrlInvalid`; `Configuration` for an invalid schema; `Database`, `Connection` or `Migration` when the database does
    /// not exist, cannot be opened or has another schema version.
    pub fn open(url: &str, schema: Option<&str>, access: Access) -> Result<Self, Error> {
        Self::open_as(url, schema, access, None)
    }

    /// Opens a database like [`open`](Self::open). The database ends every query after `deadline`. On PostgreSQL, the URL's
    /// `options` can set another time.
    ///
    /// # Errors
    /// See [`open`](Self::open).
    pub fn open_within(
        url: &str,
        schema: Option<&str>,
        access: Access,
        deadline: Duration,
    ) -> Result<Self, Error> {
        Self::open_as(url, schema, access, Some(deadline))
    }

    fn open_as(
        url: &str,
        schema: Option<&str>,
        access: Access,
        deadline: Option<Duration>,
    ) -> Result<Self, Error> {
        let migrating = access == Access::Migrating;
        let how = StoreOptions {
            schema,
            auto_migrate: migrating,
            create: migrating,
            connections: None,
            busy_timeout: None,
            patience: None,
            statement_timeout: deadline,
            read_only: access == Access::ReadOnly,
        };
        let opened = open_store(url, &how)?;
        Ok(Self::new(opened.store, Arc::new(SystemClock)))
    }

    /// Creates an inspector of a schema that cannot be opened. The inspector knows the location of the database, and answers
    /// every other call with the error code `Migration` and the text of `error`.
    #[must_use]
    pub fn absent(location: String, error: &Error) -> Self {
        let store = Arc::new(AbsentStore::new(location, error));
        Self::new(store, Arc::new(SystemClock))
    }
}

/// The store of a schema that cannot be opened. It answers every request with the error of its opening.
struct AbsentStore {
    location: String,
    error: Report,
}

impl AbsentStore {
    fn new(location: String, error: &Error) -> Self {
        let message = error.message.clone();
        let error = match &error.hint {
            Some(hint) => Report::hinted(message, hint.clone()),
            None => message.into(),
        };
        Self { location, error }
    }
}

impl Store for AbsentStore {
    fn call(&self, _: Request<'_>) -> Result<Response, StoreError> {
        Err(StoreError::Migration(self.error.clone()))
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}
