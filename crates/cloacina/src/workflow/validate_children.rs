//! Validates the nodes that run other workflows (semantics M).

use super::finale::is_derived;
use super::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};
use crate::types::{Error, ErrorCode};

/// Refuses invalid children.
pub(super) fn check(definition: &WorkflowDefinition) -> Result<(), Error> {
    for task in &definition.tasks {
        if let Some(problem) = problem_of(task, definition) {
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

fn problem_of(task: &TaskDefinition, definition: &WorkflowDefinition) -> Option<String> {
    let child = task.child.as_ref()?;
    if task.kind != TaskKind::Engine {
        return Some("both a child and a function; use a separate node for the child".to_owned());
    }
    if task.wait_for.is_some() || task.approval.is_some() {
        return Some("a child and something else to wait for".to_owned());
    }
    if child.workflow.is_empty() {
        return Some("a child without the name of a workflow".to_owned());
    }
    // Q1: only the end of an execution starts final tasks.
    if is_derived(&child.workflow) {
        return Some(format!(
            "as its child the workflow '{}', which only runs the final tasks of another workflow",
            child.workflow
        ));
    }
    // M7: a workflow that always runs itself as a child never ends.
    if child.workflow == definition.name && !is_conditional(task, definition) {
        return Some(format!(
            "its own workflow '{}' as a child, without a condition that ends the recursion",
            definition.name
        ));
    }
    let input = child.input.iter().flatten();
    input
        .clone()
        .find(|(name, path)| name.is_empty() || path.is_empty())
        .map(|_| "an input with an empty name or path".to_owned())
}

impl Workflow {
    /// Returns the names of the workflows that every execution without failures runs as children of its nodes (M7).
    pub fn always_runs(&self) -> impl Iterator<Item = &str> {
        let definition = self.definition();
        definition.tasks.iter().filter_map(|task| {
            let child = task.child.as_ref()?;
            let is_certain = !is_conditional(task, definition);
            is_certain.then_some(child.workflow.as_str())
        })
    }

    /// M7: refuses this workflow if it completes a cycle in which each workflow always runs the next workflow as a child.
    /// Executions on this cycle never end. `known` finds another workflow by its name.
    ///
    /// # Errors
    /// Returns `WorkflowInvalid` if there is a cycle.
    pub fn refuse_child_cycle<'a>(
        &'a self,
        known: impl Fn(&str) -> Option<&'a Self>,
    ) -> Result<(), Error> {
        let Some(cycle) = self.child_cycle(known) else {
            return Ok(());
        };
        let error = Error::new(
            ErrorCode::WorkflowInvalid,
            format!(
                "workflow '{}' would run itself without end: '{}'",
                self.name(),
                cycle.join("' -> '")
            ),
        );
        Err(error.with_hint("give a node of the cycle a trigger rule that ends the cycle"))
    }

    /// Returns the names of the workflows on a cycle of unconditional children that this workflow would complete. The list
    /// begins and ends with this workflow.
    fn child_cycle<'a>(&'a self, known: impl Fn(&str) -> Option<&'a Self>) -> Option<Vec<&'a str>> {
        let mut seen = Vec::new();
        let mut open = vec![vec![self.name()]];
        while let Some(path) = open.pop() {
            let last = path.last().copied().unwrap_or_default();
            let of = if last == self.name() {
                Some(self)
            } else {
                known(last)
            };
            for name in of.into_iter().flat_map(Self::always_runs) {
                let mut longer = path.clone();
                longer.push(name);
                if name == self.name() {
                    return Some(longer);
                }
                if !seen.contains(&name) {
                    seen.push(name);
                    open.push(longer);
                }
            }
        }
        None
    }
}

/// Returns whether an execution may start no child of this node even if no task fails. This is possible if the node maps a
/// list, which may be empty, or if a trigger rule or a wait may prevent the node from running. The rule or wait can belong to
/// the node or to one of its ancestors.
fn is_conditional(task: &TaskDefinition, definition: &WorkflowDefinition) -> bool {
    if task.over.is_some() {
        return true;
    }
    let mut open = vec![task];
    let mut seen: Vec<&str> = Vec::new();
    while let Some(task) = open.pop() {
        let decides = task.approval.is_some() || task.wait_for.is_some();
        if decides || task.rule.may_skip_without_failure() {
            return true;
        }
        for id in &task.dependencies {
            if !seen.contains(&id.as_str()) {
                seen.push(id);
                open.extend(definition.tasks.iter().find(|other| other.id == *id));
            }
        }
    }
    false
}
