//! The options for opening a runner, and the function that waits for an answer from its coordinator.

use std::time::Duration;

use tracing::Dispatch;

use crate::runtime::{Answer, RunnerConfig};
use crate::types::Error;

/// The time at which a runner begins to work: to claim tasks, to rescue the tasks of dead runners, and to fire schedules and
/// triggers. Before this time, the runner only registers workflows, and accepts submissions and control actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// As soon as the runner is open.
    #[default]
    AtOnce,
    /// After a delay, unless [`EngineHandle::begin`](super::EngineHandle::begin) is called earlier.
    After(Duration),
    /// When [`EngineHandle::begin`](super::EngineHandle::begin) is called.
    OnRequest,
}

/// The options for opening a runner.
#[derive(Default)]
pub struct OpenOptions {
    /// The time at which the runner begins to work.
    pub begin: Begin,
    /// The runner's settings.
    pub config: RunnerConfig,
    /// The `tracing` dispatcher of the runner's own threads; `None` means the program's default.
    pub dispatch: Option<Dispatch>,
    /// Whether opening migrates the database.
    pub auto_migrate: bool,
}

/// Waits for an answer without a time limit.
pub(super) fn wait_for<T>(answer: &Answer<T>) -> Result<T, Error> {
    answer
        .wait(Duration::MAX)
        .unwrap_or_else(|| Err(Error::runner_closed()))
}
