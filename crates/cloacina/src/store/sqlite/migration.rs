//! Applies migrations and reads the schema versions.
//!
//! Diesel's macro embeds the SQL, but the versions are kept in a separate table. Diesel's own table of applied
//! migrations has a fixed name, and an application in the same database may use that table.

use std::fmt::Display;

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;
use diesel::{RunQueryDsl, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::error::Fault;
use super::statement::{query, statement};
use crate::store::Report;
use crate::workflow::queue::number_of_name;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

query! {
    HasVersions {} -> BigInt;
    "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'cloacina_migrations'"
}

query! {
    Versions {} -> Text;
    "SELECT version FROM cloacina_migrations ORDER BY version"
}

statement! {
    InsertVersion<'a> { version: &'a str => Text }
    "INSERT INTO cloacina_migrations (version, applied_at) VALUES (?, CAST(unixepoch('subsec') * 1000000 AS INTEGER))"
}

/// Creates what the migrations leave in an empty database. A new database is created in this way, because applying the
/// migrations one after the other takes longer. A test compares the two.
const CREATE_ALL: &str = include_str!("../../../migrations/sqlite.sql");

const CREATE_VERSIONS: &str = "CREATE TABLE IF NOT EXISTS cloacina_migrations \
     (version TEXT NOT NULL PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT, WITHOUT ROWID";

#[diesel::declare_sql_function]
extern "SQL" {
    /// Returns the number of the queue that has this name. It is an SQL function of this program, because SQLite itself
    /// cannot compute the number.
    fn cloacina_queue(name: Text) -> BigInt;
}

/// The applied and the pending versions of a database.
pub(super) struct Schema {
    /// Applied versions, oldest first.
    pub(super) applied: Vec<String>,
    /// Versions that this program has and the database lacks, oldest first.
    pub(super) pending: Vec<String>,
}

impl Schema {
    /// Reads the versions.
    pub(super) fn read(connection: &mut SqliteConnection) -> Result<Self, Fault> {
        let exists = HasVersions {}.load::<i64>(connection)? != [0];
        let applied: Vec<String> = if exists {
            Versions {}.load(connection)?
        } else {
            Vec::new()
        };
        let known = known_migrations()?;
        let pending = known
            .iter()
            .map(|(version, _)| version)
            .filter(|version| !applied.contains(version));
        Ok(Self {
            pending: pending.cloned().collect(),
            applied,
        })
    }

    /// Refuses a database that a newer program has migrated.
    pub(super) fn refuse_newer(&self) -> Result<(), Fault> {
        let known = known_migrations()?;
        let newer: Vec<&str> = self
            .applied
            .iter()
            .filter(|version| !known.iter().any(|(name, _)| name == *version))
            .map(String::as_str)
            .collect();
        if newer.is_empty() {
            return Ok(());
        }
        Err(Fault::Migration(Report::hinted(
            format!(
                "has the schema version {}, which is newer than this program knows (up to {})",
                newer.join(", "),
                known.last().map_or("none", |(name, _)| name.as_str())
            ),
            "install the version of \
             cloaca that migrated it, or a later one",
        )))
    }
}

/// Applies pending migrations. Must be called in a transaction that holds the write lock.
pub(super) fn migrate(connection: &mut SqliteConnection) -> Result<(), Fault> {
    // The versions are read again under the lock, because another process may have migrated
    // meanwhile.
    let schema = Schema::read(connection)?;
    schema.refuse_newer()?;
    connection.batch_execute(CREATE_VERSIONS)?;
    if schema.applied.is_empty() {
        connection
            .batch_execute(CREATE_ALL)
            .map_err(|error| failed("creating the tables", &error))?;
        for version in &schema.pending {
            InsertVersion { version }.execute(connection)?;
        }
        return Ok(());
    }
    apply(connection, &schema.pending)
}

/// Applies migrations, one after the other.
fn apply(connection: &mut SqliteConnection, pending: &[String]) -> Result<(), Fault> {
    cloacina_queue_utils::register_impl(connection, |name: String| number_of_name(&name))?;
    for (version, migration) in known_migrations()? {
        if pending.contains(&version) {
            migration
                .run(connection)
                .map_err(|error| failed(&format!("version {version}"), &error))?;
            InsertVersion { version: &version }.execute(connection)?;
        }
    }
    Ok(())
}

fn failed(what: &str, error: &dyn Display) -> Fault {
    Fault::Migration(format!("was not migrated, because {what} failed: {error}").into())
}

/// The migrations of this program with their versions, oldest first.
type KnownMigrations = Vec<(String, Box<dyn Migration<Sqlite>>)>;

fn known_migrations() -> Result<KnownMigrations, Fault> {
    let migrations = MigrationSource::<Sqlite>::migrations(&MIGRATIONS)
        .map_err(|error| Fault::Corrupt(format!("cannot read the embedded migrations: {error}")))?;
    let mut known: KnownMigrations = migrations
        .into_iter()
        .map(|migration| (migration.name().version().to_string(), migration))
        .collect();
    known.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails if it cannot go on")]

    use diesel::Connection;

    use super::*;

    const TITLE: &str = "-- The tables and indexes that the migrations of the folder `sqlite` leave in an empty database. \
                         `make schema` writes this file.";

    query! {
        /// Returns the SQL of all tables and indexes, in the order in which they were created.
        Creations {} -> Text;
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'cloacina_migrations'
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
    }

    /// Migrates an empty database, and returns the SQL that creates its tables and indexes.
    fn creations(migrate: impl FnOnce(&mut SqliteConnection) -> Result<(), Fault>) -> Vec<String> {
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        migrate(&mut connection).unwrap();
        let schema = Schema::read(&mut connection).unwrap();
        assert!(schema.pending.is_empty());
        Creations {}.load(&mut connection).unwrap()
    }

    /// With `CLOACINA_WRITE_SCHEMA` set, writes the file instead.
    #[test]
    fn a_new_database_has_what_all_migrations_leave() {
        let migrated = creations(|connection| {
            let pending = Schema::read(connection)?.pending;
            connection.batch_execute(CREATE_VERSIONS)?;
            apply(connection, &pending)
        });
        if std::env::var_os("CLOACINA_WRITE_SCHEMA").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite.sql");
            let text = format!("{TITLE}\n\n{};\n", migrated.join(";\n\n"));
            std::fs::write(path, text).unwrap();
            return;
        }
        assert_eq!(
            creations(migrate),
            migrated,
            "migrations/sqlite.sql differs; write it with `make schema`"
        );
    }
}
