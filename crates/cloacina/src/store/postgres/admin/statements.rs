//! What the verbs for tenants have in common: the lock, the mark of a role, and its rights.

/// One administrator at a time: two that make or remove the same tenant would meet in the middle.
pub(super) const LOCK: &str =
    "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('cloacina:tenants', 0))";

/// What a role's comment says, so that removing a tenant never takes somebody else's role.
pub(super) fn mark(schema: &str) -> String {
    format!("cloacina tenant {schema}")
}

/// What a tenant's role may do in its schema, now and after later migrations. The versions are not its to write.
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
