//! The settings of a runner.

use std::time::Duration;

use crate::types::{Error, ErrorCode};

/// The settings of a runner. `Default` returns the documented defaults. [`RunnerConfig::validate`] refuses invalid values.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerConfig {
    /// Maximum number of synchronous tasks that run at the same time.
    pub max_concurrent_tasks: usize,
    /// Maximum number of Python coroutines that run at the same time. The same limit applies separately to Rust futures.
    pub max_concurrent_async_tasks: usize,
    /// Time between two polls for changes by other processes, if no notification arrives.
    pub poll_interval: Duration,
    /// Maximum run time of an attempt whose task does not set a timeout. `None`: no limit.
    pub task_timeout: Option<Duration>,
    /// Maximum run time of an execution that is submitted without a timeout. `None`: no limit.
    pub workflow_timeout: Option<Duration>,
    /// Whether this runner rescues the tasks of dead runners.
    pub enable_recovery: bool,
    /// Time between two heartbeats. Each heartbeat extends the lease.
    pub heartbeat_interval: Duration,
    /// How long claims stay valid after the last heartbeat.
    pub lease_ttl: Duration,
    /// How long a running task can show no sign of life before one warning about it is logged. `None`: twice `lease_ttl`.
    pub stall_threshold: Option<Duration>,
    /// Maximum number of times that a task may lose its runner. If the task loses its runner more often, it fails. E2
    /// defines which losses count.
    pub max_rescues: u32,
    /// Maximum number of bytes that a task may write to the context.
    pub max_context_bytes: u64,
    /// Maximum total size, in bytes, of cached executions that have no work in this process.
    pub cache_bytes: usize,
    /// Maximum time for which a shutdown waits for running tasks.
    pub shutdown_timeout: Duration,
    /// Maximum time for which a caller waits for a database that does not answer.
    pub db_timeout: Duration,
    /// Maximum number of connections to the database.
    pub db_pool_size: usize,
    /// Age after which ended executions and ticks are deleted. `None`: never.
    pub retention: Option<Duration>,
    /// Age after which signals are deleted if no open wait can take them any more. `None`: never.
    pub signal_retention: Option<Duration>,
    /// Whether this runner fires schedules.
    pub enable_cron: bool,
    /// Maximum number of missed ticks that fire late, for schedules that do not set `max_catchup`.
    pub max_catchup: u32,
    /// Maximum number of items of a map (K1).
    pub max_map_items: u32,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            max_concurrent_tasks: 4,
            max_concurrent_async_tasks: 1000,
            poll_interval: Duration::from_millis(100),
            task_timeout: Some(Duration::from_mins(5)),
            workflow_timeout: None,
            enable_recovery: true,
            heartbeat_interval: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(15),
            stall_threshold: None,
            max_rescues: 3,
            max_context_bytes: 16 * 1024 * 1024,
            cache_bytes: 64 << 20,
            shutdown_timeout: Duration::from_secs(30),
            db_timeout: Duration::from_secs(30),
            db_pool_size: 10,
            retention: Some(Duration::from_hours(30 * 24)),
            signal_retention: Some(Duration::from_hours(30 * 24)),
            enable_cron: true,
            max_catchup: 100,
            max_map_items: 100_000,
        }
    }
}

impl RunnerConfig {
    /// The stall threshold that applies: `stall_threshold`, or its default.
    pub fn stall_threshold(&self) -> Duration {
        self.stall_threshold.unwrap_or(self.lease_ttl * 2)
    }

    /// Checks the values that have a restricted range.
    ///
    /// # Errors
    /// Returns an error for the first invalid value. The message names the setting and the valid range.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::Configuration, message));
        let counts = [
            ("max_concurrent_tasks", self.max_concurrent_tasks),
            (
                "max_concurrent_async_tasks",
                self.max_concurrent_async_tasks,
            ),
            ("db_pool_size", self.db_pool_size),
        ];
        for (name, value) in counts {
            if !(1..=100_000).contains(&value) {
                return refuse(format!("{name} must be between 1 and 100000, not {value}"));
            }
        }
        let spans = [
            ("scheduler_poll_interval_ms", Some(self.poll_interval)),
            ("task_timeout_seconds", self.task_timeout),
            ("workflow_timeout_seconds", self.workflow_timeout),
            ("heartbeat_interval", Some(self.heartbeat_interval)),
            ("lease_ttl", Some(self.lease_ttl)),
            ("stall_threshold", self.stall_threshold),
            ("db_timeout", Some(self.db_timeout)),
        ];
        for (name, value) in spans {
            if value == Some(Duration::ZERO) {
                return refuse(format!("{name} must be greater than zero"));
            }
        }
        if self.lease_ttl < self.heartbeat_interval * 2 {
            return refuse(format!(
                "lease_ttl ({:?}) must be at least twice heartbeat_interval ({:?})",
                self.lease_ttl, self.heartbeat_interval
            ));
        }
        if !(1..=10_000_000).contains(&self.max_map_items) {
            return refuse(format!(
                "max_map_items must be between 1 and 10000000, not {}",
                self.max_map_items
            ));
        }
        if self.max_context_bytes == 0 {
            return refuse("max_context_bytes must be greater than zero".to_owned());
        }
        Ok(())
    }
}
