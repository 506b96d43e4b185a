//! From a URL to an open store.

use std::sync::Arc;

use crate::store::{DatabaseUrl, Store};
use crate::types::Error;
#[cfg(not(all(feature = "postgres", not(feature = "sqlite"))))]
use crate::types::ErrorCode;

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

pub(super) fn open_store(
    url: &str,
    schema: Option<&str>,
    auto_migrate: bool,
    create: bool,
) -> Result<Arc<dyn Store>, Error> {
    #[cfg(not(any(feature = "sqlite", feature = "postgres")))]
    let _ = (schema, auto_migrate);
    // Only a file can be created by opening it.
    #[cfg(not(feature = "sqlite"))]
    let _ = create;
    match DatabaseUrl::parse(url)? {
        #[cfg(feature = "sqlite")]
        DatabaseUrl::Sqlite(mut options) => {
            use crate::store::sqlite::{OpenMode, SqliteStore};
            refuse_schema(schema, &options)?;
            options.auto_migrate = auto_migrate;
            if !create && options.mode == OpenMode::Create {
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
            Ok(Arc::new(SqliteStore::open(&options)?))
        }
        #[cfg(feature = "postgres")]
        DatabaseUrl::Postgres(url) => {
            use crate::store::postgres::{PostgresOptions, PostgresStore};
            let mut options = PostgresOptions::from_url(&url)?;
            if let Some(schema) = schema {
                options = options.with_schema(schema)?;
            }
            options.auto_migrate = auto_migrate;
            Ok(Arc::new(PostgresStore::open(&options)?))
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
    let message = format!(
        "SQLite has no schemas: '{schema}' cannot be one of {}",
        options.location()
    );
    Err(Error::new(ErrorCode::Configuration, message)
        .with_hint("a tenant is a file there: give each its own path, like sqlite:///tenant_a.db"))
}

#[cfg(not(feature = "postgres"))]
fn no_postgres() -> Error {
    Error::new(
        ErrorCode::UrlInvalid,
        "PostgreSQL URLs are not supported by this build",
    )
    .with_hint("enable the cargo feature `postgres`, or use a sqlite:/// URL")
}
