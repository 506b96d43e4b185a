//! Creates, lists, migrates and removes the tenants of a PostgreSQL database (semantics H2).

use std::fmt;

use crate::store::DatabaseUrl;
#[cfg(feature = "postgres")]
use crate::store::postgres::{PostgresOptions, Secret, admin};
#[cfg(feature = "postgres")]
use crate::types::ErrorCode;
use crate::types::{Error, check_password, check_role_name, check_tenant_schema_name};

/// The settings of a tenant to create. Since 1.0.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TenantConfig {
    /// Name of the schema: `[A-Za-z_][A-Za-z0-9_]{0,62}`, not reserved.
    pub schema_name: String,
    /// Name of the tenant's PostgreSQL role; the same rule applies.
    pub username: String,
    /// Password of the role; `None` generates a strong one.
    pub password: Option<String>,
}

impl TenantConfig {
    /// Creates settings for a tenant with a generated password. Since 1.0.
    pub fn new(schema_name: impl Into<String>, username: impl Into<String>) -> Self {
        Self {
            schema_name: schema_name.into(),
            username: username.into(),
            password: None,
        }
    }

    /// Sets the password. Since 1.0.
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Validates the names and the password.
    ///
    /// # Errors
    /// `Configuration`; the message names the broken rule and never contains the password.
    ///
    /// Since 1.0.
    pub fn validate(&self) -> Result<(), Error> {
        check_tenant_schema_name(&self.schema_name)?;
        check_role_name(&self.username)?;
        self.password.as_deref().map_or(Ok(()), check_password)
    }
}

impl fmt::Debug for TenantConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantConfig")
            .field("schema_name", &self.schema_name)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The credentials of a tenant. Keep the password: it is not stored anywhere in plain text. Since 1.0.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantCredentials {
    /// The role.
    pub username: String,
    /// The role's password.
    pub password: String,
    /// The schema.
    pub schema_name: String,
    /// A URL with the role's password, and with the hosts and the database of the administrator's URL. It needs no schema,
    /// because sessions of the role start in the tenant's schema.
    pub connection_string: String,
}

impl fmt::Debug for TenantCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCredentials")
            .field("username", &self.username)
            .field("schema_name", &self.schema_name)
            .finish_non_exhaustive()
    }
}

/// A tenant of a database. Since 1.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The schema.
    pub schema_name: String,
    /// The role that was created for the tenant, if any.
    pub username: Option<String>,
}

/// Creates, lists, migrates and removes the tenants of a PostgreSQL database. Each call opens its own connection.
/// Since 1.0.
pub struct DatabaseAdmin {
    #[cfg(feature = "postgres")]
    options: PostgresOptions,
}

impl fmt::Debug for DatabaseAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseAdmin")
            .field("location", &self.location())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "postgres")]
impl DatabaseAdmin {
    /// Creates an administrator of a database. The role in the URL must be allowed to create roles, and to create schemas in
    /// this database.
    ///
    /// # Errors
    /// `UrlInvalid` for an invalid URL; `Configuration` for a SQLite URL: on SQLite each tenant has its own file.
    ///
    /// Since 1.0.
    pub fn new(database_url: &str) -> Result<Self, Error> {
        match DatabaseUrl::parse(database_url)? {
            #[cfg(feature = "sqlite")]
            DatabaseUrl::Sqlite(options) => Err(sqlite_has_no_tenants(&options.location())),
            DatabaseUrl::Postgres(url) => Ok(Self {
                options: PostgresOptions::from_url(&url)?,
            }),
        }
    }

    /// Returns the location of the database, without the password. Since 1.0.
    pub fn location(&self) -> String {
        self.options.location_without_schema()
    }

    /// Creates a tenant in one transaction: a migrated schema, and a role that can read and write only in it.
    ///
    /// # Errors
    /// `Configuration` for an invalid name or password (nothing is sent to the database in this case); `Database` when the
    /// schema or the role already exists, or the administrator lacks a privilege; `Connection` when the database does not
    /// answer.
    ///
    /// Since 1.0.
    pub fn create_tenant(&self, config: &TenantConfig) -> Result<TenantCredentials, Error> {
        config.validate()?;
        let password = match &config.password {
            Some(password) => Secret(password.clone()),
            None => generate_password()?,
        };
        let options = self.options_for(&config.schema_name)?;
        admin::create(&options, &config.username, &password)?;
        Ok(TenantCredentials {
            connection_string: options.url_for(&config.username, &password),
            username: config.username.clone(),
            schema_name: config.schema_name.clone(),
            password: password.0,
        })
    }

    /// Removes a tenant in one transaction: its schema with everything in it, and its role.
    ///
    /// With `force` the tenant is removed even if runners use it: their sessions are terminated.
    ///
    /// # Errors
    /// `Configuration` for an invalid name; `Database` when the tenant does not exist, when its role is not a tenant's role,
    /// or when a runner uses the tenant and `force` is not set; `Connection` when the database does not answer.
    ///
    /// Since 1.0.
    pub fn remove_tenant(
        &self,
        schema_name: &str,
        username: &str,
        force: bool,
    ) -> Result<(), Error> {
        check_tenant_schema_name(schema_name)?;
        check_role_name(username)?;
        Ok(admin::remove(
            &self.options_for(schema_name)?,
            username,
            force,
        )?)
    }

    /// Returns the tenants of the database, sorted by schema name.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database cannot be read.
    ///
    /// Since 1.0.
    pub fn list_tenants(&self) -> Result<Vec<Tenant>, Error> {
        let tenants = admin::list(&self.options)?;
        let named = tenants.into_iter().map(|tenant| Tenant {
            schema_name: tenant.schema,
            username: tenant.role,
        });
        Ok(named.collect())
    }

    /// Migrates a tenant's schema to this program's version. The tenant's role cannot do this, because it lacks the
    /// privileges.
    ///
    /// # Errors
    /// `Configuration` for an invalid name; `Database` when the tenant does not exist; `Migration` when its schema is newer
    /// than this program; `Connection` when the database does not answer.
    ///
    /// Since 1.0.
    pub fn migrate_tenant(&self, schema_name: &str) -> Result<(), Error> {
        check_tenant_schema_name(schema_name)?;
        Ok(admin::migrate(&self.options_for(schema_name)?)?)
    }

    fn options_for(&self, schema_name: &str) -> Result<PostgresOptions, Error> {
        self.options.clone().with_schema(schema_name)
    }
}

/// Generates a password: 192 random bits from the operating system, in characters that never need quoting.
#[cfg(feature = "postgres")]
fn generate_password() -> Result<Secret, Error> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(
            ErrorCode::Configuration,
            format!("cannot get random numbers for a password from the operating system: {error}"),
        )
        .with_hint("set the tenant's password yourself")
    })?;
    let characters = bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 64)]));
    Ok(Secret(characters.collect()))
}

#[cfg(feature = "sqlite")]
fn sqlite_has_no_tenants(location: &str) -> Error {
    super::open::no_schemas(&format!("{location} cannot hold tenants"))
}

#[cfg(not(feature = "postgres"))]
impl DatabaseAdmin {
    /// Returns an error: this build does not support PostgreSQL.
    ///
    /// # Errors
    /// Always.
    pub fn new(database_url: &str) -> Result<Self, Error> {
        match DatabaseUrl::parse(database_url)? {
            #[cfg(feature = "sqlite")]
            DatabaseUrl::Sqlite(options) => Err(sqlite_has_no_tenants(&options.location())),
            DatabaseUrl::Postgres(_) => Err(super::open::no_postgres()),
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "the method needs `self` when PostgreSQL is compiled in; without PostgreSQL no value of this type exists"
    )]
    fn location(&self) -> String {
        String::new()
    }
}
