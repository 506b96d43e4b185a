//! Removes a tenant.

use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::super::driver::{Connection, Statement};
use super::super::error::Fault;
use super::super::session::Session;
use super::super::statement::query;
use super::super::url::PostgresOptions;
use super::statements::{LOCK, mark};
use super::transaction;
use crate::store::{Report, StoreError};

query! {
    /// Returns whether the schema exists, whether it has the engine's tables, and the role that was created for it.
    /// Also returns whether the named role exists, and whether it was created for this schema.
    FindTenant { schema: String => Text, mark: String => Text, role: String => Text, marked: String => Text } -> (
        Bool, Bool, Nullable<Text>, Bool, Bool,
    );
    "WITH home AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1::text)
     SELECT EXISTS (SELECT 1 FROM home),
     EXISTS (SELECT 1 FROM home JOIN pg_catalog.pg_class AS c ON c.relnamespace = home.oid
     WHERE c.relname = 'cloacina_migrations' AND c.relkind = 'r'),
     (SELECT min(rolname)::text FROM pg_catalog.pg_roles WHERE shobj_description(oid, 'pg_authid') = $2::text),
     role.oid IS NOT NULL, coalesce(shobj_description(role.oid, 'pg_authid') = wanted.mark, false)
     FROM (SELECT $3::text AS name, $4::text AS mark) AS wanted
     LEFT JOIN pg_catalog.pg_roles AS role ON role.rolname = wanted.name"
}

query! {
    LiveRunnerPids {} -> BigInt;
    "SELECT pid FROM cloacina_runners WHERE dead_at IS NULL
     AND lease_until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint ORDER BY started_at"
}

query! {
    DatabaseName {} -> Text;
    "SELECT quote_ident(current_database())"
}

/// Drops the schema that the options are pinned to, all its contents, and the tenant's role.
///
/// # Errors
/// Returns an error if the tenant does not exist, if the role was not created for the schema, if a runner uses the
/// schema and `force` is not set, or if the role owns objects elsewhere. After an error, nothing is removed, unless the
/// error says that the outcome is unknown.
pub fn remove(options: &PostgresOptions, role: &str, force: bool) -> Result<(), StoreError> {
    let session = Session::new(options.clone());
    transaction::run(&session, async |connection, session| {
        let schema = session.options.schema.as_deref().unwrap_or_default();
        let refuse = |what: Report| {
            let location = session.options.location_without_schema();
            let of_tenant = |what: &str| {
                format!("the tenant '{schema}' of the database {location} was not removed: {what}")
            };
            Err(Fault::Store(StoreError::Failed(what.map(of_tenant))))
        };
        connection.batch_execute(LOCK).await?;
        let tenant = find(connection, schema, role).await?;
        if let Some(what) = tenant.objection(schema, role) {
            return refuse(what.into());
        }
        if tenant.schema == Ownership::Own {
            if force && tenant.role == Ownership::Own {
                end_sessions(connection, role).await?;
            }
            // A runner that starts now waits for this lock, and finds no tables after the removal.
            let lock = "SET LOCAL lock_timeout = '10s'; LOCK TABLE cloacina_runners IN ACCESS EXCLUSIVE MODE";
            connection.batch_execute(lock).await?;
            let live: Vec<i64> = LiveRunnerPids {}.load(connection).await?;
            if !force && !live.is_empty() {
                let pids: Vec<String> = live.iter().map(ToString::to_string).collect();
                return refuse(Report::hinted(
                    format!(
                        "{} live runner(s) use the schema (process {})",
                        live.len(),
                        pids.join(", ")
                    ),
                    "shut them down first, or use force",
                ));
            }
            connection
                .batch_execute(&format!("DROP SCHEMA \"{schema}\" CASCADE"))
                .await?;
        }
        if tenant.role == Ownership::Own {
            let database: Vec<String> = DatabaseName {}.load(connection).await?;
            let database = database.into_iter().next().unwrap_or_default();
            connection
                .batch_execute(&format!(
                    "REVOKE ALL ON DATABASE {database} FROM \"{role}\"; DROP ROLE \"{role}\""
                ))
                .await?;
        }
        Ok(())
    })
}

/// Whether a schema or a role exists and belongs to the tenant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// The schema or role does not exist.
    Missing,
    /// The schema or role exists, but does not belong to the tenant.
    Foreign,
    /// The schema or role belongs to the tenant.
    Own,
}

impl Ownership {
    const fn new(exists: bool, is_own: bool) -> Self {
        match (exists, is_own) {
            (false, _) => Self::Missing,
            (true, false) => Self::Foreign,
            (true, true) => Self::Own,
        }
    }
}

struct TenantParts {
    schema: Ownership,
    role: Ownership,
    /// The role that was created for the schema.
    owner: Option<String>,
}

impl TenantParts {
    /// Returns the reason why the schema and the role must not be removed; `None` if they can be removed. One of
    /// them can be missing, unless another role was created for the schema.
    fn objection(&self, schema: &str, role: &str) -> Option<String> {
        match (self.schema, self.role) {
            (Ownership::Missing, Ownership::Missing) => Some(format!(
                "there is neither the schema '{schema}' nor the role '{role}'"
            )),
            (Ownership::Foreign, _) => Some(format!(
                "the schema '{schema}' has none of the engine's tables, so it is not a tenant"
            )),
            (_, Ownership::Foreign) => Some(format!(
                "the role '{role}' was not created for it{}",
                self.owner_note()
            )),
            (Ownership::Own, Ownership::Missing) if self.owner.is_some() => {
                Some(format!("there is no role '{role}'{}", self.owner_note()))
            }
            _ => None,
        }
    }

    /// Returns the end of the objection: the name of the role that was created for the schema, if any.
    fn owner_note(&self) -> String {
        self.owner
            .as_ref()
            .map_or_else(String::new, |owner| format!("; its role is '{owner}'"))
    }
}

async fn find(connection: &Connection, schema: &str, role: &str) -> Result<TenantParts, Fault> {
    let query = FindTenant {
        schema: schema.to_owned(),
        mark: mark(schema),
        role: role.to_owned(),
        marked: mark(schema),
    };
    let rows: Vec<(bool, bool, Option<String>, bool, bool)> = query.load(connection).await?;
    let row = rows.into_iter().next().unwrap_or_default();
    let (has_schema, has_tables, owner, has_role, is_its) = row;
    Ok(TenantParts {
        schema: Ownership::new(has_schema, has_tables),
        role: Ownership::new(has_role, is_its),
        owner,
    })
}

/// Ends the tenant's sessions, if the administrator is allowed to. A session that remains finds neither tables nor a
/// role.
async fn end_sessions(connection: &Connection, role: &str) -> Result<(), Fault> {
    let end = format!(
        "DO $$BEGIN PERFORM pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = '{role}'; \
         EXCEPTION WHEN insufficient_privilege THEN NULL; END$$"
    );
    connection.batch_execute(&end).await
}
