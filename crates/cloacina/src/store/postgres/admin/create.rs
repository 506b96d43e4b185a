//! Makes a tenant, and brings the schema of one up to date.

use diesel::sql_types::{Bool, Text};

use super::super::driver::{Connection, Statement};
use super::super::error::Fault;
use super::super::migration;
use super::super::session::Session;
use super::super::statement::query;
use super::super::url::{PostgresOptions, Secret};
use super::statements::{LOCK, grants, mark};
use super::{list, transaction};
use crate::store::StoreError;

query! {
    Taken { schema: String => Text, role: String => Text } -> (Bool, Bool);
    "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1::text),
     EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $2::text)"
}

query! {
    /// What a role can reach beyond its own schema, through what is granted to everybody.
    Reach { role: String => Text, schema: String => Text } -> Text;
    "WITH wanted AS (SELECT $1::name AS role, $2::name AS home)
     SELECT 'create schemas in the database; REVOKE CREATE ON DATABASE ' || quote_ident(current_database()) ||
     ' FROM PUBLIC' FROM wanted WHERE has_database_privilege(role, current_database(), 'CREATE')
     UNION ALL
     SELECT 'create tables in the schema ' || n.nspname || '; REVOKE CREATE ON SCHEMA ' || quote_ident(n.nspname) ||
     ' FROM PUBLIC' FROM wanted, pg_catalog.pg_namespace AS n
     WHERE has_schema_privilege(role, n.oid, 'CREATE')
     UNION ALL
     SELECT 'use the table ' || n.nspname || '.' || c.relname || '; REVOKE ALL ON ALL TABLES IN SCHEMA ' ||
     quote_ident(n.nspname) || ' FROM PUBLIC'
     FROM wanted, pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relname LIKE 'cloacina\\_%' AND n.nspname <> home
     AND has_schema_privilege(role, n.oid, 'USAGE')
     AND has_table_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, DELETE')"
}

query! {
    /// Whether the role may connect without being told so.
    Connects { role: String => Text } -> (Bool, Text);
    "SELECT has_database_privilege($1::name, current_database(), 'CONNECT'), quote_ident(current_database())"
}

/// Makes the schema that the options are pinned to, migrated, and a role that may use it and nothing else.
///
/// # Errors
/// When the schema or the role exists, the administrator lacks a right, or the database does not answer. Then there is
/// neither of them.
pub fn create(options: &PostgresOptions, role: &str, password: &Secret) -> Result<(), StoreError> {
    let session = Session::new(options.clone());
    // The server and its log never see the password itself.
    let verifier = postgres_protocol::password::scram_sha_256(password.0.as_bytes());
    transaction::run(&session, async |connection, session| {
        let schema = session.options.schema.as_deref().unwrap_or_default();
        make(connection, session, schema, role, &verifier).await
    })
}

async fn make(
    connection: &Connection,
    session: &Session,
    schema: &str,
    role: &str,
    verifier: &str,
) -> Result<(), Fault> {
    let shared = connection;
    shared.batch_execute(LOCK).await?;
    refuse_taken(connection, session, schema, role).await?;
    shared
        .batch_execute(&format!(
            "CREATE ROLE \"{role}\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{verifier}'"
        ))
        .await?;
    shared
        .batch_execute(&format!("COMMENT ON ROLE \"{role}\" IS '{}'", mark(schema)))
        .await?;
    migration::apply(connection, session).await?;
    shared.batch_execute(&grants(schema, role)).await?;
    let connects = Connects {
        role: role.to_owned(),
    };
    let connects: Vec<(bool, String)> = connects.load(shared).await?;
    let (may_connect, database) = connects.into_iter().next().unwrap_or_default();
    if !may_connect {
        shared
            .batch_execute(&format!(
                "GRANT CONNECT ON DATABASE {database} TO \"{role}\""
            ))
            .await?;
    }
    // So that the credentials work with any client, and with a runner that names no schema.
    shared
        .batch_execute(&format!(
            "ALTER ROLE \"{role}\" IN DATABASE {database} SET search_path = \"{schema}\""
        ))
        .await?;
    refuse_reach(connection, session, schema, role).await
}

async fn refuse_taken(
    connection: &Connection,
    session: &Session,
    schema: &str,
    role: &str,
) -> Result<(), Fault> {
    let shared = connection;
    let taken = Taken {
        schema: schema.to_owned(),
        role: role.to_owned(),
    };
    let taken: Vec<(bool, bool)> = taken.load(shared).await?;
    let what = match taken.into_iter().next().unwrap_or_default() {
        (false, false) => return Ok(()),
        (true, true) => format!("the schema '{schema}' and the role '{role}' exist already"),
        (true, false) => format!("the schema '{schema}' exists already"),
        (false, true) => format!("the role '{role}' exists already"),
    };
    Err(Fault::Told(StoreError::Failed(format!(
        "the tenant '{schema}' of the database {} was not created: {what}; choose other names, or remove the tenant first",
        session.options.place()
    ))))
}

/// Least privilege is checked, not assumed: what is granted to everybody is granted to the tenant.
async fn refuse_reach(
    connection: &Connection,
    session: &Session,
    schema: &str,
    role: &str,
) -> Result<(), Fault> {
    let shared = connection;
    let reach = Reach {
        role: role.to_owned(),
        schema: schema.to_owned(),
    };
    let reach: Vec<String> = reach.load(shared).await?;
    let Some(what) = reach.into_iter().next() else {
        return Ok(());
    };
    Err(Fault::Told(StoreError::Failed(format!(
        "the tenant '{schema}' of the database {} was not created: its role could {what} first",
        session.options.place()
    ))))
}

/// Brings the schema that the options are pinned to up to date, and lets the tenant's role use what is new.
///
/// # Errors
/// When there is no such schema, it is newer than this program, or the administrator lacks a right.
pub fn migrate(options: &PostgresOptions) -> Result<(), StoreError> {
    let session = Session::new(options.clone());
    transaction::run(&session, async |connection, session| {
        let shared = connection;
        let schema = session.options.schema.as_deref().unwrap_or_default();
        shared.batch_execute(LOCK).await?;
        let tenants = list::all(connection).await?;
        let Some(tenant) = tenants.into_iter().find(|tenant| tenant.schema == schema) else {
            return Err(Fault::Told(StoreError::Failed(format!(
                "there is no tenant '{schema}' in the database {}; list_tenants names those that there are",
                session.options.place()
            ))));
        };
        migration::apply(connection, session).await?;
        if let Some(role) = tenant.role {
            shared.batch_execute(&grants(schema, &role)).await?;
        }
        Ok(())
    })
}
