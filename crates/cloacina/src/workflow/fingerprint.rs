//! The version of a workflow: a documented, stable hash (semantics A4).
//!
//! The version is the first 16 hex characters of the SHA-256 of a JSON array, written as compact UTF-8 text:
//! `["cloacina-version-1", name, [task, …]]`. The tasks are in declaration order. Each task is an array
//! `[id, [dependency, …], rule, retry, timeout or null, fingerprint]`, in which `rule` and `retry` are their stored JSON.
//!
//! The arrays of some tasks have additional elements, which are also stored JSON. A task that waits has the element
//! `[wait_for or null, wait_timeout or null, on_timeout, approval or null]`. A node that runs a workflow has the element
//! `[child]`. A mapped task or node has two more elements at its end: `"over"` and the options of the map.
//!
//! The arrays of some workflows have additional elements:
//!
//! - If signals can cancel the workflow, and it has no final tasks: the list of these signals.
//! - If the workflow has final tasks: the list of the signals that can cancel it, even if this list is empty; the list of its
//!   final tasks and compensations, each as `[task, role]`; and an empty list.
//! - If the workflow is derived: two empty lists, and the list of the roles of its tasks.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{TaskDefinition, TriggerRule, WorkflowDefinition};
use crate::types::{Approval, ChildSpec, Condition, MapSpec, Micros, RetryPolicy, WaitEnd};

#[derive(Serialize)]
struct HashedTask<'a>(
    &'a str,
    &'a [String],
    &'a TriggerRule,
    &'a RetryPolicy,
    Option<Micros>,
    &'a str,
);

/// The options of a wait, which the hash contains only for tasks that wait.
#[derive(Serialize)]
struct HashedWait<'a>(
    Option<&'a Condition>,
    Option<Micros>,
    WaitEnd,
    Option<&'a Approval>,
);

#[derive(Serialize)]
struct WaitingTask<'a>(
    &'a str,
    &'a [String],
    &'a TriggerRule,
    &'a RetryPolicy,
    Option<Micros>,
    &'a str,
    HashedWait<'a>,
);

#[derive(Serialize)]
struct ChildTask<'a>(
    &'a str,
    &'a [String],
    &'a TriggerRule,
    &'a RetryPolicy,
    Option<Micros>,
    &'a str,
    [&'a ChildSpec; 1],
);

#[derive(Serialize)]
struct ChildrenTask<'a>(
    &'a str,
    &'a [String],
    &'a TriggerRule,
    &'a RetryPolicy,
    Option<Micros>,
    &'a str,
    [&'a ChildSpec; 1],
    &'static str,
    &'a MapSpec,
);

#[derive(Serialize)]
struct MapTask<'a>(
    &'a str,
    &'a [String],
    &'a TriggerRule,
    &'a RetryPolicy,
    Option<Micros>,
    &'a str,
    &'static str,
    &'a MapSpec,
);

#[derive(Serialize)]
#[serde(untagged)]
enum AnyTask<'a> {
    Child(ChildTask<'a>),
    Children(ChildrenTask<'a>),
    Map(MapTask<'a>),
    Plain(HashedTask<'a>),
    Waiting(WaitingTask<'a>),
}

fn hashed(task: &TaskDefinition) -> AnyTask<'_> {
    if let (Some(child), Some(over)) = (&task.child, &task.over) {
        return AnyTask::Children(ChildrenTask(
            &task.id,
            &task.dependencies,
            &task.rule,
            &task.retry,
            task.timeout,
            &task.fingerprint,
            [child],
            "over",
            over,
        ));
    }
    if let Some(child) = &task.child {
        return AnyTask::Child(ChildTask(
            &task.id,
            &task.dependencies,
            &task.rule,
            &task.retry,
            task.timeout,
            &task.fingerprint,
            [child],
        ));
    }
    if let Some(over) = &task.over {
        return AnyTask::Map(MapTask(
            &task.id,
            &task.dependencies,
            &task.rule,
            &task.retry,
            task.timeout,
            &task.fingerprint,
            "over",
            over,
        ));
    }
    if task.wait_for.is_none() && task.approval.is_none() {
        return AnyTask::Plain(HashedTask(
            &task.id,
            &task.dependencies,
            &task.rule,
            &task.retry,
            task.timeout,
            &task.fingerprint,
        ));
    }
    AnyTask::Waiting(WaitingTask(
        &task.id,
        &task.dependencies,
        &task.rule,
        &task.retry,
        task.timeout,
        &task.fingerprint,
        HashedWait(
            task.wait_for.as_ref(),
            task.wait_timeout,
            task.on_timeout,
            task.approval.as_ref(),
        ),
    ))
}

pub(super) fn version(definition: &WorkflowDefinition) -> String {
    let tasks: Vec<AnyTask> = definition.tasks.iter().map(hashed).collect();
    // The roles affect both the version of a derived workflow and the version of the workflow from which it is derived.
    let roles: Vec<_> = (definition.tasks.iter())
        .filter_map(|task| task.role.as_ref())
        .collect();
    let finals: Vec<_> = (definition.finals.iter())
        .map(|task| (hashed(task), &task.role))
        .collect();
    // Serializing these values cannot fail: every key is a string, and every float was checked to be finite.
    let text = if !finals.is_empty() || !roles.is_empty() {
        let signals = &definition.cancel_on;
        serde_json::to_string(&(
            "cloacina-version-1",
            &definition.name,
            tasks,
            signals,
            finals,
            roles,
        ))
    } else if definition.cancel_on.is_empty() {
        serde_json::to_string(&("cloacina-version-1", &definition.name, tasks))
    } else {
        let signals = &definition.cancel_on;
        serde_json::to_string(&("cloacina-version-1", &definition.name, tasks, signals))
    };
    let text = text.unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    digest[..8]
        .iter()
        .fold(String::with_capacity(16), |mut out, byte| {
            use std::fmt::Write;
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}
