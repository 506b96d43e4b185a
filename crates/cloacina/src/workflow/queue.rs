//! The queues that contain ready tasks. The names and numbers of queues are the same for all versions of a workflow.
//!
//! The sync tasks of a workflow share the queue `workflow/sync`, and its async tasks share the queue `workflow/async`.
//! Each external task has its own queue, `workflow/external/task`. A program that runs one external task therefore does
//! not read the queued tasks of another external task.
//!
//! See docs/explanation/decisions/020-queues-by-name.md

use sha2::{Digest, Sha256};

use super::{TaskDefinition, TaskKind};

/// The number of the queue `cloacina/waiting`, which contains the waiting tasks of all workflows. No worker claims from it.
pub const WAITING: i64 = 186_408_780_189_400;

/// The number of the queue `cloacina/children`, which contains the items of maps that start children. Any runner that
/// can read the definition of the map's workflow can start these children.
pub const CHILDREN: i64 = 46_396_164_592_450;

/// Returns the queue number of each task, by ordinal.
pub(super) fn numbers(workflow: &str, tasks: &[TaskDefinition]) -> Vec<i64> {
    let shared = [TaskKind::Sync, TaskKind::Async].map(|kind| number(workflow, kind, ""));
    let own = |task: &TaskDefinition| match task.kind {
        TaskKind::Sync => shared[0],
        TaskKind::Async => shared[1],
        TaskKind::External => number(workflow, task.kind, &task.id),
        TaskKind::Engine => WAITING,
    };
    tasks.iter().map(own).collect()
}

/// Returns the number of a queue. `task`: the task's id, which is used only for external tasks.
///
/// In the unlikely case that two queues have the same number, a runner can claim a task for which it has no handler. The
/// runner then returns the claim and excludes this task from its next claims.
#[must_use]
pub fn number(workflow: &str, kind: TaskKind, task: &str) -> i64 {
    number_of_name(&match kind {
        TaskKind::Sync => format!("{workflow}/sync"),
        TaskKind::Async => format!("{workflow}/async"),
        TaskKind::External => format!("{workflow}/external/{task}"),
        TaskKind::Engine => "cloacina/waiting".to_owned(),
    })
}

/// Returns the number of the queue with this name: the first 48 bits of the name's SHA-256. Databases store the number, so
/// it must never change.
pub(crate) fn number_of_name(name: &str) -> i64 {
    let digest = Sha256::digest(name.as_bytes());
    digest[..6]
        .iter()
        .fold(0, |number, byte| number << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_the_engine_have_the_numbers_of_their_names() {
        assert_eq!(number("any", TaskKind::Engine, ""), WAITING);
        assert_eq!(number_of_name("cloacina/children"), CHILDREN);
    }
}
