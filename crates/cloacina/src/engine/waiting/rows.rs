//! Rows for the list of waits, and texts that describe open waits.

use super::paths::key_at;
use crate::engine::Execution;
use crate::engine::runs::run_name;
use crate::types::{
    Condition, Context, Cursor, Json, Leaf, OpenWait, Ordinal, Since, Topic, WaitKind, WaitRow,
};
use crate::workflow::Workflow;

/// The problem of a `cancel_on` signal that cannot cancel the execution, because the input has no valid key at the signal's
/// path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKey(pub String);

impl Execution {
    /// Texts that name what a task still waits for: the parts of the condition that do not hold, a workflow, or a decision.
    pub(super) fn names_of(&self, ordinal: Ordinal, open: &OpenWait) -> Vec<String> {
        if let Some(child) = &self.definition(ordinal).child {
            return vec![format!("workflow '{}'", child.workflow)];
        }
        if let Some(name) = run_name(open) {
            return vec![name];
        }
        if open.leaves.is_empty() {
            return vec![format!(
                "a decision about '{}'",
                self.definition(ordinal).id
            )];
        }
        let names = open.leaves.iter().filter(|leaf| !leaf.holds());
        names.map(leaf_text).collect()
    }

    /// The rows that represent a task's open wait in the list of waits.
    #[must_use]
    pub fn wait_rows(&self, ordinal: Ordinal) -> Vec<WaitRow> {
        let Some(open) = self.task(ordinal).open_wait() else {
            return Vec::new();
        };
        let definition = self.definition(ordinal);
        let row = |kind: WaitKind, name: &str| WaitRow {
            execution: self.record.id,
            task: Some(ordinal),
            slot: 0,
            kind,
            workflow: self.workflow.name().to_owned(),
            task_id: definition.id.clone(),
            name: name.to_owned(),
            key: None,
            cursor: None,
            since: open.since,
            deadline: open.deadline,
            detail: None,
        };
        let mut rows = Vec::new();
        if let Some(approval) = definition.approval.as_ref().filter(|_| open.park.is_none()) {
            let detail = serde_json::json!({ "title": open.title, "to": approval.to });
            rows.push(WaitRow {
                detail: with_schema(&detail, approval.schema.as_ref()),
                ..row(WaitKind::Approval, &definition.id)
            });
        }
        if let Some(child) = &definition.child {
            rows.push(row(WaitKind::Child, &child.workflow));
        }
        rows.extend(self.run_row(ordinal, open));
        for leaf in &open.leaves {
            match leaf {
                Leaf::Signal {
                    name,
                    key,
                    cursors,
                    taken: None,
                } => rows.extend(cursors.iter().map(|cursor| WaitRow {
                    key: key.clone(),
                    cursor: Some(cursor.clone()),
                    ..row(WaitKind::Signal, name)
                })),
                Leaf::Timer {
                    at, fired: false, ..
                } => rows.push(WaitRow {
                    deadline: Some(*at),
                    ..row(WaitKind::Timer, &definition.id)
                }),
                _ => {}
            }
        }
        for (slot, row) in (0..).zip(&mut rows) {
            row.slot = slot;
        }
        rows
    }

    /// The rows of the `cancel_on` signals, and the problems of those signals that have no row, because the input has no
    /// valid key at their paths.
    #[must_use]
    pub fn cancel_rows(&self) -> (Vec<WaitRow>, Vec<MissingKey>) {
        cancel_rows(&self.workflow, &self.record)
    }
}

/// The rows of the signals that cancel an execution (`cancel_on`), one for each topic. A signal without a key has two
/// topics, because it can also be sent to the execution's mailbox. A signal whose key is missing has no row.
fn cancel_rows(
    workflow: &Workflow,
    record: &crate::types::ExecutionRecord,
) -> (Vec<WaitRow>, Vec<MissingKey>) {
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for condition in &workflow.definition().cancel_on {
        let Condition::Signal {
            name,
            key,
            key_value,
            since,
        } = condition
        else {
            continue;
        };
        let key = match key {
            None => key_value.clone(),
            Some(path) => match key_at(&record.input, path) {
                Ok(key) => Some(key),
                Err(problem) => {
                    missing.push(MissingKey(format!(
                        "signal '{name}' cannot cancel the execution: its key is at '{path}' of the input, but {problem}"
                    )));
                    continue;
                }
            },
        };
        let mut topics = vec![Topic::keyed(name, key.as_deref())];
        if key.is_none() {
            topics.push(Topic::mailbox(name, record.id));
        }
        for topic in topics {
            rows.push(WaitRow {
                execution: record.id,
                task: None,
                slot: u32::try_from(rows.len()).unwrap_or(u32::MAX),
                kind: WaitKind::Cancel,
                workflow: workflow.name().to_owned(),
                task_id: String::new(),
                name: name.clone(),
                key: key.clone(),
                cursor: Some(Cursor {
                    topic,
                    after: 0,
                    since: (*since == Since::Submitted).then_some(record.created_at),
                }),
                since: record.created_at,
                deadline: None,
                detail: None,
            });
        }
    }
    (rows, missing)
}

/// Describes a part of a condition in words.
#[must_use]
pub fn leaf_text(leaf: &Leaf) -> String {
    match leaf {
        Leaf::Signal {
            name,
            key: Some(key),
            ..
        } => format!("signal '{name}' with key '{key}'"),
        Leaf::Signal { name, .. } => format!("signal '{name}'"),
        Leaf::Timer { at, .. } => at.to_rfc3339(),
    }
}

fn with_schema(detail: &serde_json::Value, schema: Option<&Json>) -> Option<Json> {
    let mut out = Context::from_json(&detail.to_string()).ok()?;
    if let Some(schema) = schema {
        out.set("schema", schema.clone());
    }
    Some(Json::from_encoder(out.to_json()))
}
