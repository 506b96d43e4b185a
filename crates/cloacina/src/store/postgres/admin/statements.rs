//! Statements that the tenant operations share: the lock, the mark of a role, and its grants.

/// Lets one administrator at a time create or remove tenants.
pub(super) const LOCK: &str =
    "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('cloacina:tenants', 0))";

/// Returns the comment that marks a tenant's role, so that removing a tenant never drops a role of somebody else.
pub(super) fn mark(schema: &str) -> String {
    format!("cloacina tenant {schema}")
}

/// Returns the grants of a tenant's role in its schema, which also cover tables of later migrations. The role may not
/// write the schema versions.
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
