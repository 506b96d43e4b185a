//! What people and programs want to see: who offers which tasks, progress, log lines, the database's health.
//!
//! None of these verbs decides anything or raises a revision, and none is on the path of a task.

use super::StoreError;
use crate::types::{ExecutionId, LogChunk, Offer, Progress, RunnerId, Timestamp};

/// The verbs of a [`Store`](super::Store) that serve insight.
///
/// Every verb fails alike: see [`StoreError`].
pub trait Insight: Send + Sync {
    /// Writes a living runner's workflows into its row, and keeps what it offers: one entry a workflow replaces the
    /// runner's earlier one.
    fn announce(
        &self,
        runner: RunnerId,
        workflows: &[String],
        offers: &[Offer],
    ) -> Result<(), StoreError>;

    /// Notes when the offers of a runner that goes away were last there (`None`: at its last heartbeat), and forgets
    /// those of runners that went before it and had the same tasks.
    fn withdraw(&self, runner: RunnerId, seen_at: Option<Timestamp>) -> Result<(), StoreError>;

    /// The offers for a workflow, of runners that are there and of the last that were.
    fn offers(&self, workflow: &str) -> Result<Vec<Offer>, StoreError>;

    /// Keeps how far attempts are, in place of what they said before, and appends log lines.
    fn note_insight(&self, progress: &[Progress], logs: &[LogChunk]) -> Result<(), StoreError>;

    /// How far the tasks of an execution said they are.
    fn progress(&self, id: ExecutionId) -> Result<Vec<Progress>, StoreError>;

    /// The log lines of an execution in the order in which they came.
    fn logs(&self, id: ExecutionId) -> Result<Vec<LogChunk>, StoreError>;

    /// Tasks that are ready and claimed by nobody, counted up to `limit`.
    fn backlog(&self, limit: usize) -> Result<usize, StoreError>;

    /// Looks whether the database is sound and how much room it wastes.
    fn check(&self) -> Result<Health, StoreError>;

    /// Tells other runners at once that something was written, for a writer that is about to end.
    fn tell_others(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The state of a database as `db check` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, as sentences; empty when the database is sound.
    pub problems: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Bytes of them that hold nothing.
    pub free: u64,
    /// What to do about it, as sentences.
    pub advice: Vec<String>,
}
