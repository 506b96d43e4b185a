//! A group of queues from which one kind of worker claims tasks.

use super::QueueId;
use crate::types::{DefinitionId, Ordinal};

/// Queues that share one limit on the number of claimed tasks.
#[derive(Clone, Debug, Default)]
pub struct ClaimClass {
    /// The queues to claim from.
    pub queues: Vec<QueueId>,
    /// Tasks of these queues for which the runner has no handler. Each entry is a workflow version
    /// and a task's ordinal.
    pub excluded: Vec<(DefinitionId, Ordinal)>,
    /// Maximum number of tasks to claim.
    pub limit: usize,
}
