//! `DatabaseAdmin`: provisioning of tenants.

use cloacina::{DatabaseAdmin as Admin, TenantConfig};
use pyo3::prelude::*;

use crate::call;
use crate::errors::Raise;
use crate::process_guard::ProcessGuard;
use crate::records::{TenantCredentials, TenantRecord};

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

    /// The location of the database, without a password.
    #[getter]
    fn location(&self) -> String {
        self.admin.location()
    }

    /// Creates a tenant: its schema, its role and the tables.
    fn create_tenant(
        &self,
        py: Python<'_>,
        schema_name: String,
        username: String,
        password: Option<String>,
    ) -> PyResult<TenantCredentials> {
        let config = TenantConfig {
            schema_name,
            username,
            password,
        };
        let made = call::detached(py, ProcessGuard::here(), || {
            self.admin.create_tenant(&config)
        })?;
        Ok(TenantCredentials {
            username: made.username,
            password: made.password,
            schema_name: made.schema_name,
            connection_string: made.connection_string,
        })
    }

    /// Removes a tenant with its data. Without `force`, fails while a live runner uses the tenant's schema.
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
    fn list_tenants(&self, py: Python<'_>) -> PyResult<Vec<TenantRecord>> {
        let tenants = call::detached(py, ProcessGuard::here(), || self.admin.list_tenants())?;
        let records = tenants.into_iter().map(|tenant| TenantRecord {
            schema_name: tenant.schema_name,
            username: tenant.username,
        });
        Ok(records.collect())
    }

    /// Migrates the schema of a tenant.
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
