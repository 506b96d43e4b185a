//! The databases of the failpoint tests.

use std::path::Path;
use std::sync::Arc;

use cloacina::store::Store;
use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};

use super::private_postgres::{fresh_name, shared};

/// A database of one test: a folder with a SQLite file, or the name of a PostgreSQL schema.
pub enum Database {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn postgres() -> Self {
        Self::Postgres(fresh_name())
    }

    /// Returns the name that `open` needs. A test passes it to its child process.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(folder) => folder.path().join("life.db").display().to_string(),
            Self::Postgres(schema) => format!("{}#{schema}", shared()),
        }
    }
}

/// Opens the database with this name.
pub fn open(name: &str) -> Arc<dyn Store> {
    match name.split_once('#') {
        Some((url, schema)) => {
            let options = PostgresOptions::from_url(url).unwrap();
            let options = options.with_schema(schema).unwrap();
            Arc::new(PostgresStore::open(&options).unwrap())
        }
        None => Arc::new(SqliteStore::open(&SqliteOptions::file(Path::new(name))).unwrap()),
    }
}
