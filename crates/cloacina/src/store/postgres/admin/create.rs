//! Creates tenants, and migrates their schemas.

use diesel::sql_types::{Bool, Text};

use super::super::driver::{Connection, Statement};
use super::super::error::Fault;
use super::super::migration;
use super::super::session::Session;
use super::super::statement::query;
use super::super::url::{PostgresOptions, Secret};
use super::statements::{LOCK, grants, mark};
use super::{list, transaction};
use crate::store::{Report, StoreError};

query! {
    ExistingNames { schema: String => Text, role: String => Text } -> (Bool, Bool);
    "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1::text),
     EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $2::text)"
}

query! {
    /// Privileges of a role beyond its own schema, which come from grants to PUBLIC.
    ExcessPrivileges { role: String => Text, schema: String => Text } -> Text;
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
    /// Whether the role may connect without an explicit grant.
    MayConnect { role: String => Text } -> (Bool, Text);
    "SELECT has_database_privilege($1::name, current_database(), 'CONNECT'), quote_ident(current_database())"
}

/// Creates the schema that the options are pinned to, migrates it, and creates a role that may use it and nothing else.
///
/// # Errors
/// If the schema or the role exists, the administrator lacks a privilege, or the database does not answer. Nothing is
/// created then.
pub fn create(options: &PostgresOptions, role: &str, password: &Secret) -> Result<(), StoreError> {
    let session = Session::new(options.clone());
    // The server and its log never see the password itself.
    let verifier = postgres_protocol::password::scram_sha_256(password.0.as_bytes());
    transaction::run(&session, async |connection, session| {
        let schema = session.options.schema.as_deref().unwrap_or_default();
        create_in_transaction(connection, session, schema, role, &verifier).await
    })
}

async fn create_in_transaction(
    connection: &Connection,
    session: &Session,
    schema: &str,
    role: &str,
    verifier: &str,
) -> Result<(), Fault> {
    connection.batch_execute(LOCK).await?;
    refuse_existing(connection, session, schema, role).await?;
    connection
        .batch_execute(&format!(
            "CREATE ROLE \"{role}\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{verifier}'"
        ))
        .await?;
    connection
        .batch_execute(&format!("COMMENT ON ROLE \"{role}\" IS '{}'", mark(schema)))
        .await?;
    migration::apply(connection, session).await?;
    connection.batch_execute(&grants(schema, role)).await?;
    let connects = MayConnect {
        role: role.to_owned(),
    };
    let connects: Vec<(bool, String)> = connects.load(connection).await?;
    let (may_connect, database) = connects.into_iter().next().unwrap_or_default();
    if !may_connect {
        connection
            .batch_execute(&format!(
                "GRANT CONNECT ON DATABASE {database} TO \"{role}\""
            ))
            .await?;
    }
    // Makes the credentials work with any client, and with a runner that names no schema.
    connection
        .batch_execute(&format!(
            "ALTER ROLE \"{role}\" IN DATABASE {database} SET search_path = \"{schema}\""
        ))
        .await?;
    refuse_excess_privileges(connection, session, schema, role).await
}

async fn refuse_existing(
    connection: &Connection,
    session: &Session,
    schema: &str,
    role: &str,
) -> Result<(), Fault> {
    let existing = ExistingNames {
        schema: schema.to_owned(),
        role: role.to_owned(),
    };
    let existing: Vec<(bool, bool)> = existing.load(connection).await?;
    let what = match existing.into_iter().next().unwrap_or_default() {
        (false, false) => return Ok(()),
        (true, true) => format!("the schema '{schema}' and the role '{role}' exist already"),
        (true, false) => format!("the schema '{schema}' exists already"),
        (false, true) => format!("the role '{role}' exists already"),
    };
    Err(Fault::Store(StoreError::Failed(Report::hinted(
        format!(
            "the tenant '{schema}' of the database {} was not created: {what}",
            session.options.location_without_schema()
        ),
        "choose other names, or remove the \
         tenant first",
    ))))
}

/// Refuses a role that can do more than use its schema: grants to PUBLIC also apply to the tenant.
async fn refuse_excess_privileges(
    connection: &Connection,
    session: &Session,
    schema: &str,
    role: &str,
) -> Result<(), Fault> {
    let excess = ExcessPrivileges {
        role: role.to_owned(),
        schema: schema.to_owned(),
    };
    let excess: Vec<String> = excess.load(connection).await?;
    let Some(what) = excess.into_iter().next() else {
        return Ok(());
    };
    Err(Fault::Store(StoreError::Failed(
        format!(
            "the tenant '{schema}' of the database {} was not created: its role could {what} first",
            session.options.location_without_schema()
        )
        .into(),
    )))
}

/// Migrates the schema that the options are pinned to, and grants the tenant's role the use of new tables.
///
/// # Errors
/// If the schema does not exist, is newer than this program, or the administrator lacks a privilege.
pub fn migrate(options: &PostgresOptions) -> Result<(), StoreError> {
    let session = Session::new(options.clone());
    transaction::run(&session, async |connection, session| {
        let schema = session.options.schema.as_deref().unwrap_or_default();
        connection.batch_execute(LOCK).await?;
        let tenants = list::all(connection).await?;
        let Some(tenant) = tenants.into_iter().find(|tenant| tenant.schema == schema) else {
            return Err(Fault::Store(StoreError::Failed(Report::hinted(
                format!(
                    "there is no tenant '{schema}' in the database {}",
                    session.options.location_without_schema()
                ),
                "list_tenants returns the existing ones",
            ))));
        };
        migration::apply(connection, session).await?;
        if let Some(role) = tenant.role {
            connection.batch_execute(&grants(schema, &role)).await?;
        }
        Ok(())
    })
}
