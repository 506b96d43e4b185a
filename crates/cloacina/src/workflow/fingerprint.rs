//! The version of a workflow: a documented, stable hash (semantics A4).
//!
//! `version` is the first 16 hex characters of SHA-256 over the UTF-8 text of this JSON array, written compactly:
//! `["cloacina-version-1", name, [task, …]]`, each task in declaration order as
//! `[id, [dependency, …], rule, retry, timeout or null, fingerprint]` with `rule` and `retry` as their stored JSON.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{TriggerRule, WorkflowDefinition};
use crate::types::{Micros, RetryPolicy};

#[derive(Serialize)]
struct HashedTask<'a>(
    &'a str,
    &'a [String],
    &'a TriggerRule,
    &'a RetryPolicy,
    Option<Micros>,
    &'a str,
);

pub(super) fn version(definition: &WorkflowDefinition) -> String {
    let tasks: Vec<HashedTask> = definition
        .tasks
        .iter()
        .map(|task| {
            HashedTask(
                &task.id,
                &task.dependencies,
                &task.rule,
                &task.retry,
                task.timeout,
                &task.fingerprint,
            )
        })
        .collect();
    // Serialising these plain values cannot fail: every key is a string and every float was checked to be finite.
    let text =
        serde_json::to_string(&("cloacina-version-1", &definition.name, tasks)).unwrap_or_default();
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
