//! cloacina: a durable workflow engine that lives inside the program that uses it.

pub mod engine;
pub mod runner;
pub mod runtime;
pub mod store;
pub mod types;
pub mod workflow;

pub use runner::{DatabaseAdmin, Tenant, TenantConfig, TenantCredentials};
