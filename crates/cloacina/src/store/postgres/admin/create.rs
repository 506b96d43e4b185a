//! Creates tenants and migrates their schemas.

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
    /// Returns a text for each privilege that a role has but does not need. The text contains the statement that
    /// revokes the privilege. Such privileges come from grants to PUBLIC.
    ExcessPrivileges { role: String => Text, schema: String => Text } -> Text;
    "WITH wanted AS (SELECT $1::name AS role, $2::name AS home)
     SELECT 'create schemas in the database, so run REVOKE CREATE ON DATABASE ' || quote_ident(current_database()) ||
     ' FROM PUBLIC' FROM wanted WHERE has_database_privilege(role, current_database(), 'CREATE')
     UNION ALL
     SELECT 'create tables in the schema ' || n.nspname || ', so run REVOKE CREATE ON SCHEMA ' || quote_ident(n.nspname) ||
     ' FROM PUBLIC' FROM wanted, pg_catalog.pg_namespace AS n
     WHERE has_schema_privilege(role, n.oid, 'CREATE')
     UNION ALL
     SELECT 'use the table ' || n.nspname || '.' || c.relname || ', so run REVOKE ALL ON ALL TABLES IN SCHEMA ' ||
     quote_ident(n.nspname) || ' FROM PUBLIC'
     FROM wanted, pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relname LIKE 'cloacina\\_%' AND n.nspname <> home
     AND has_schema_privilege(role, n.oid, 'USAGE')
     AND has_table_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, DELETE')"
}

query! {
    /// Returns whether the role can connect without an explicit grant, and the quoted name of the database.
    MayConnect { role: String => Text } -> (Bool, Text);
    "SELECT has_database_privilege($1::name, current_database(), 'CONNECT'), quote_ident(current_database())"
}

/// Creates and migrates the schema that the options are pinned to, and creates a role that can use this schema and
/// nothing else.
///
/// # Errors
/// Returns an error if the schema or the role already exists, if grants to PUBLIC would give the role more
/// privileges, if the administrator lacks a privilege, or if the database does not answer. After an error, nothing is
/// created, unless the error says that the outcome is unknown.
pub fn create(options: &PostgresOptions, role: &str, password: &Secret) -> Result<(), StoreError> {
    let session = Session::new(options.clone());
    // Only a verifier of the password is sent, so the password itself does not reach the server or the server's
    // log.
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
    // Sets a default for the role, so that clients and runners whose URL names no schema use the tenant's schema.
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

/// Refuses a role that has more privileges than it needs to use its schema. Grants to PUBLIC can give the tenant's
/// role such privileges.
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

/// Migrates the schema that the options are pinned to, and allows the tenant's role to use new tables.
///
/// # Errors
/// Returns an error if the schema does not exist or is newer than this program, or if the administrator lacks a
/// privilege.
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
                "call list_tenants to see the existing tenants",
            ))));
        };
        migration::apply(connection, session).await?;
        if let Some(role) = tenant.role {
            connection.batch_execute(&grants(schema, &role)).await?;
        }
        Ok(())
    })
}
