//! Writes the waits of tasks with the decision that opens or ends them, and reads what is due.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::{Decoded, Id, count, micros};
use super::statement::{query, statement};
use super::{children, signals};
use crate::store::waits::{cancel_message, ordinal_of};
use crate::store::{DueWaits, FlowWrites, WaitQuery, WaitWrite};
use crate::types::{Cursor, ExecutionId, Json, Timestamp, Topic, WaitKind, WaitRow};
use crate::workflow::queue;

statement! {
    DeleteWaits<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt }
    "DELETE FROM cloacina_waits WHERE execution_id = ? AND ordinal = ?"
}

statement! {
    SetWait<'a> {
        wait: Option<&'a str> => Nullable<Text>,
        queue: i64 => BigInt,
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
    }
    "UPDATE cloacina_tasks SET wait = ?, queue = ? WHERE execution_id = ? AND ordinal = ?"
}

statement! {
    InsertWait<'a> {
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        slot: i64 => BigInt,
        kind: i16 => SmallInt,
        workflow: &'a str => Text,
        task: &'a str => Text,
        name: &'a str => Text,
        key: Option<&'a str> => Nullable<Text>,
        topic: Option<&'a str> => Nullable<Text>,
        cursor: i64 => BigInt,
        since: Option<i64> => Nullable<BigInt>,
        created_at: i64 => BigInt,
        deadline: Option<i64> => Nullable<BigInt>,
        detail: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO cloacina_waits (execution_id, ordinal, slot, kind, workflow, task, name, key, topic, cursor, since, \
     created_at, deadline, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
}

query! {
    DueExecutions { queue: i64 => BigInt, now: i64 => BigInt, limit: i64 => BigInt } -> Binary;
    "SELECT execution_id FROM cloacina_tasks INDEXED BY cloacina_tasks_waiting \
     WHERE queue = ? AND state = 1 AND ready_at IS NOT NULL AND ready_at <= ? ORDER BY ready_at, execution_id, ordinal LIMIT ?"
}

query! {
    NextDue { queue: i64 => BigInt, now: i64 => BigInt } -> Nullable<BigInt>;
    "SELECT min(ready_at) FROM cloacina_tasks INDEXED BY cloacina_tasks_waiting \
     WHERE queue = ? AND state = 1 AND ready_at IS NOT NULL AND ready_at > ?"
}

query! {
    /// Open waits, oldest first.
    ListWaits<'a> {
        kind: i16 => SmallInt,
        any_name: bool => Bool,
        name: &'a str => Text,
        any_workflow: bool => Bool,
        workflow: &'a str => Text,
        from: i64 => BigInt,
        same: i64 => BigInt,
        execution: &'a [u8] => Binary,
        execution_again: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        ordinal_again: i64 => BigInt,
        slot: i64 => BigInt,
        limit: i64 => BigInt,
    } -> (
        Binary, BigInt, BigInt, SmallInt, Text, Text, Text, Nullable<Text>, Nullable<Text>, BigInt, Nullable<BigInt>,
        BigInt, Nullable<BigInt>, Nullable<Text>,
    );
    "SELECT execution_id, ordinal, slot, kind, workflow, task, name, key, topic, cursor, since, created_at, deadline, \
     detail FROM cloacina_waits WHERE kind = ? AND (topic IS NULL OR instr(topic, char(31) || '@') = 0) AND (? OR name = ?) AND (? OR workflow = ?) AND created_at >= ? \
     AND (created_at > ? OR execution_id > ? OR (execution_id = ? AND (ordinal > ? OR (ordinal = ? AND slot > ?)))) \
     ORDER BY created_at, execution_id, ordinal, slot LIMIT ?"
}

query! {
    /// Open waits, newest first.
    ListWaitsBack<'a> {
        kind: i16 => SmallInt,
        any_name: bool => Bool,
        name: &'a str => Text,
        any_workflow: bool => Bool,
        workflow: &'a str => Text,
        from: i64 => BigInt,
        same: i64 => BigInt,
        execution: &'a [u8] => Binary,
        execution_again: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        ordinal_again: i64 => BigInt,
        slot: i64 => BigInt,
        limit: i64 => BigInt,
    } -> (
        Binary, BigInt, BigInt, SmallInt, Text, Text, Text, Nullable<Text>, Nullable<Text>, BigInt, Nullable<BigInt>,
        BigInt, Nullable<BigInt>, Nullable<Text>,
    );
    "SELECT execution_id, ordinal, slot, kind, workflow, task, name, key, topic, cursor, since, created_at, deadline, \
     detail FROM cloacina_waits WHERE kind = ? AND (topic IS NULL OR instr(topic, char(31) || '@') = 0) AND (? OR name = ?) AND (? OR workflow = ?) AND created_at <= ? \
     AND (created_at < ? OR execution_id < ? OR (execution_id = ? AND (ordinal < ? OR (ordinal = ? AND slot < ?)))) \
     ORDER BY created_at DESC, execution_id DESC, ordinal DESC, slot DESC LIMIT ?"
}

query! {
    WaitsOfExecution<'a> { execution_id: &'a [u8] => Binary } -> (
        Binary, BigInt, BigInt, SmallInt, Text, Text, Text, Nullable<Text>, Nullable<Text>, BigInt, Nullable<BigInt>,
        BigInt, Nullable<BigInt>, Nullable<Text>,
    );
    "SELECT execution_id, ordinal, slot, kind, workflow, task, name, key, topic, cursor, since, created_at, deadline, \
     detail FROM cloacina_waits WHERE execution_id = ? AND (topic IS NULL OR instr(topic, char(31) || '@') = 0) ORDER BY ordinal, slot"
}

#[derive(Queryable)]
struct Row {
    execution: Id,
    ordinal: i64,
    slot: i64,
    kind: i16,
    workflow: String,
    task: String,
    name: String,
    key: Option<String>,
    topic: Option<String>,
    cursor: i64,
    since: Option<i64>,
    created_at: i64,
    deadline: Option<i64>,
    detail: Option<Decoded<Json>>,
}

/// Applies the changes of waits of the executions that were written, and deletes the messages that these changes settle.
/// Returns the executions with a wait whose signal is stored already.
pub(super) fn apply(
    connection: &mut SqliteConnection,
    flow: &FlowWrites,
    applied: &HashSet<ExecutionId>,
    now: Timestamp,
) -> Result<Vec<ExecutionId>, Fault> {
    let mut due = Vec::new();
    for wait in flow
        .waits
        .iter()
        .filter(|wait| applied.contains(&wait.execution))
    {
        if write(connection, wait, now)? {
            due.push(wait.execution);
        }
    }
    for (id, execution) in &flow.settled {
        if applied.contains(execution) {
            signals::delete(connection, *id)?;
        }
    }
    for post in flow.posts.iter().filter(|post| post.is_due(applied)) {
        signals::insert_message(connection, &post.message)?;
    }
    children::write_links(connection, &flow.links, applied)?;
    Ok(due)
}

/// Replaces the rows of a wait. Returns whether one of its signals is there already.
fn write(
    connection: &mut SqliteConnection,
    wait: &WaitWrite,
    now: Timestamp,
) -> Result<bool, Fault> {
    let execution_id = wait.execution.as_bytes().as_slice();
    let ordinal = ordinal_of(wait.task);
    DeleteWaits {
        execution_id,
        ordinal,
    }
    .execute(connection)?;
    if wait.task.is_some() {
        SetWait {
            wait: wait.state.as_deref(),
            queue: wait.queue.0,
            execution_id,
            ordinal,
        }
        .execute(connection)?;
    }
    let mut found = None;
    for row in &wait.rows {
        InsertWait {
            execution_id,
            ordinal,
            slot: row.slot.into(),
            kind: row.kind.code(),
            workflow: &row.workflow,
            task: &row.task_id,
            name: &row.name,
            key: row.key.as_deref(),
            topic: row.cursor.as_ref().map(|cursor| cursor.topic.0.as_str()),
            cursor: row.cursor.as_ref().map_or(0, |cursor| cursor.after),
            since: micros(row.cursor.as_ref().and_then(|cursor| cursor.since)),
            created_at: row.since.0,
            deadline: micros(row.deadline),
            detail: row.detail.as_ref().map(Json::as_str),
        }
        .execute(connection)?;
        if let (None, Some(cursor)) = (&found, &row.cursor) {
            let first = signals::first_behind(connection, cursor)?;
            found = first.map(|signal| (row.name.as_str(), signal.seq));
        }
    }
    let Some((name, seq)) = found else {
        return Ok(false);
    };
    if wait.task.is_some() {
        signals::MakeDue {
            ready_at: now.0,
            execution_id,
            ordinal,
            queue: queue::WAITING,
        }
        .execute(connection)?;
    } else {
        let message = cancel_message(wait.execution, name, seq, now);
        signals::insert_message(connection, &message)?;
    }
    Ok(true)
}

pub(super) fn due(
    connection: &mut SqliteConnection,
    now: Timestamp,
    limit: usize,
) -> Result<DueWaits, Fault> {
    let found: Vec<Id> = DueExecutions {
        queue: queue::WAITING,
        now: now.0,
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    }
    .load(connection)?;
    let mut executions: Vec<ExecutionId> = found.into_iter().map(Into::into).collect();
    let are_full = executions.len() >= limit;
    let mut seen = HashSet::new();
    executions.retain(|id| seen.insert(*id));
    let next: Vec<Option<i64>> = NextDue {
        queue: queue::WAITING,
        now: now.0,
    }
    .load(connection)?;
    let inbox = signals::open_messages(connection, limit)?;
    Ok(DueWaits {
        is_full: are_full || inbox.len() >= limit,
        executions,
        next: next
            .first()
            .copied()
            .flatten()
            .filter(|at| *at != i64::MAX)
            .map(Timestamp),
        inbox,
    })
}

pub(super) fn list(
    connection: &mut SqliteConnection,
    query: &WaitQuery,
) -> Result<Vec<WaitRow>, Fault> {
    if let Some(execution) = query.execution {
        let rows: Vec<Row> = WaitsOfExecution {
            execution_id: execution.as_bytes(),
        }
        .load(connection)?;
        let mut rows: Vec<WaitRow> = rows.into_iter().map(row).collect::<Result<_, _>>()?;
        rows.retain(|row| {
            query.kinds.contains(&row.kind)
                && query.name.as_ref().is_none_or(|name| *name == row.name)
        });
        return Ok(rows);
    }
    let (from, execution, ordinal, slot) = query.after.unwrap_or_else(|| query.start());
    let mut found = Vec::new();
    for kind in &query.kinds {
        // A macro instead of a function, because each statement has its own type.
        macro_rules! read {
            ($statement:ident) => {
                $statement {
                    kind: kind.code(),
                    any_name: query.name.is_none(),
                    name: query.name.as_deref().unwrap_or_default(),
                    any_workflow: query.workflow.is_none(),
                    workflow: query.workflow.as_deref().unwrap_or_default(),
                    from: from.0,
                    same: from.0,
                    execution: execution.as_bytes(),
                    execution_again: execution.as_bytes(),
                    ordinal,
                    ordinal_again: ordinal,
                    slot: slot.into(),
                    limit: i64::try_from(query.limit).unwrap_or(i64::MAX),
                }
                .load(connection)?
            };
        }
        let rows: Vec<Row> = if query.descending {
            read!(ListWaitsBack)
        } else {
            read!(ListWaits)
        };
        for found_row in rows {
            found.push(row(found_row)?);
        }
    }
    query.sort(&mut found);
    Ok(found)
}

fn row(row: Row) -> Result<WaitRow, Fault> {
    Ok(WaitRow {
        execution: row.execution.into(),
        task: u32::try_from(row.ordinal).ok(),
        slot: count("slot", row.slot)?,
        kind: WaitKind::from_code(row.kind)
            .ok_or_else(|| Fault::Corrupt(format!("a wait has the invalid kind {}", row.kind)))?,
        workflow: row.workflow,
        task_id: row.task,
        name: row.name,
        key: row.key,
        cursor: row.topic.map(|topic| Cursor {
            topic: Topic(topic),
            after: row.cursor,
            since: row.since.map(Timestamp),
        }),
        since: Timestamp(row.created_at),
        deadline: row.deadline.map(Timestamp),
        detail: row.detail.map(|detail| detail.0),
    })
}
