//! Lists the tenants of a database.

use diesel::sql_types::{Nullable, Text};

use super::super::blocking_connection::BlockingConnection;
use super::super::driver::{Connection, Statement};
use super::super::error::Fault;
use super::super::session::Session;
use super::super::statement::query;
use super::super::url::PostgresOptions;
use crate::store::StoreError;

query! {
    /// Returns the schemas that contain the engine's tables, except `public`, each with the role that was created for it.
    Tenants {} -> (Text, Nullable<Text>);
    "SELECT n.nspname::text, (SELECT min(r.rolname)::text FROM pg_catalog.pg_roles AS r
     WHERE shobj_description(r.oid, 'pg_authid') = 'cloacina tenant ' || n.nspname)
     FROM pg_catalog.pg_namespace AS n WHERE n.nspname <> 'public' AND EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c
     WHERE c.relnamespace = n.oid AND c.relname = 'cloacina_migrations' AND c.relkind = 'r') ORDER BY 1"
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    /// The schema.
    pub schema: String,
    /// The role that was created for the schema, if any.
    pub role: Option<String>,
}

/// Returns all tenants, ordered by schema name.
///
/// # Errors
/// Returns an error if the database cannot be read.
pub fn list(options: &PostgresOptions) -> Result<Vec<TenantRow>, StoreError> {
    let session = Session::new(options.clone());
    BlockingConnection::new().run(&session, async |connection, session| {
        let rows = session.fetch(connection, Tenants {}).await?;
        Ok(rows.into_iter().map(row).collect())
    })
}

/// Returns all tenants, using the open transaction.
pub(super) async fn all(connection: &Connection) -> Result<Vec<TenantRow>, Fault> {
    let rows: Vec<(String, Option<String>)> = Tenants {}.load(connection).await?;
    Ok(rows.into_iter().map(row).collect())
}

fn row((schema, role): (String, Option<String>)) -> TenantRow {
    TenantRow { schema, role }
}
