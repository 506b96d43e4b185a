//! Stores children after the changes of their parents, and stores the links between children and
//! parents.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Binary, Text};
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::encode;
use super::statement::statement;
use super::write;
use crate::store::{Batch, LinkWrite, SubmitOutcome};
use crate::types::ExecutionId;

/// The item number that is stored for a child that was started by a task, and not by an item of a
/// map.
const NO_ITEM: i64 = -1;

statement! {
    /// Inserts a link. The unique key of the table prevents a second child of the same node and generation.
    InsertLink<'a> {
        child_id: &'a [u8] => Binary,
        parent_id: &'a [u8] => Binary,
        parent_ordinal: i64 => BigInt,
        parent_item: i64 => BigInt,
        parent_key: &'a str => Text,
        generation: i64 => BigInt,
        policy: &'a str => Text,
    }
    "INSERT INTO cloacina_children (child_id, parent_id, parent_ordinal, parent_item, parent_key, generation, policy) \
     VALUES (?, ?, ?, ?, ?, ?, ?)"
}

statement! {
    SetLink<'a> { policy: &'a str => Text, child_id: &'a [u8] => Binary }
    "UPDATE cloacina_children SET policy = ? WHERE child_id = ?"
}

statement! {
    /// Marks an execution as a child. Other statements look up the link to the parent only for marked executions.
    MarkChild<'a> { id: &'a [u8] => Binary }
    "UPDATE cloacina_executions SET links = coalesce(links, 0) | 2 WHERE id = ?"
}

statement! {
    /// Marks an execution whose final tasks were started.
    MarkFinale<'a> { id: &'a [u8] => Binary }
    "UPDATE cloacina_executions SET links = coalesce(links, 0) | 4 WHERE id = ?"
}

/// Stores the submissions that depend on written changes: the children of written executions, the executions without a
/// parent that were started by written executions, and the children in `started`, which items of maps have started.
/// Parents are stored before their children.
pub(super) fn submit(
    connection: &mut SqliteConnection,
    batch: &Batch,
    outcomes: &mut [SubmitOutcome],
    applied: &mut HashSet<ExecutionId>,
    started: &HashSet<ExecutionId>,
) -> Result<(), Fault> {
    let mut children: Vec<usize> = (0..batch.submits.len())
        .filter(|index| batch.source_of(&batch.submits[*index]).is_some())
        .collect();
    let depth = |index: &usize| {
        let parent = batch.submits[*index].record.parent.as_ref();
        parent.map_or(0, |link| link.depth)
    };
    children.sort_by_key(depth);
    for index in children {
        let submit = &batch.submits[index];
        let source = batch.source_of(submit);
        let is_due = |source| applied.contains(&source) || started.contains(&source);
        if outcomes[index] == SubmitOutcome::Accepted || !source.is_some_and(is_due) {
            continue;
        }
        outcomes[index] = write::submit(connection, submit)?;
        if outcomes[index] == SubmitOutcome::Accepted {
            applied.insert(submit.record.id);
        }
    }
    Ok(())
}

/// Writes the links of the children whose executions were written.
pub(super) fn write_links(
    connection: &mut SqliteConnection,
    links: &[LinkWrite],
    applied: &HashSet<ExecutionId>,
) -> Result<(), Fault> {
    for write in links.iter().filter(|write| applied.contains(&write.child)) {
        let (child_id, link) = (write.child.as_bytes(), &*write.link);
        let policy = encode(link)?;
        if !write.is_new {
            SetLink {
                policy: &policy,
                child_id,
            }
            .execute(connection)?;
            continue;
        }
        InsertLink {
            child_id,
            parent_id: link.execution.as_bytes(),
            parent_ordinal: link.owner(),
            parent_item: link.item.map_or(NO_ITEM, i64::from),
            parent_key: link.key.as_deref().unwrap_or_default(),
            generation: link.generation.into(),
            policy: &policy,
        }
        .execute(connection)?;
        MarkChild { id: child_id }.execute(connection)?;
        if link.finale.is_some() {
            MarkFinale {
                id: link.execution.as_bytes(),
            }
            .execute(connection)?;
        }
    }
    Ok(())
}
