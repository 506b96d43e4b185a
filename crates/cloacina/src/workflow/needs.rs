//! The mechanisms that the release of a runner must have in order to run a workflow.
//!
//! A workflow that has only ordinary tasks in a fixed graph needs none of these mechanisms. Any
//! other definition lists the mechanisms that it uses. A runner whose release lacks one of these
//! mechanisms leaves the executions of the workflow to other runners (semantics E5).

use super::WorkflowDefinition;
use crate::types::{Error, ErrorCode};

/// The mechanisms that this release has.
const KNOWN: &[&str] = &[WAIT, CHILD, FINAL, MAP];

/// Waits for signals, approvals and times (semantics L).
const WAIT: &str = "wait";
/// Children (semantics M).
const CHILD: &str = "child";
/// Final tasks and compensations (semantics Q).
const FINAL: &str = "final";
/// Maps (semantics K).
const MAP: &str = "map";

/// Adds to a definition the names of the mechanisms that it uses, if it does not name them yet.
pub(super) fn complete(definition: &mut WorkflowDefinition) {
    let waits = !definition.cancel_on.is_empty()
        || (definition.tasks.iter()).any(|task| task.wait_for.is_some() || task.approval.is_some());
    if waits && !definition.needs.iter().any(|need| need == WAIT) {
        definition.needs.push(WAIT.to_owned());
    }
    let has_child = definition.tasks.iter().any(|task| task.child.is_some());
    if has_child && !definition.needs.iter().any(|need| need == CHILD) {
        definition.needs.push(CHILD.to_owned());
    }
    let has_final = !definition.finals.is_empty() || definition.final_of.is_some();
    if has_final && !definition.needs.iter().any(|need| need == FINAL) {
        definition.needs.push(FINAL.to_owned());
    }
    let has_map = definition.tasks.iter().any(|task| task.over.is_some());
    if has_map && !definition.needs.iter().any(|need| need == MAP) {
        definition.needs.push(MAP.to_owned());
    }
}

/// Returns the first mechanism that a definition needs and this release does not have.
pub(super) fn first_unknown(definition: &WorkflowDefinition) -> Option<&str> {
    let mut needs = definition.needs.iter().map(String::as_str);
    needs.find(|need| !KNOWN.contains(need))
}

/// Returns the error for a workflow that needs an unknown mechanism.
pub(super) fn unsupported(workflow: &str, need: &str) -> Error {
    let message = format!(
        "workflow '{workflow}' needs '{need}', which release {} does not have",
        env!("CARGO_PKG_VERSION")
    );
    Error::new(ErrorCode::WorkflowInvalid, message)
        .with_hint("upgrade this program to the release of the program that defines the workflow")
}
