//! The builders of a runner and of its settings.

use std::time::Duration;

use super::{Begin, DefaultRunner, OpenOptions};
use crate::runtime::RunnerConfig;
use crate::types::{Error, ErrorCode};

/// The delay between opening a runner and its first claim. The delay is long enough for [`DefaultRunnerBuilder::build`] to
/// return the runner before the first task runs.
const START_DELAY: Duration = Duration::from_millis(50);

/// A builder of a [`DefaultRunner`].
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
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct DefaultRunnerBuilder {
    database_url: Option<String>,
    schema: Option<String>,
    config: RunnerConfig,
    auto_migrate: bool,
    start: bool,
}

impl Default for DefaultRunnerBuilder {
    fn default() -> Self {
        Self {
            database_url: None,
            schema: None,
            config: RunnerConfig::default(),
            auto_migrate: true,
            start: true,
        }
    }
}

impl DefaultRunnerBuilder {
    /// The database URL. The default is the environment variable `CLOACA_DATABASE_URL`. Since 1.0.
    pub fn database_url(mut self, url: impl Into<String>) -> Self {
        self.database_url = Some(url.into());
        self
    }

    /// The PostgreSQL schema that the runner uses. Each tenant has its own schema. Since 1.0.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// The settings, instead of the defaults. Since 1.0.
    pub fn config(mut self, config: RunnerConfig) -> Self {
        self.config = config;
        self
    }

    /// Whether [`build`](Self::build) migrates a database of an earlier release (`true`, the default) or refuses it (`false`).
    /// Since 1.0.
    pub const fn auto_migrate(mut self, auto_migrate: bool) -> Self {
        self.auto_migrate = auto_migrate;
        self
    }

    /// Whether the runner begins to claim tasks soon after [`build`](Self::build) has returned (`true`, the default), or when
    /// [`DefaultRunner::start`] is called (`false`). Since 1.0.
    pub const fn start(mut self, start: bool) -> Self {
        self.start = start;
        self
    }

    /// Opens the database and starts the runner.
    ///
    /// The runner claims its first task when it receives its first submission, or a short time after the database was
    /// opened. So stored tasks usually start only after `build` has returned. With `start(false)`, the runner claims
    /// no tasks until [`DefaultRunner::start`] is called.
    ///
    /// # Errors
    /// `Configuration` when there is no URL, a setting or the schema's name is invalid, or a schema is set for SQLite;
    /// `UrlInvalid`; `Connection` or `Migration` when the database cannot be opened.
    ///
    /// Since 1.0.
    pub async fn build(self) -> Result<DefaultRunner, Error> {
        let from_environment = || std::env::var("CLOACA_DATABASE_URL").ok();
        let Some(url) = self.database_url.or_else(from_environment) else {
            return Err(
                Error::new(ErrorCode::Configuration, "there is no database URL")
                    .with_hint("pass one, e.g. \"sqlite:///app.db\", or set CLOACA_DATABASE_URL"),
            );
        };
        if self.schema.as_deref() == Some("") {
            let message = "Schema name cannot be empty";
            return Err(Error::new(ErrorCode::Configuration, message));
        }
        let options = OpenOptions {
            begin: if self.start {
                Begin::After(START_DELAY)
            } else {
                Begin::OnRequest
            },
            config: self.config,
            dispatch: None,
            auto_migrate: self.auto_migrate,
        };
        DefaultRunner::open(url, self.schema, options).await
    }
}

impl DefaultRunner {
    /// Opens a database and starts a runner on it, with the default settings.
    ///
    /// The URL is `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://:memory:`, a bare path, or a
    /// `postgresql://` URL.
    ///
    /// # Errors
    /// `UrlInvalid` for an invalid URL; `Connection` or `Migration` when the database cannot be opened.
    ///
    /// Since 1.0.
    pub async fn new(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder().database_url(url).build().await
    }

    /// Opens a PostgreSQL database and starts a runner in a schema, which is created if it does not exist.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new); `Configuration` for an invalid schema name, or for a SQLite URL: on SQLite each
    /// tenant has its own file.
    ///
    /// Since 1.0.
    pub async fn with_schema(
        url: impl Into<String>,
        schema: impl Into<String>,
    ) -> Result<Self, Error> {
        let builder = Self::builder().database_url(url).schema(schema);
        builder.build().await
    }

    /// Returns a builder, on which options can be set before it opens a runner. Since 1.0.
    #[must_use]
    pub fn builder() -> DefaultRunnerBuilder {
        DefaultRunnerBuilder::default()
    }
}

/// A builder of settings. Settings that are not set keep their defaults.
///
/// Since 1.0.
#[derive(Clone, Debug, Default)]
pub struct ConfigBuilder {
    config: RunnerConfig,
}

impl RunnerConfig {
    /// Returns a builder of settings that starts from the defaults. Since 1.0.
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

            /// Validates the settings and returns them.
            ///
            /// # Errors
            /// `Configuration` for an invalid value. The message names the setting and the rule that the value breaks.
            ///
            /// Since 1.0.
            pub fn build(self) -> Result<RunnerConfig, Error> {
                self.config.validate()?;
                Ok(self.config)
            }
        }
    };
}

settings! {
    /// Maximum number of Rust tasks that run at the same time in this runner (default 1000). Since 1.0.
    max_concurrent_async_tasks: usize,
    /// Interval at which the runner polls for changes by other processes when no notification arrives (default 100 ms).
    /// Since 1.0.
    poll_interval: Duration,
    /// Timeout of one attempt, for tasks without a timeout (default 5 minutes); `None`: no timeout. Since 1.0.
    task_timeout: Option<Duration>,
    /// Timeout of an execution, for submissions without a timeout (default: no timeout). Since 1.0.
    workflow_timeout: Option<Duration>,
    /// Whether this runner rescues tasks of dead runners (default true). Since 1.0.
    enable_recovery: bool,
    /// Interval at which the runner extends its lease (default 5 s). Since 1.0.
    heartbeat_interval: Duration,
    /// How long after the last heartbeat the lease on the runner's claims expires (default 15 s). Since 1.0.
    lease_ttl: Duration,
    /// Time without a sign of life after which the runner logs one warning about a running task (default: twice
    /// `lease_ttl`). Since 1.0.
    stall_threshold: Option<Duration>,
    /// Maximum number of times that a task is rescued from a dead runner before the task fails (default 3). Since 1.0.
    max_rescues: u32,
    /// Maximum number of bytes that one attempt can write to the context (default 16 MiB). Since 1.0.
    max_context_bytes: u64,
    /// Maximum time that shutdown waits for running tasks (default 30 s). Since 1.0.
    shutdown_timeout: Duration,
    /// Maximum time that a call waits for a database that does not answer (default 30 s). Since 1.0.
    db_timeout: Duration,
    /// Maximum number of connections to the database (default 10). Since 1.0.
    db_pool_size: usize,
    /// How long after its end an execution is deleted (default 30 days); `None` keeps all executions. Since 1.0.
    retention: Option<Duration>,
    /// Age at which signals are deleted (default 30 days); `None` keeps all signals. A signal that an open wait can still
    /// receive is not deleted. Since 1.0.
    signal_retention: Option<Duration>,
}
