//! The settings of a runner, as Python passes them: one JSON object, with durations in microseconds.

use std::time::Duration;

use cloacina::runtime::RunnerConfig;
use cloacina::types::{Error, ErrorCode};
use serde::Deserialize;

/// The argument `config` of `Runner(database_url, config)`. The package passes every member.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerSettings {
    max_concurrent_tasks: usize,
    max_concurrent_async_tasks: usize,
    poll_interval_us: u64,
    /// Maximum run time of an attempt whose task sets no timeout; `null` means no limit.
    task_timeout_us: Option<u64>,
    /// Maximum run time of an execution that is submitted without a timeout; `null` means no limit.
    workflow_timeout_us: Option<u64>,
    enable_recovery: bool,
    heartbeat_interval_us: u64,
    lease_ttl_us: u64,
    /// Time without progress after which a running task counts as stalled; `null` means twice the lease.
    stall_threshold_us: Option<u64>,
    max_rescues: u32,
    max_context_bytes: u64,
    shutdown_timeout_us: u64,
    db_timeout_us: u64,
    db_pool_size: usize,
    /// Age after which ended executions and ticks are deleted; `null` means never.
    retention_us: Option<u64>,
    /// Age after which a signal is deleted if no open wait can receive it; `null` means never.
    signal_retention_us: Option<u64>,
    auto_migrate: bool,
    enable_cron_scheduling: bool,
    cron_max_catchup_executions: u32,
    max_map_items: u32,
}

impl RunnerSettings {
    /// Parses the JSON text. Opening the runner validates the values.
    pub fn parse(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| {
            Error::new(
                ErrorCode::Configuration,
                format!("cannot read the runner's settings: {error}"),
            )
        })
    }

    /// Whether the database is migrated when it is opened.
    pub const fn auto_migrate(&self) -> bool {
        self.auto_migrate
    }

    /// Returns the settings as the engine's type.
    pub fn config(&self) -> RunnerConfig {
        RunnerConfig {
            max_concurrent_tasks: self.max_concurrent_tasks,
            max_concurrent_async_tasks: self.max_concurrent_async_tasks,
            poll_interval: Duration::from_micros(self.poll_interval_us),
            task_timeout: self.task_timeout_us.map(Duration::from_micros),
            workflow_timeout: self.workflow_timeout_us.map(Duration::from_micros),
            enable_recovery: self.enable_recovery,
            heartbeat_interval: Duration::from_micros(self.heartbeat_interval_us),
            lease_ttl: Duration::from_micros(self.lease_ttl_us),
            stall_threshold: self.stall_threshold_us.map(Duration::from_micros),
            max_rescues: self.max_rescues,
            max_context_bytes: self.max_context_bytes,
            shutdown_timeout: Duration::from_micros(self.shutdown_timeout_us),
            db_timeout: Duration::from_micros(self.db_timeout_us),
            db_pool_size: self.db_pool_size,
            retention: self.retention_us.map(Duration::from_micros),
            signal_retention: self.signal_retention_us.map(Duration::from_micros),
            enable_cron: self.enable_cron_scheduling,
            max_catchup: self.cron_max_catchup_executions,
            max_map_items: self.max_map_items,
            ..RunnerConfig::default()
        }
    }
}
