//! Creates, lists, migrates and removes the tenants of a PostgreSQL database. Each tenant has a schema and a role
//! (semantics H2).
//!
//! In PostgreSQL, schemas, roles, grants and tables are transactional, so each operation is one transaction. The names
//! have already been validated (`types::tenant`) and only need quotes here.
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
