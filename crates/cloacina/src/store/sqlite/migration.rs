//! Applies migrations and reads the schema versions.
//!
//! Diesel's macro embeds the SQL, but the versions are kept in a separate table. Diesel's own table of applied
//! migrations has a fixed name, and an application in the same database may use that table.

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
    cloacina_queue_utils::register_impl(connection, |name: String| number_of_name(&name))?;
    for (version, migration) in known_migrations()? {
        if schema.pending.contains(&version) {
            migration.run(connection).map_err(|error| {
                Fault::Migration(
                    format!("was not migrated, because version {version} failed: {error}").into(),
                )
            })?;
            InsertVersion { version: &version }.execute(connection)?;
        }
    }
    Ok(())
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
