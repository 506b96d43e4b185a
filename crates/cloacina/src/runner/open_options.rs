//! The options to open a runner, and the wait for an answer of its coordinator.

use std::time::Duration;

use tracing::Dispatch;

use crate::runtime::{Answer, RunnerConfig};
use crate::types::Error;

/// The time from which a runner claims tasks, rescues those of dead runners, and fires schedules and triggers. Before it, the
/// runner is open: it registers workflows and takes submissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// Once it is open.
    #[default]
    AtOnce,
    /// After a delay, unless [`EngineHandle::begin`](super::EngineHandle::begin) is called earlier.
    After(Duration),
    /// Once [`EngineHandle::begin`](super::EngineHandle::begin) is called.
    OnRequest,
}

/// The options to open a runner.
#[derive(Default)]
pub struct OpenOptions {
    /// The time from which the runner claims tasks.
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
