//! Validates mapped tasks (semantics K).

use super::{TaskDefinition, TaskKind, WorkflowDefinition};
use crate::types::{Error, ErrorCode, Tolerance};

/// Refuses maps that cannot work, before anything is stored.
pub(super) fn check(definition: &WorkflowDefinition) -> Result<(), Error> {
    for task in &definition.tasks {
        if let Some(problem) = problem_of(task) {
            return Err(Error::new(
                ErrorCode::TaskInvalid,
                format!(
                    "task '{}' of workflow '{}' has {problem}",
                    task.id, definition.name
                ),
            ));
        }
    }
    Ok(())
}

fn problem_of(task: &TaskDefinition) -> Option<String> {
    let map = task.over.as_ref()?;
    if task.kind == TaskKind::Engine && task.child.is_none() {
        return Some("over= but neither a function nor a workflow to run per element".to_owned());
    }
    if task.wait_for.is_some() || task.approval.is_some() {
        return Some(
            "over= and something to wait for; put the wait into a node before it".to_owned(),
        );
    }
    if map.lists.is_empty() {
        return Some("over= without a list".to_owned());
    }
    let empty = |(name, path): &(&String, &String)| name.is_empty() || path.is_empty();
    if map.lists.iter().any(|entry| empty(&entry)) {
        return Some("over= with an empty parameter or list".to_owned());
    }
    if map.parallel == Some(0) {
        return Some("parallel=0; it must be at least 1".to_owned());
    }
    if map.batch == Some(0) {
        return Some("batch=0; it must be at least 1".to_owned());
    }
    match map.tolerate {
        Some(Tolerance::Share(share)) if !(0.0..=1.0).contains(&share) => {
            Some(format!("tolerate={share}; a fraction is between 0 and 1"))
        }
        _ => None,
    }
}
