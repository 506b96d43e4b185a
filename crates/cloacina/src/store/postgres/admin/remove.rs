//! Removes a tenant.

use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::super::driver::{Connection, Statement};
use super::super::error::Fault;
use super::super::session::Session;
use super::super::statement::query;
use super::super::url::PostgresOptions;
use super::statements::{LOCK, mark};
use super::transaction;
use crate::store::StoreError;

query! {
    /// The schema, whether it holds an engine's tables, the role that was made for it; the role, and whether it is that one.
    Found { schema: String => Text, mark: String => Text, role: String => Text, marked: String => Text } -> (
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
    Live {} -> BigInt;
    "SELECT pid FROM cloacina_runners WHERE dead_at IS NULL
     AND lease_until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint ORDER BY started_at"
}

query! {
    Database {} -> Text;
    "SELECT quote_ident(current_database())"
}

/// Drops the schema that the options are pinned to, with all that is in it, and the tenant's role.
///
/// # Errors
/// When there is no such tenant, the names do not belong together, a runner lives in it and `force` is not set, or the
/// role owns something elsewhere. Then nothing is removed.
pub fn remove(options: &PostgresOptions, role: &str, force: bool) -> Result<(), StoreError> {
    let session = Session::new(options.clone());
    transaction::run(&session, async |connection, session| {
        let schema = session.options.schema.as_deref().unwrap_or_default();
        let refuse = |what: String| {
            Err(Fault::Told(StoreError::Failed(format!(
                "the tenant '{schema}' of the database {} was not removed: {what}",
                session.options.place()
            ))))
        };
        let shared = connection;
        shared.batch_execute(LOCK).await?;
        let found = find(connection, schema, role).await?;
        if let Some(what) = found.objection(schema, role) {
            return refuse(what);
        }
        if found.schema == Half::Own {
            if force && found.role == Half::Own {
                end_sessions(connection, role).await?;
            }
            // A runner that starts now waits, and finds no table.
            let lock = "SET LOCAL lock_timeout = '10s'; LOCK TABLE cloacina_runners IN ACCESS EXCLUSIVE MODE";
            shared.batch_execute(lock).await?;
            let live: Vec<i64> = Live {}.load(shared).await?;
            if !force && !live.is_empty() {
                let pids: Vec<String> = live.iter().map(ToString::to_string).collect();
                return refuse(format!(
                    "{} live runner(s) use it (process {}); shut them down first, or remove it by force",
                    live.len(),
                    pids.join(", ")
                ));
            }
            shared
                .batch_execute(&format!("DROP SCHEMA \"{schema}\" CASCADE"))
                .await?;
        }
        if found.role == Half::Own {
            let database: Vec<String> = Database {}.load(shared).await?;
            let database = database.into_iter().next().unwrap_or_default();
            shared
                .batch_execute(&format!(
                    "REVOKE ALL ON DATABASE {database} FROM \"{role}\"; DROP ROLE \"{role}\""
                ))
                .await?;
        }
        Ok(())
    })
}

/// Half of what makes a tenant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    /// There is none of the name.
    Missing,
    /// It is something else's.
    Foreign,
    /// It is the tenant's.
    Own,
}

impl Half {
    const fn new(exists: bool, is_own: bool) -> Self {
        match (exists, is_own) {
            (false, _) => Self::Missing,
            (true, false) => Self::Foreign,
            (true, true) => Self::Own,
        }
    }
}

struct Parts {
    schema: Half,
    role: Half,
    /// The role that was made for the schema.
    owner: Option<String>,
}

impl Parts {
    /// Why these two names are no tenant.
    fn objection(&self, schema: &str, role: &str) -> Option<String> {
        match (self.schema, self.role) {
            (Half::Missing, Half::Missing) => Some(format!(
                "there is neither the schema '{schema}' nor the role '{role}'"
            )),
            (Half::Foreign, _) => Some(format!(
                "the schema '{schema}' holds no tables of the engine, so it is something else"
            )),
            (_, Half::Foreign) => Some(format!(
                "the role '{role}' was not made for it{}",
                self.hint()
            )),
            (Half::Own, Half::Missing) if self.owner.is_some() => {
                Some(format!("there is no role '{role}'{}", self.hint()))
            }
            _ => None,
        }
    }

    fn hint(&self) -> String {
        self.owner
            .as_ref()
            .map_or_else(String::new, |owner| format!("; its role is '{owner}'"))
    }
}

async fn find(connection: &Connection, schema: &str, role: &str) -> Result<Parts, Fault> {
    let found = Found {
        schema: schema.to_owned(),
        mark: mark(schema),
        role: role.to_owned(),
        marked: mark(schema),
    };
    let rows: Vec<(bool, bool, Option<String>, bool, bool)> = found.load(connection).await?;
    let row = rows.into_iter().next().unwrap_or_default();
    let (has_schema, has_tables, owner, has_role, is_its) = row;
    Ok(Parts {
        schema: Half::new(has_schema, has_tables),
        role: Half::new(has_role, is_its),
        owner,
    })
}

/// Ends the tenant's sessions, as far as the administrator may: one that goes on finds neither tables nor a role.
async fn end_sessions(connection: &Connection, role: &str) -> Result<(), Fault> {
    let end = format!(
        "DO $$BEGIN PERFORM pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = '{role}'; \
         EXCEPTION WHEN insufficient_privilege THEN NULL; END$$"
    );
    connection.batch_execute(&end).await
}
