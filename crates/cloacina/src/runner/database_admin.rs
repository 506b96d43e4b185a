//! Provisioning of tenants (semantics H2).

use std::fmt;

use crate::store::DatabaseUrl;
#[cfg(feature = "postgres")]
use crate::store::postgres::{PostgresOptions, Secret, admin};
#[cfg(feature = "postgres")]
use crate::types::ErrorCode;
use crate::types::{Error, check_password, check_role_name, check_tenant_schema_name};

/// What a tenant is to be. Since 0.1.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TenantConfig {
    /// The schema: `[A-Za-z_][A-Za-z0-9_]{0,62}`, not reserved.
    pub schema_name: String,
    /// The role, under the same rule.
    pub username: String,
    /// Its password; none means a strong one is made.
    pub password: Option<String>,
}

impl TenantConfig {
    /// A tenant with a password that is made for it.
    pub fn new(schema_name: impl Into<String>, username: impl Into<String>) -> Self {
        Self {
            schema_name: schema_name.into(),
            username: username.into(),
            password: None,
        }
    }

    /// The same with a password of the caller's own.
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Checks the names and the password.
    ///
    /// # Errors
    /// `Configuration`, with the rule that is broken; never with the password.
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

/// How a tenant reaches its schema. The password is nowhere else: keep it. Since 0.1.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantCredentials {
    /// The role.
    pub username: String,
    /// Its password.
    pub password: String,
    /// The schema.
    pub schema_name: String,
    /// A URL with the password, for the hosts and the database that the administrator's URL names. It needs no schema
    /// beside it: the role's sessions begin in its own.
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

/// A tenant that a database has. Since 0.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The schema.
    pub schema_name: String,
    /// The role that was made for it, if one was.
    pub username: Option<String>,
}

/// Makes, lists, migrates and removes the tenants of a PostgreSQL database. Holds no connection. Since 0.1.
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
    /// An administrator of the database of a URL, whose role may create roles, and schemas in that database.
    ///
    /// # Errors
    /// For a URL that cannot be read; `Configuration` for one of SQLite, where a tenant is a file.
    pub fn new(database_url: &str) -> Result<Self, Error> {
        match DatabaseUrl::parse(database_url)? {
            #[cfg(feature = "sqlite")]
            DatabaseUrl::Sqlite(options) => Err(is_a_file(&options.location())),
            DatabaseUrl::Postgres(url) => Ok(Self {
                options: PostgresOptions::from_url(&url)?,
            }),
        }
    }

    /// The database, without a password.
    pub fn location(&self) -> String {
        self.options.place()
    }

    /// Makes a tenant: a migrated schema, and a role that may read and write in it and nothing else. All or nothing.
    ///
    /// # Errors
    /// `Configuration` for a name or a password that cannot be, before anything is sent; `Database` when the schema or
    /// the role exists already, or the administrator lacks a right; `Connection` when the database does not answer.
    pub fn create_tenant(&self, config: &TenantConfig) -> Result<TenantCredentials, Error> {
        config.validate()?;
        let password = match &config.password {
            Some(password) => Secret(password.clone()),
            None => generate()?,
        };
        let options = self.pinned(&config.schema_name)?;
        admin::create(&options, &config.username, &password)?;
        Ok(TenantCredentials {
            connection_string: options.url_for(&config.username, &password),
            username: config.username.clone(),
            schema_name: config.schema_name.clone(),
            password: password.0,
        })
    }

    /// Removes a tenant: its schema with everything in it, and its role. All or nothing.
    ///
    /// With `force`, also under live runners: their sessions are ended.
    ///
    /// # Errors
    /// `Configuration` for a name that cannot be; `Database` when there is no such tenant, the role is not its own, or a
    /// runner lives in it and `force` is not set.
    pub fn remove_tenant(
        &self,
        schema_name: &str,
        username: &str,
        force: bool,
    ) -> Result<(), Error> {
        check_tenant_schema_name(schema_name)?;
        check_role_name(username)?;
        Ok(admin::remove(&self.pinned(schema_name)?, username, force)?)
    }

    /// The tenants of the database, by the names of their schemas.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list_tenants(&self) -> Result<Vec<Tenant>, Error> {
        let tenants = admin::list(&self.options)?;
        let named = tenants.into_iter().map(|tenant| Tenant {
            schema_name: tenant.schema,
            username: tenant.role,
        });
        Ok(named.collect())
    }

    /// Brings a tenant's schema up to this program's version: the tenant's own role may not.
    ///
    /// # Errors
    /// `Database` when there is no such tenant; `Migration` when its schema is newer than this program.
    pub fn migrate_tenant(&self, schema_name: &str) -> Result<(), Error> {
        check_tenant_schema_name(schema_name)?;
        Ok(admin::migrate(&self.pinned(schema_name)?)?)
    }

    fn pinned(&self, schema_name: &str) -> Result<PostgresOptions, Error> {
        self.options.clone().with_schema(schema_name)
    }
}

/// 192 bits from the operating system, in characters that need no quoting anywhere.
#[cfg(feature = "postgres")]
fn generate() -> Result<Secret, Error> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(
            ErrorCode::Configuration,
            format!("the operating system gives no random numbers for a password: {error}"),
        )
        .with_hint("give the tenant a password of your own")
    })?;
    let characters = bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 64)]));
    Ok(Secret(characters.collect()))
}

#[cfg(feature = "sqlite")]
fn is_a_file(location: &str) -> Error {
    super::open::no_schemas(&format!("{location} cannot hold tenants"))
}

#[cfg(not(feature = "postgres"))]
impl DatabaseAdmin {
    /// Refuses: this build has no support for PostgreSQL.
    ///
    /// # Errors
    /// Always.
    pub fn new(database_url: &str) -> Result<Self, Error> {
        match DatabaseUrl::parse(database_url)? {
            #[cfg(feature = "sqlite")]
            DatabaseUrl::Sqlite(options) => Err(is_a_file(&options.location())),
            DatabaseUrl::Postgres(_) => Err(super::open::no_postgres()),
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "with PostgreSQL it tells where that is; without, no value of this type exists"
    )]
    fn location(&self) -> String {
        String::new()
    }
}
