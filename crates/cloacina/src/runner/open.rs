//! Opens the store of a database URL.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{DatabaseUrl, Store};
use crate::types::{Error, ErrorCode};

/// The versions of a database's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVersions {
    /// The newest that it has, if it has any.
    pub current: Option<String>,
    /// Those that this program knows and it lacks, oldest first.
    pub pending: Vec<String>,
}

/// The versions of a database's schema, without opening it for work: nothing is created or changed.
///
/// # Errors
/// For a URL that cannot be read, or a database that does not exist or does not answer.
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

/// How to open a store.
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    expect(dead_code, reason = "each database has options of its own")
)]
pub(super) struct StoreOptions<'a> {
    pub(super) schema: Option<&'a str>,
    pub(super) auto_migrate: bool,
    /// Whether opening may create the file of an SQLite database.
    pub(super) create: bool,
    /// Maximum number of connections to PostgreSQL; none means the default.
    pub(super) connections: Option<usize>,
    /// Upper limit of SQLite's busy timeout; none keeps that of the URL.
    pub(super) busy_timeout: Option<Duration>,
    /// How long PostgreSQL may say nothing before a connection is given up; none means the default.
    pub(super) patience: Option<Duration>,
}

/// An open store.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// The same store, if tenants can share its connections.
    #[cfg(feature = "postgres")]
    pub(super) postgres: Option<Arc<crate::store::postgres::PostgresStore>>,
}

impl Opened {
    /// A store whose connections cannot be shared.
    pub(super) fn alone(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            #[cfg(feature = "postgres")]
            postgres: None,
        }
    }
}

pub(super) fn open_store(url: &str, how: &StoreOptions<'_>) -> Result<Opened, Error> {
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
            if !how.create && options.mode == OpenMode::Create {
                if let Some(path) = &options.path
                    && !path.exists()
                {
                    return Err(Error::new(
                        ErrorCode::Database,
                        format!("the database {} does not exist", options.location()),
                    )
                    .with_hint("check the path; a runner, or `cloaca db migrate`, creates it"));
                }
                options.mode = OpenMode::ReadWrite;
            }
            Ok(Opened::alone(Arc::new(SqliteStore::open(&options)?)))
        }
        #[cfg(feature = "postgres")]
        DatabaseUrl::Postgres(url) => {
            use crate::store::postgres::{PostgresOptions, PostgresStore};
            let mut options = PostgresOptions::from_url(&url)?;
            if let Some(schema) = how.schema {
                options = options.with_schema(schema)?;
            }
            options.auto_migrate = how.auto_migrate;
            if let Some(patience) = how.patience {
                options.patience = patience;
            }
            let store = match how.connections {
                Some(connections) => PostgresStore::open_within(&options, connections),
                None => PostgresStore::open(&options),
            };
            let store = Arc::new(store?);
            Ok(Opened {
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
        "'{schema}' cannot be one of {location}"
    )))
}

/// The error for tenants on SQLite. `consequence`: what cannot be done, and where.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn no_schemas(consequence: &str) -> Error {
    Error::new(
        ErrorCode::Configuration,
        format!("SQLite has no schemas: {consequence}"),
    )
    .with_hint("a tenant is a file there: give each its own path, like sqlite:///tenant_a.db")
}

#[cfg(not(feature = "postgres"))]
pub(super) fn no_postgres() -> Error {
    Error::new(
        ErrorCode::UrlInvalid,
        "PostgreSQL URLs are not supported by this build",
    )
    .with_hint("enable the cargo feature `postgres`, or use a sqlite:/// URL")
}
