//! Validates mapped tasks (semantics K).

use super::{Graph, TaskDefinition, TaskKind, TriggerRule, WorkflowDefinition};
use crate::types::{Error, ErrorCode, Ordinal, Tolerance};

/// Refuses invalid maps.
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
            "over= and a wait; put the wait into a separate node before this task".to_owned(),
        );
    }
    if map.lists.is_empty() {
        return Some("over= without a list".to_owned());
    }
    let empty = |(name, path): &(&String, &String)| name.is_empty() || path.is_empty();
    if map.lists.iter().any(|entry| empty(&entry)) {
        return Some("over= with an empty parameter name or an empty path of a list".to_owned());
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

/// Returns the aligned maps, as pairs of the source and the aligned map. An aligned map runs over the results of another
/// map, its source. A map with several lists, with `batch`, or with a trigger rule other than `none_failed` and
/// `all_success` is not aligned, and starts only after the other map has ended.
pub(super) fn alignments(
    definition: &WorkflowDefinition,
    graph: &Graph,
) -> Vec<(Ordinal, Ordinal)> {
    let tasks = &definition.tasks;
    let source_of = |follower: Ordinal| {
        let task = &tasks[follower as usize];
        let map = task.over.as_ref().filter(|map| map.batch.is_none())?;
        let mut lists = map.lists.values();
        let (Some(list), None) = (lists.next(), lists.next()) else {
            return None;
        };
        if !matches!(task.rule, TriggerRule::NoneFailed | TriggerRule::AllSuccess) {
            return None;
        }
        let mut dependencies = graph.dependencies(follower).iter().copied();
        dependencies.find(|source| {
            let source = &tasks[*source as usize];
            source.over.is_some() && source.result_key() == list
        })
    };
    let order = graph.order().iter();
    order
        .filter_map(|follower| Some((source_of(*follower)?, *follower)))
        .collect()
}
