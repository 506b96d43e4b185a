//! `DatabaseAdmin`: provisioning of tenants.

use cloacina::{DatabaseAdmin as Admin, TenantConfig};
use pyo3::prelude::*;

use crate::call;
use crate::errors::Raise;
use crate::process_guard::ProcessGuard;

/// `username`, `password`, `schema_name`, `connection_string`.
type CredentialParts = (String, String, String, String);

/// Creates, lists, migrates and removes tenants. It holds no open connection.
#[pyclass(frozen, module = "cloaca._core")]
pub struct DatabaseAdmin {
    admin: Admin,
}

#[pymethods]
impl DatabaseAdmin {
    #[new]
    fn new(py: Python<'_>, database_url: &str) -> PyResult<Self> {
        Ok(Self {
            admin: Admin::new(database_url).raise(py)?,
        })
    }

    /// The database, without a password.
    #[getter]
    fn location(&self) -> String {
        self.admin.location()
    }

    fn create_tenant(
        &self,
        py: Python<'_>,
        schema_name: String,
        username: String,
        password: Option<String>,
    ) -> PyResult<CredentialParts> {
        let config = TenantConfig {
            schema_name,
            username,
            password,
        };
        let made = call::detached(py, ProcessGuard::here(), || {
            self.admin.create_tenant(&config)
        })?;
        Ok((
            made.username,
            made.password,
            made.schema_name,
            made.connection_string,
        ))
    }

    fn remove_tenant(
        &self,
        py: Python<'_>,
        schema_name: &str,
        username: &str,
        force: bool,
    ) -> PyResult<()> {
        call::detached(py, ProcessGuard::here(), || {
            self.admin.remove_tenant(schema_name, username, force)
        })
    }

    /// Returns the schemas of tenants, each with the role that was created for it.
    fn list_tenants(&self, py: Python<'_>) -> PyResult<Vec<(String, Option<String>)>> {
        let tenants = call::detached(py, ProcessGuard::here(), || self.admin.list_tenants())?;
        let parts = tenants
            .into_iter()
            .map(|tenant| (tenant.schema_name, tenant.username));
        Ok(parts.collect())
    }

    fn migrate_tenant(&self, py: Python<'_>, schema_name: &str) -> PyResult<()> {
        call::detached(py, ProcessGuard::here(), || {
            self.admin.migrate_tenant(schema_name)
        })
    }
}

/// Validates the settings of a tenant without connecting to the database.
#[pyfunction]
#[pyo3(signature = (schema_name, username, password=None))]
pub fn check_tenant(
    py: Python<'_>,
    schema_name: String,
    username: String,
    password: Option<String>,
) -> PyResult<()> {
    let config = TenantConfig {
        schema_name,
        username,
        password,
    };
    config.validate().raise(py)
}
