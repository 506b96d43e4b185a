//! The public facade: open a database, register workflows, submit, follow, control.

mod database_admin;
mod describe;
mod engine_handle;
mod family;
mod history;

pub use database_admin::{DatabaseAdmin, Tenant, TenantConfig, TenantCredentials};
pub use describe::{to_dot, to_mermaid};
pub use engine_handle::{EngineHandle, ListFilter, OpenOptions, Page};
pub use history::history_of;
