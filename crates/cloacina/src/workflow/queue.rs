//! The queues that ready tasks wait in. Names and numbers of queues are the same for all versions of a workflow.
//!
//! Tasks of one kind share the queue `workflow/kind`. An external task has the queue `workflow/external/task`, so that a
//! program that serves one external task does not read the backlog of another.
//!
//! See docs/explanation/decisions/020-queues-by-name.md

use sha2::{Digest, Sha256};

use super::{TaskDefinition, TaskKind};

/// The queue of waiting tasks of all workflows: the number of the name `cloacina/waiting`. No worker claims from it.
pub const WAITING: i64 = 186_408_780_189_400;

/// The queue of the items of maps whose items are children: the number of the name `cloacina/children`. Any runner that knows
/// the workflow starts them.
pub const CHILDREN: i64 = 46_396_164_592_450;

/// The queue number of each task, by ordinal.
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

/// The number of a queue. `task` is the task's id; only external tasks use it.
///
/// In the unlikely case that two queues have the same number, a runner returns claims that it has no handler for and excludes
/// those tasks from its next claims.
#[must_use]
pub fn number(workflow: &str, kind: TaskKind, task: &str) -> i64 {
    number_of_name(&match kind {
        TaskKind::Sync => format!("{workflow}/sync"),
        TaskKind::Async => format!("{workflow}/async"),
        TaskKind::External => format!("{workflow}/external/{task}"),
        TaskKind::Engine => "cloacina/waiting".to_owned(),
    })
}

/// The number of a queue's name: the first 48 bits of its SHA-256. It is stored in databases, so it must never change.
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
