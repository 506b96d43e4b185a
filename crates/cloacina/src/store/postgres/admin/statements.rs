//! SQL that several tenant operations use: the lock, the mark of a role, and its grants.

/// Allows only one administrator at a time to create, migrate or remove tenants.
pub(super) const LOCK: &str =
    "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('cloacina:tenants', 0))";

/// Returns the comment that marks the role of a tenant. The removal of a tenant drops only a role with this mark.
pub(super) fn mark(schema: &str) -> String {
    format!("cloacina tenant {schema}")
}

/// Returns the SQL that grants a tenant's role access to its schema. The grants cover tables of later migrations. The role
/// can read the schema versions, but cannot change them.
pub(super) fn grants(schema: &str, role: &str) -> String {
    format!(
        "GRANT USAGE ON SCHEMA \"{schema}\" TO \"{role}\"; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"{schema}\" TO \"{role}\"; \
         GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA \"{schema}\" TO \"{role}\"; \
         REVOKE INSERT, UPDATE, DELETE ON \"{schema}\".cloacina_migrations FROM \"{role}\"; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA \"{schema}\" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO \"{role}\"; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA \"{schema}\" GRANT USAGE, SELECT ON SEQUENCES TO \"{role}\""
    )
}
