//! Creates, lists, migrates and removes the tenants of a PostgreSQL database. Each has a schema and a role (semantics
//! H2).
//!
//! Schemas, roles, grants and tables are transactional in PostgreSQL, so each operation is one transaction. Names were
//! validated on entry (`types::tenant`) and only need quoting here.
//!
//! See docs/explanation/decisions/060-tenants-as-schemas.md

mod create;
mod list;
mod remove;
mod statements;
mod transaction;

pub use create::{create, migrate};
pub use list::{TenantRow, list};
pub use remove::remove;
