//! Tenants of a PostgreSQL database: a schema and a role each (semantics H2).
//!
//! Schemas, roles, grants and tables are transactional there, so that each verb is one transaction: all or nothing. The
//! names were checked when they entered (`types::tenant`), so that quoting them is all that is left to do.

mod create;
mod list;
mod remove;
mod statements;
mod transaction;

pub use create::{create, migrate};
pub use list::{TenantRow, list};
pub use remove::remove;
