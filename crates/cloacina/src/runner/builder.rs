//! Settings on their way to a runner.

use std::time::Duration;

use super::{DefaultRunner, OpenOptions};
use crate::runtime::RunnerConfig;
use crate::types::{Error, ErrorCode};

/// Puts a [`DefaultRunner`] together.
///
/// # Examples
///
#[cfg_attr(feature = "sqlite", doc = "```")]
#[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
/// use cloacina::{DefaultRunner, DefaultRunnerConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cloacina::Error> {
/// let config = DefaultRunnerConfig::builder().max_concurrent_async_tasks(50).build()?;
/// let runner = DefaultRunner::builder()
///     .database_url(":memory:")
///     .config(config)
///     .build()
///     .await?;
/// # runner.shutdown().await
/// # }
/// ```
///
/// Since 0.1.
#[derive(Clone, Debug)]
pub struct DefaultRunnerBuilder {
    database_url: Option<String>,
    schema: Option<String>,
    config: RunnerConfig,
    auto_migrate: bool,
}

impl Default for DefaultRunnerBuilder {
    fn default() -> Self {
        Self {
            database_url: None,
            schema: None,
            config: RunnerConfig::default(),
            auto_migrate: true,
        }
    }
}

impl DefaultRunnerBuilder {
    /// The database; the environment's `CLOACA_DATABASE_URL` where left out. Since 0.1.
    pub fn database_url(mut self, url: impl Into<String>) -> Self {
        self.database_url = Some(url.into());
        self
    }

    /// The PostgreSQL schema to work in: one for each tenant. Since 0.1.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// The settings; the defaults where left out. Since 0.1.
    pub fn config(mut self, config: RunnerConfig) -> Self {
        self.config = config;
        self
    }

    /// Whether opening brings the database's tables up to date (the default), or refuses an old database. Since 0.1.
    pub const fn auto_migrate(mut self, auto_migrate: bool) -> Self {
        self.auto_migrate = auto_migrate;
        self
    }

    /// Opens the database and starts the runner.
    ///
    /// # Errors
    /// `Configuration` without a URL, for a setting that makes no sense, or for a schema that cannot be one;
    /// `UrlInvalid`; `Connection` or `Migration` for a database that cannot be opened.
    ///
    /// Since 0.1.
    pub async fn build(self) -> Result<DefaultRunner, Error> {
        let from_environment = || std::env::var("CLOACA_DATABASE_URL").ok();
        let Some(url) = self.database_url.or_else(from_environment) else {
            return Err(
                Error::new(ErrorCode::Configuration, "there is no database URL")
                    .with_hint("give one, e.g. \"sqlite:///app.db\", or set CLOACA_DATABASE_URL"),
            );
        };
        if self.schema.as_deref() == Some("") {
            let message = "Schema name cannot be empty";
            return Err(Error::new(ErrorCode::Configuration, message));
        }
        let options = OpenOptions {
            config: self.config,
            dispatch: None,
            auto_migrate: self.auto_migrate,
        };
        DefaultRunner::open(url, self.schema, options).await
    }
}

impl DefaultRunner {
    /// Opens a database and starts.
    ///
    /// The URL is `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://:memory:`, a bare path, or a
    /// `postgresql://` URL.
    ///
    /// # Errors
    /// `UrlInvalid` for a URL that cannot be read; `Connection` or `Migration` for a database that cannot be opened.
    ///
    /// Since 0.1.
    pub async fn new(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder().database_url(url).build().await
    }

    /// The same in a PostgreSQL schema of its own, which is created where it does not exist.
    ///
    /// # Errors
    /// As for [`new`](Self::new); `Configuration` for a schema that cannot be one, or on SQLite, where a tenant is a
    /// file.
    ///
    /// Since 0.1.
    pub async fn with_schema(
        url: impl Into<String>,
        schema: impl Into<String>,
    ) -> Result<Self, Error> {
        let builder = Self::builder().database_url(url).schema(schema);
        builder.build().await
    }

    /// A runner with settings. Since 0.1.
    #[must_use]
    pub fn builder() -> DefaultRunnerBuilder {
        DefaultRunnerBuilder::default()
    }
}

/// Puts settings together, beginning with the defaults.
///
/// Since 0.1.
#[derive(Clone, Debug, Default)]
pub struct ConfigBuilder {
    config: RunnerConfig,
}

impl RunnerConfig {
    /// Settings that begin with the defaults. Since 0.1.
    #[must_use]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $value:ty,)*) => {
        impl ConfigBuilder {
            $($(#[$doc])*
            pub const fn $name(mut self, value: $value) -> Self {
                self.config.$name = value;
                self
            })*

            /// Checks every value.
            ///
            /// # Errors
            /// `Configuration`, with the setting, its value and the rule.
            ///
            /// Since 0.1.
            pub fn build(self) -> Result<RunnerConfig, Error> {
                self.config.validate()?;
                Ok(self.config)
            }
        }
    };
}

settings! {
    /// Tasks of Rust at once in this runner (default 1000). Since 0.1.
    max_concurrent_async_tasks: usize,
    /// How often other processes' work is looked for where nothing wakes this one (default 100 ms). Since 0.1.
    poll_interval: Duration,
    /// Limit of one attempt, where the task names none (default 5 minutes); `None`: no limit. Since 0.1.
    task_timeout: Option<Duration>,
    /// Limit of an execution, where the submission names none (default none). Since 0.1.
    workflow_timeout: Option<Duration>,
    /// Whether to take work back from dead runners (default true). Since 0.1.
    enable_recovery: bool,
    /// How often the lease is extended (default 5 s). Since 0.1.
    heartbeat_interval: Duration,
    /// How long a claim lives without a heartbeat (default 15 s). Since 0.1.
    lease_ttl: Duration,
    /// A task that has run for so long is named in the log, once (default: twice the lease). Since 0.1.
    stall_threshold: Option<Duration>,
    /// How often one task may be taken back from a dead runner before it fails (default 3). Since 0.1.
    max_rescues: u32,
    /// Bytes that one task may write to the context (default 16 MiB). Since 0.1.
    max_context_bytes: u64,
    /// How long running tasks may take at shutdown (default 30 s). Since 0.1.
    shutdown_timeout: Duration,
    /// How long a caller waits for a database that does not answer (default 30 s). Since 0.1.
    db_timeout: Duration,
    /// Connections to the database (default 10). Since 0.1.
    db_pool_size: usize,
    /// Ended executions older than this are deleted (default 30 days); `None` keeps all. Since 0.1.
    retention: Option<Duration>,
}
