//! The queues that one kind of worker claims from.

use super::QueueId;
use crate::types::{DefinitionId, Ordinal};

/// Queues that share a limit.
#[derive(Clone, Debug, Default)]
pub struct ClaimClass {
    /// The queues to claim from.
    pub queues: Vec<QueueId>,
    /// Tasks of these queues that the runner has no handler for, by version of the workflow.
    pub excluded: Vec<(DefinitionId, Ordinal)>,
    /// Maximum number of tasks.
    pub limit: usize,
}
