//! Applies migrations and reads the schema versions. As on SQLite, the versions are kept in a separate table and not in
//! Diesel's table of migrations, because an application in the same schema may use Diesel's table.

use diesel::sql_types::{Bool, Nullable, Text};

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::session::Session;
use super::statement::{query, statement};
use crate::store::{Report, StoreError};

/// The migrations of this program, oldest first. SQLite has migrations with the same version numbers, except for 5 and
/// 10, which concern only PostgreSQL.
const KNOWN: [(&str, &str); 10] = [
    (
        "00000000000001",
        include_str!("../../../migrations/postgres/00000000000001_initial/up.sql"),
    ),
    (
        "00000000000002",
        include_str!("../../../migrations/postgres/00000000000002_schedules/up.sql"),
    ),
    (
        "00000000000003",
        include_str!("../../../migrations/postgres/00000000000003_insight/up.sql"),
    ),
    (
        "00000000000004",
        include_str!("../../../migrations/postgres/00000000000004_queues/up.sql"),
    ),
    (
        "00000000000005",
        include_str!("../../../migrations/postgres/00000000000005_refusals/up.sql"),
    ),
    (
        "00000000000006",
        include_str!("../../../migrations/postgres/00000000000006_labels/up.sql"),
    ),
    (
        "00000000000007",
        include_str!("../../../migrations/postgres/00000000000007_flow/up.sql"),
    ),
    (
        "00000000000008",
        include_str!("../../../migrations/postgres/00000000000008_ends/up.sql"),
    ),
    (
        "00000000000009",
        include_str!("../../../migrations/postgres/00000000000009_aligned_maps/up.sql"),
    ),
    (
        "00000000000010",
        include_str!("../../../migrations/postgres/00000000000010_unchecked_rows/up.sql"),
    ),
];

query! {
    /// Returns the schema of the session, and whether the table of versions exists. Reads the catalogue table instead of
    /// calling `to_regclass`, whose cache does not contain a table that another process created while this transaction
    /// waited for the lock.
    HasVersions {} -> (Nullable<Text>, Bool);
    "SELECT current_schema()::text, EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = current_schema() AND c.relname = 'cloacina_migrations')"
}

query! {
    Versions {} -> Text;
    "SELECT version FROM cloacina_migrations ORDER BY version"
}

query! {
    /// Returns whether a schema exists, whether the role can use it, and whether the role can create missing objects.
    Rights { schema: String => Text } -> (Bool, Bool, Bool);
    "SELECT n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
     coalesce(has_schema_privilege(n.oid, 'CREATE'), has_database_privilege(current_database(), 'CREATE'))
     FROM (SELECT $1::text AS name) AS wanted LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.name"
}

statement! {
    InsertVersion<'a> { version: &'a str => Text }
    "INSERT INTO cloacina_migrations (version, applied_at)
     VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
}

const CREATE_VERSIONS: &str = "CREATE TABLE IF NOT EXISTS cloacina_migrations (version TEXT NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)";

/// The applied and the pending versions of a database.
pub(super) struct Schema {
    /// The schema of the session; `None` if it does not exist.
    name: Option<String>,
    /// Applied versions, oldest first.
    pub(super) applied: Vec<String>,
    /// Versions that this program has and the database lacks, oldest first.
    pub(super) pending: Vec<String>,
}

impl Schema {
    /// Reads the versions in the open transaction.
    async fn read(connection: &Connection) -> Result<Self, Fault> {
        let rows: Vec<(Option<String>, bool)> = HasVersions {}.load(connection).await?;
        let (name, exists) = rows.into_iter().next().unwrap_or_default();
        let applied: Vec<String> = if exists {
            Versions {}.load(connection).await?
        } else {
            Vec::new()
        };
        let known = KNOWN.iter().map(|(version, _)| (*version).to_owned());
        let pending = known.filter(|version| !applied.contains(version)).collect();
        Ok(Self {
            name,
            applied,
            pending,
        })
    }

    /// Refuses a database that a newer program has migrated.
    fn refuse_newer(&self, location: &str) -> Result<(), StoreError> {
        let is_known = |version: &&String| KNOWN.iter().any(|(known, _)| known == version);
        let newer: Vec<&str> = self
            .applied
            .iter()
            .filter(|version| !is_known(version))
            .map(String::as_str)
            .collect();
        if newer.is_empty() {
            return Ok(());
        }
        Err(StoreError::Migration(Report::hinted(
            format!(
                "the database {location} has the schema version {}, which is newer than this program knows (up to {})",
                newer.join(", "),
                KNOWN.last().map_or("none", |(version, _)| version)
            ),
            "install the version of cloaca that migrated it, or a later one",
        )))
    }

    /// Refuses a session that is not in the requested schema, because such a session would write into another schema.
    fn verify_schema(&self, session: &Session) -> Result<(), StoreError> {
        let wanted = session.options.schema.as_ref();
        if wanted.is_none() || wanted == self.name.as_ref() {
            return Ok(());
        }
        Err(StoreError::Failed(format!(
            "the connection is refused: the database {} puts sessions into the schema '{}' instead of '{}'",
            session.location,
            self.name.as_deref().unwrap_or("none"),
            wanted.map_or("", String::as_str)
        ).into()))
    }
}

/// Reads the schema versions of a database. Changes nothing.
pub(super) async fn read_versions(
    connection: &Connection,
    session: &Session,
) -> Result<Schema, Fault> {
    connection.batch_execute(session.begin()).await?;
    let schema = Schema::read(connection).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(schema)
}

/// Applies pending migrations. Fails if a migration is pending and the options do not allow migrations. Records the
/// schema, which all later connections must use.
pub(super) async fn prepare(connection: &Connection, session: &Session) -> Result<(), Fault> {
    let schema = check_and_migrate(connection, session).await?;
    schema.verify_schema(session)?;
    if let Some(name) = schema.name {
        session.set_schema(name);
    }
    Ok(())
}

async fn check_and_migrate(connection: &Connection, session: &Session) -> Result<Schema, Fault> {
    let location = &session.location;
    let schema = read_versions(connection, session).await?;
    schema.refuse_newer(location)?;
    if schema.pending.is_empty() {
        return Ok(schema);
    }
    if !session.options.auto_migrate {
        let what = match (&schema.name, &session.options.schema) {
            (None, Some(name)) => format!("has no schema '{name}'"),
            _ => format!("lacks the schema version {}", schema.pending.join(", ")),
        };
        return Err(Fault::Store(StoreError::Migration(Report::hinted(
            format!("the database {location} {what}, and migrating it at start is turned off"),
            "run `cloaca db migrate`",
        ))));
    }
    check_rights(connection, session, &schema).await?;
    migrate(connection, session).await?;
    read_versions(connection, session).await
}

/// Refuses a role that is not allowed to use or migrate the schema. A tenant's role cannot migrate the schema, so the
/// administrator must do it.
async fn check_rights(
    connection: &Connection,
    session: &Session,
    schema: &Schema,
) -> Result<(), Fault> {
    let Some(name) = session.options.schema.as_ref().or(schema.name.as_ref()) else {
        return Ok(());
    };
    let rights = session
        .fetch(
            connection,
            Rights {
                schema: name.clone(),
            },
        )
        .await?;
    let (exists, sees, creates) = rights.into_iter().next().unwrap_or((false, false, true));
    let (location, role) = (&session.location, &session.options.user);
    if exists && !sees {
        return Err(Fault::Store(StoreError::Failed(format!(
            "the database {location} does not let the role '{role}' use the schema '{name}'; the connection is refused"
        ).into())));
    }
    if creates {
        return Ok(());
    }
    let (what, version) = (
        if exists {
            "lacks"
        } else {
            "does not exist, so it lacks"
        },
        schema.pending.join(", "),
    );
    Err(Fault::Store(StoreError::Migration(Report::hinted(
        format!(
            "the schema '{name}' of the database {location} {what} the version {version}, and the role '{role}' may not \
         migrate it"
        ),
        "run `cloaca db migrate` or DatabaseAdmin.migrate_tenant with the administrator's URL",
    ))))
}

/// Applies pending migrations in one transaction. Only one process can migrate at a time.
async fn migrate(connection: &Connection, session: &Session) -> Result<(), Fault> {
    let begin = format!("{}; {}", session.begin(), session.without_timeouts());
    connection.batch_execute(&begin).await?;
    apply(connection, session).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(())
}

/// Creates the schema and applies pending migrations, in the open transaction.
pub(super) async fn apply(connection: &Connection, session: &Session) -> Result<(), Fault> {
    let location = &session.location;
    // Names were validated and need no escaping. The lock is needed because concurrent `CREATE … IF NOT EXISTS`
    // statements can fail.
    let wanted = session.options.schema.as_deref();
    let lock = format!(
        "SELECT pg_advisory_xact_lock(hashtextextended('cloacina:' || {}, 0))",
        wanted.map_or_else(
            || "coalesce(current_schema(), '')".to_owned(),
            |name| format!("'{name}'")
        )
    );
    connection.batch_execute(&lock).await?;
    if let Some(name) = wanted
        && Schema::read(connection).await?.name.is_none()
    {
        connection
            .batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{name}\""))
            .await?;
    }
    // The versions are read again under the lock, because another process may have migrated meanwhile.
    let schema = Schema::read(connection).await?;
    schema.verify_schema(session)?;
    schema.refuse_newer(location)?;
    if schema.name.is_none() {
        return Err(Fault::Refused(
            "no schema on the role's search_path exists".to_owned(),
        ));
    }
    connection.batch_execute(CREATE_VERSIONS).await?;
    for (version, text) in KNOWN
        .iter()
        .filter(|(version, _)| schema.pending.iter().any(|known| known == version))
    {
        connection
            .batch_execute(text)
            .await
            .map_err(|error| match error.at(location) {
                StoreError::Unavailable(message) => Fault::Store(StoreError::Unavailable(message)),
                other => Fault::Store(StoreError::Migration(format!(
                    "migration {version} of the database {location} failed and was rolled back: {other}"
                ).into())),
            })?;
        InsertVersion { version }.execute(connection).await?;
    }
    Ok(())
}
