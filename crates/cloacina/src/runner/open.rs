//! Opens the store of a database URL.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{DatabaseUrl, Store};
use crate::types::{Error, ErrorCode};

/// The schema version of a database, and its pending migrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVersions {
    /// The database's schema version; `None` if the database has no schema.
    pub current: Option<String>,
    /// The schema versions that this program knows and the database lacks, oldest first.
    pub pending: Vec<String>,
}

/// Reads the schema version of a database. Nothing is created or changed.
///
/// # Errors
/// `UrlInvalid`; `Configuration` for an invalid schema; `Database` or `Connection` when the database does not exist or does
/// not answer.
pub fn schema_versions(url: &str, schema: Option<&str>) -> Result<SchemaVersions, Error> {
    #[cfg(not(any(feature = "sqlite", feature = "postgres")))]
    let _ = schema;
    match DatabaseUrl::parse(url)? {
        #[cfg(feature = "sqlite")]
        DatabaseUrl::Sqlite(options) => {
            use crate::store::sqlite::SqliteStore;
            refuse_schema(schema, &options)?;
            Ok(SchemaVersions {
                current: SqliteStore::schema_version(&options)?,
                pending: SqliteStore::pending_migrations(&options)?,
            })
        }
        #[cfg(feature = "postgres")]
        DatabaseUrl::Postgres(url) => {
            use crate::store::postgres::{PostgresOptions, PostgresStore};
            let mut options = PostgresOptions::from_url(&url)?;
            if let Some(schema) = schema {
                options = options.with_schema(schema)?;
            }
            Ok(SchemaVersions {
                current: PostgresStore::schema_version(&options)?,
                pending: PostgresStore::pending_migrations(&options)?,
            })
        }
        #[cfg(not(feature = "postgres"))]
        DatabaseUrl::Postgres(_) => Err(no_postgres()),
    }
}

/// The options for opening a store.
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    expect(
        dead_code,
        reason = "each kind of database uses only some of the options"
    )
)]
pub(super) struct StoreOptions<'a> {
    pub(super) schema: Option<&'a str>,
    pub(super) auto_migrate: bool,
    /// Whether opening creates the file of an SQLite database if the file does not exist.
    pub(super) create: bool,
    /// Maximum number of connections to PostgreSQL; `None` means the default.
    pub(super) connections: Option<usize>,
    /// Upper limit of SQLite's busy timeout; `None` keeps the URL's value.
    pub(super) busy_timeout: Option<Duration>,
    /// Maximum time that the PostgreSQL server may take to answer; then the connection is closed. `None` means the default.
    pub(super) patience: Option<Duration>,
    /// Maximum time that PostgreSQL may take for a statement; then the server ends the statement. `None` means the default.
    pub(super) statement_timeout: Option<Duration>,
    /// Whether the database refuses all writes of this store.
    pub(super) read_only: bool,
}

/// An open store.
pub(super) struct OpenedStore {
    pub(super) store: Arc<dyn Store>,
    /// The same store, if a tenant group can share its connections.
    #[cfg(feature = "postgres")]
    pub(super) postgres: Option<Arc<crate::store::postgres::PostgresStore>>,
}

impl OpenedStore {
    /// Wraps a store whose connections cannot be shared.
    pub(super) fn unshared(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            #[cfg(feature = "postgres")]
            postgres: None,
        }
    }
}

pub(super) fn open_store(url: &str, how: &StoreOptions<'_>) -> Result<OpenedStore, Error> {
    #[cfg(not(any(feature = "sqlite", feature = "postgres")))]
    let _ = how;
    match DatabaseUrl::parse(url)? {
        #[cfg(feature = "sqlite")]
        DatabaseUrl::Sqlite(mut options) => {
            use crate::store::sqlite::{OpenMode, SqliteStore};
            refuse_schema(how.schema, &options)?;
            options.auto_migrate = how.auto_migrate;
            if let Some(limit) = how.busy_timeout {
                options.busy_timeout = options.busy_timeout.min(limit);
            }
            if how.read_only {
                options.mode = OpenMode::ReadOnly;
            }
            if !how.create && options.mode == OpenMode::Create {
                if let Some(path) = &options.path
                    && !path.exists()
                {
                    return Err(Error::new(
                        ErrorCode::Database,
                        format!("the database {} does not exist", options.location()),
                    )
                    .with_hint(
                        "check the path; a runner, or `cloaca db migrate`, creates the database",
                    ));
                }
                options.mode = OpenMode::ReadWrite;
            }
            Ok(OpenedStore::unshared(Arc::new(SqliteStore::open(
                &options,
            )?)))
        }
        #[cfg(feature = "postgres")]
        DatabaseUrl::Postgres(url) => {
            use crate::store::postgres::{PostgresOptions, PostgresStore};
            let mut options = PostgresOptions::from_url(&url)?;
            if let Some(schema) = how.schema {
                options = options.with_schema(schema)?;
            }
            options.auto_migrate = how.auto_migrate;
            options.read_only = how.read_only;
            if let Some(patience) = how.patience {
                options.answer_timeout = patience;
            }
            if let Some(timeout) = how.statement_timeout {
                options.statement_timeout = timeout;
            }
            let store = match how.connections {
                Some(connections) => PostgresStore::open_within(&options, connections),
                None => PostgresStore::open(&options),
            };
            let store = Arc::new(store?);
            Ok(OpenedStore {
                store: Arc::clone(&store) as Arc<dyn Store>,
                postgres: Some(store),
            })
        }
        #[cfg(not(feature = "postgres"))]
        DatabaseUrl::Postgres(_) => Err(no_postgres()),
    }
}

#[cfg(feature = "sqlite")]
fn refuse_schema(
    schema: Option<&str>,
    options: &crate::store::sqlite::SqliteOptions,
) -> Result<(), Error> {
    let Some(schema) = schema else {
        return Ok(());
    };
    let location = options.location();
    Err(no_schemas(&format!(
        "{location} cannot have the schema '{schema}'"
    )))
}

/// Returns the error for schemas and tenants on SQLite. `consequence`: a clause that says what is not possible on SQLite.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn no_schemas(consequence: &str) -> Error {
    Error::new(
        ErrorCode::Configuration,
        format!("SQLite has no schemas: {consequence}"),
    )
    .with_hint("use a separate file for each tenant, like sqlite:///tenant_a.db")
}

#[cfg(not(feature = "postgres"))]
pub(super) fn no_postgres() -> Error {
    Error::new(
        ErrorCode::UrlInvalid,
        "PostgreSQL URLs are not supported by this build",
    )
    .with_hint("enable the cargo feature `postgres`, or use a sqlite:/// URL")
}
