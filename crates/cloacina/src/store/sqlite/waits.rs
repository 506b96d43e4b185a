//! Writes the waits of tasks together with the decision that opens or ends them, and reads the waits that are due.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::{Decoded, Id, count, micros};
use super::statement::{query, statement};
use super::{children, signals};
use crate::store::waits::{WAKE_MARGIN, cancel_message, ordinal_of};
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
    /// Returns open waits, oldest first.
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
    /// Returns open waits, newest first.
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
struct StoredWait {
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

/// Returns the executions whose changes apply a message of the inbox that another runner has applied already. These
/// changes must not be written. The revision check does not always catch them: a runner that read the execution after
/// the message was applied has the current revision, and would apply the message a second time.
pub(super) fn applied_elsewhere(
    connection: &mut SqliteConnection,
    flow: &FlowWrites,
) -> Result<HashSet<ExecutionId>, Fault> {
    let mut found = HashSet::new();
    for (message, execution) in &flow.settled {
        if !signals::has_message(connection, *message)? {
            found.insert(*execution);
        }
    }
    Ok(found)
}

/// Applies the changes of waits whose executions were written, deletes the messages of the inbox that these executions
/// have applied, and adds messages and links of children. Returns the executions with a wait whose signal is already
/// stored.
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

/// Replaces the rows of a wait. Returns whether a signal for the wait is already stored.
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
    let mut signal = None;
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
        if let (None, Some(cursor)) = (&signal, &row.cursor) {
            let first = signals::first_behind(connection, cursor)?;
            signal = first.map(|stored| (row.name.as_str(), stored.seq));
        }
    }
    let Some((name, seq)) = signal else {
        return Ok(false);
    };
    if wait.task.is_some() {
        signals::MakeDue {
            ready_at: (now - WAKE_MARGIN).0,
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
    let ids: Vec<Id> = DueExecutions {
        queue: queue::WAITING,
        now: now.0,
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    }
    .load(connection)?;
    let mut executions: Vec<ExecutionId> = ids.into_iter().map(Into::into).collect();
    let limit_reached = executions.len() >= limit;
    let mut seen = HashSet::new();
    executions.retain(|id| seen.insert(*id));
    let next: Vec<Option<i64>> = NextDue {
        queue: queue::WAITING,
        now: now.0,
    }
    .load(connection)?;
    let inbox = signals::open_messages(connection, limit)?;
    Ok(DueWaits {
        is_full: limit_reached || inbox.len() >= limit,
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
        let rows: Vec<StoredWait> = WaitsOfExecution {
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
    let mut waits = Vec::new();
    for kind in &query.kinds {
        // This is a macro instead of a function, because each statement has a different type.
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
        let rows: Vec<StoredWait> = if query.descending {
            read!(ListWaitsBack)
        } else {
            read!(ListWaits)
        };
        for stored in rows {
            waits.push(row(stored)?);
        }
    }
    query.sort(&mut waits);
    Ok(waits)
}

fn row(row: StoredWait) -> Result<WaitRow, Fault> {
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
