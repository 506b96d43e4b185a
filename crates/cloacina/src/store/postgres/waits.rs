//! Writes the waits of tasks together with the decision that opens or ends them, and reads the waits that are due.

use std::collections::HashSet;

use diesel::Queryable;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text, Uuid as SqlUuid};
use futures_util::future::try_join3;
use uuid::Uuid;

use super::driver::{self, Connection, Statement, Step};
use super::error::Fault;
use super::inbox;
use super::row::{Decoded, count, micros};
use super::session::Session;
use super::statement::{query, statement};
use super::{children, wakes};
use crate::store::waits::{EXECUTION, cancel_message, ordinal_of};
use crate::store::{DueWaits, FlowWrites, InboxMessage, WaitQuery, WaitWrite};
use crate::types::{Cursor, ExecutionId, Json, Timestamp, Topic, WaitKind, WaitRow};
use crate::workflow::queue;

statement! {
    DeleteWaits { ids: Vec<Uuid> => Array<SqlUuid>, ordinals: Vec<i64> => Array<BigInt> }
    "DELETE FROM cloacina_waits AS w USING unnest($1::uuid[], $2::bigint[]) AS n (id, ordinal)
     WHERE w.execution_id = n.id AND w.ordinal = n.ordinal"
}

statement! {
    SetWaits {
        ids: Vec<Uuid> => Array<SqlUuid>,
        ordinals: Vec<i64> => Array<BigInt>,
        waits: Vec<Option<String>> => Array<Nullable<Text>>,
        queues: Vec<i64> => Array<BigInt>,
    }
    "UPDATE cloacina_tasks AS t SET wait = n.wait, queue = n.queue
     FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[]) AS n (id, ordinal, wait, queue)
     WHERE t.execution_id = n.id AND t.ordinal = n.ordinal"
}

statement! {
    #[derive(Default)]
    InsertWaits {
        ids: Vec<Uuid> => Array<SqlUuid>,
        ordinals: Vec<i64> => Array<BigInt>,
        slots: Vec<i64> => Array<BigInt>,
        kinds: Vec<i16> => Array<SmallInt>,
        workflows: Vec<String> => Array<Text>,
        tasks: Vec<String> => Array<Text>,
        names: Vec<String> => Array<Text>,
        keys: Vec<Option<String>> => Array<Nullable<Text>>,
        topics: Vec<Option<String>> => Array<Nullable<Text>>,
        cursors: Vec<i64> => Array<BigInt>,
        sinces: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        created: Vec<i64> => Array<BigInt>,
        deadlines: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        details: Vec<Option<String>> => Array<Nullable<Text>>,
    }
    "INSERT INTO cloacina_waits (execution_id, ordinal, slot, kind, workflow, task, name, key, topic, cursor, since,
     created_at, deadline, detail)
     SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::text[], $7::text[],
     $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[])"
}

query! {
    /// Returns the new waits whose signal is already stored.
    FindSignals {
        ids: Vec<Uuid> => Array<SqlUuid>,
        ordinals: Vec<i64> => Array<BigInt>,
        names: Vec<String> => Array<Text>,
        topics: Vec<String> => Array<Text>,
        cursors: Vec<i64> => Array<BigInt>,
        sinces: Vec<i64> => Array<BigInt>,
    } -> (SqlUuid, BigInt, Text, BigInt);
    "SELECT n.id, n.ordinal, n.name, s.seq
     FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
         AS n (id, ordinal, name, topic, cursor, since)
     CROSS JOIN LATERAL (
         SELECT x.seq FROM cloacina_signals AS x
         WHERE x.topic = n.topic COLLATE \"C\" AND x.seq > n.cursor AND x.sent_at >= n.since ORDER BY x.seq LIMIT 1
     ) AS s"
}

query! {
    DueExecutions { queue: i64 => BigInt, now: i64 => BigInt, limit: i64 => BigInt } -> SqlUuid;
    "SELECT execution_id FROM cloacina_tasks WHERE queue = $1 AND state = 1 AND ready_at IS NOT NULL AND ready_at <= $2
     ORDER BY ready_at LIMIT $3"
}

query! {
    NextDue { queue: i64 => BigInt, now: i64 => BigInt } -> BigInt;
    "SELECT ready_at FROM cloacina_tasks WHERE queue = $1 AND state = 1 AND ready_at IS NOT NULL AND ready_at > $2
     ORDER BY ready_at LIMIT 1"
}

type Columns = (
    SqlUuid,
    BigInt,
    BigInt,
    SmallInt,
    Text,
    Text,
    Text,
    Nullable<Text>,
    Nullable<Text>,
    BigInt,
    Nullable<BigInt>,
    BigInt,
    Nullable<BigInt>,
    Nullable<Text>,
);

query! {
    /// Returns open waits, oldest first.
    ListWaits {
        kind: i16 => SmallInt,
        name: Option<String> => Nullable<Text>,
        workflow: Option<String> => Nullable<Text>,
        from: i64 => BigInt,
        execution: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        slot: i64 => BigInt,
        limit: i64 => BigInt,
    } -> Columns;
    "SELECT execution_id, ordinal, slot, kind, workflow, task, name, key, topic, cursor, since, created_at, deadline,
     detail FROM cloacina_waits WHERE kind = $1 AND (topic IS NULL OR strpos(topic, chr(31) || '@') = 0) AND ($2::text IS NULL OR name = $2)
     AND ($3::text IS NULL OR workflow = $3) AND created_at >= $4
     AND (created_at > $4 OR (execution_id, ordinal, slot) > ($5::uuid, $6::bigint, $7::bigint))
     ORDER BY created_at, execution_id, ordinal, slot LIMIT $8"
}

query! {
    /// Returns open waits, newest first.
    ListWaitsBack {
        kind: i16 => SmallInt,
        name: Option<String> => Nullable<Text>,
        workflow: Option<String> => Nullable<Text>,
        from: i64 => BigInt,
        execution: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        slot: i64 => BigInt,
        limit: i64 => BigInt,
    } -> Columns;
    "SELECT execution_id, ordinal, slot, kind, workflow, task, name, key, topic, cursor, since, created_at, deadline,
     detail FROM cloacina_waits WHERE kind = $1 AND (topic IS NULL OR strpos(topic, chr(31) || '@') = 0) AND ($2::text IS NULL OR name = $2)
     AND ($3::text IS NULL OR workflow = $3) AND created_at <= $4
     AND (created_at < $4 OR (execution_id, ordinal, slot) < ($5::uuid, $6::bigint, $7::bigint))
     ORDER BY created_at DESC, execution_id DESC, ordinal DESC, slot DESC LIMIT $8"
}

query! {
    WaitsOfExecution { id: Uuid => SqlUuid } -> Columns;
    "SELECT execution_id, ordinal, slot, kind, workflow, task, name, key, topic, cursor, since, created_at, deadline,
     detail FROM cloacina_waits WHERE execution_id = $1
     AND (topic IS NULL OR strpos(topic, chr(31) || '@') = 0) ORDER BY ordinal, slot"
}

#[derive(Queryable)]
struct StoredWait {
    execution: Uuid,
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

/// Returns the topics of the waits that a batch opens.
pub(super) fn topics(flow: &FlowWrites) -> impl Iterator<Item = &Topic> {
    let rows = flow.waits.iter().flat_map(|wait| &wait.rows);
    rows.filter_map(|row| row.cursor.as_ref())
        .map(|cursor| &cursor.topic)
}

/// Locks the messages of the inbox that a batch applies. Returns the executions whose changes apply a message that
/// another runner has applied already. These changes must not be written. The revision check does not always catch
/// them: a runner that read the execution after the message was applied has the current revision, and would apply the
/// message a second time.
pub(super) async fn applied_elsewhere(
    connection: &Connection,
    flow: &FlowWrites,
) -> Result<HashSet<ExecutionId>, Fault> {
    let found = inbox::lock(connection, flow.settled.iter().map(|(id, _)| *id)).await?;
    let gone = (flow.settled.iter()).filter(|(id, _)| !found.contains(id));
    Ok(gone.map(|(_, execution)| *execution).collect())
}

/// Applies the changes of waits whose executions were written, deletes the messages of the inbox that these executions
/// have applied, and adds messages and links of children. The open transaction must hold the locks of the topics. Returns
/// the executions with a wait whose signal is already stored.
pub(super) async fn apply(
    connection: &Connection,
    flow: &FlowWrites,
    applied: &HashSet<ExecutionId>,
    now: Timestamp,
) -> Result<Vec<ExecutionId>, Fault> {
    let waits: Vec<&WaitWrite> = (flow.waits.iter())
        .filter(|wait| applied.contains(&wait.execution))
        .collect();
    let mut due = Vec::new();
    if !waits.is_empty() {
        let delete = DeleteWaits {
            ids: waits.iter().map(|wait| wait.execution.uuid()).collect(),
            ordinals: waits.iter().map(|wait| ordinal_of(wait.task)).collect(),
        };
        let of_tasks = || waits.iter().filter(|wait| wait.task.is_some());
        let set = SetWaits {
            ids: of_tasks().map(|wait| wait.execution.uuid()).collect(),
            ordinals: of_tasks().map(|wait| ordinal_of(wait.task)).collect(),
            waits: of_tasks().map(|wait| wait.state.clone()).collect(),
            queues: of_tasks().map(|wait| wait.queue.0).collect(),
        };
        let (delete, set) = (
            connection.prepare(&delete).await?,
            connection.prepare(&set).await?,
        );
        let steps: Vec<Step<u64>> = vec![Box::pin(delete.execute()), Box::pin(set.execute())];
        driver::pipeline(steps).await?;
        due = register(connection, &waits, now).await?;
    }
    let settled = (flow.settled.iter()).filter(|(_, execution)| applied.contains(execution));
    inbox::delete(connection, settled.map(|(id, _)| *id)).await?;
    let posts = flow.posts.iter().filter(|post| post.is_due(applied));
    inbox::insert(connection, posts.map(|post| &post.message)).await?;
    children::write_links(connection, &flow.links, applied).await?;
    Ok(due)
}

/// Inserts the rows of waits. If a signal for a wait is already stored, makes the task due, or adds the message that
/// cancels the execution. Returns the executions of the waits whose signal is already stored.
async fn register(
    connection: &Connection,
    waits: &[&WaitWrite],
    now: Timestamp,
) -> Result<Vec<ExecutionId>, Fault> {
    let rows: Vec<&WaitRow> = waits.iter().flat_map(|wait| &wait.rows).collect();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut insert = InsertWaits::default();
    for row in &rows {
        let cursor = row.cursor.as_ref();
        insert.ids.push(row.execution.uuid());
        insert.ordinals.push(ordinal_of(row.task));
        insert.slots.push(row.slot.into());
        insert.kinds.push(row.kind.code());
        insert.workflows.push(row.workflow.clone());
        insert.tasks.push(row.task_id.clone());
        insert.names.push(row.name.clone());
        insert.keys.push(row.key.clone());
        insert
            .topics
            .push(cursor.map(|cursor| cursor.topic.0.clone()));
        insert.cursors.push(cursor.map_or(0, |cursor| cursor.after));
        insert
            .sinces
            .push(micros(cursor.and_then(|cursor| cursor.since)));
        insert.created.push(row.since.0);
        insert.deadlines.push(micros(row.deadline));
        insert
            .details
            .push(row.detail.as_ref().map(ToString::to_string));
    }
    insert.execute(connection).await?;
    let listening: Vec<(&WaitRow, &Cursor)> = (rows.iter())
        .filter_map(|row| Some((*row, row.cursor.as_ref()?)))
        .collect();
    if listening.is_empty() {
        return Ok(Vec::new());
    }
    let signals: Vec<(Uuid, i64, String, i64)> = FindSignals {
        ids: listening
            .iter()
            .map(|(row, _)| row.execution.uuid())
            .collect(),
        ordinals: listening
            .iter()
            .map(|(row, _)| ordinal_of(row.task))
            .collect(),
        names: listening.iter().map(|(row, _)| row.name.clone()).collect(),
        topics: listening
            .iter()
            .map(|(_, cursor)| cursor.topic.0.clone())
            .collect(),
        cursors: listening.iter().map(|(_, cursor)| cursor.after).collect(),
        sinces: (listening.iter())
            .map(|(_, cursor)| cursor.since.map_or(i64::MIN, |since| since.0))
            .collect(),
    }
    .load(connection)
    .await?;
    let mut due: Vec<ExecutionId> = Vec::new();
    let mut tasks: Vec<(Uuid, i64)> = Vec::new();
    for (id, ordinal, name, seq) in signals {
        due.push(id.into());
        if ordinal == EXECUTION {
            let message = cancel_message(id.into(), &name, seq, now);
            inbox::insert(connection, [&message]).await?;
        } else {
            tasks.push((id, ordinal));
        }
    }
    wakes::make_due(connection, tasks, now).await?;
    due.sort_unstable();
    due.dedup();
    Ok(due)
}

pub(super) async fn due(
    connection: &Connection,
    session: &Session,
    now: Timestamp,
    limit: usize,
) -> Result<DueWaits, Fault> {
    let due = DueExecutions {
        queue: queue::WAITING,
        now: now.0,
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let later = NextDue {
        queue: queue::WAITING,
        now: now.0,
    };
    let answers: (Vec<Uuid>, Vec<i64>, Vec<InboxMessage>) = try_join3(
        session.fetch(connection, due),
        session.fetch(connection, later),
        inbox::open_messages(connection, session, limit),
    )
    .await?;
    let (found, next, inbox) = answers;
    let mut executions: Vec<ExecutionId> = found.into_iter().map(Into::into).collect();
    let limit_reached = executions.len() >= limit;
    let mut seen = HashSet::new();
    executions.retain(|id| seen.insert(*id));
    Ok(DueWaits {
        is_full: limit_reached || inbox.len() >= limit,
        executions,
        next: (next.first().copied())
            .filter(|at| *at != i64::MAX)
            .map(Timestamp),
        inbox,
    })
}

pub(super) async fn list(
    connection: &Connection,
    session: &Session,
    query: &WaitQuery,
) -> Result<Vec<WaitRow>, Fault> {
    if let Some(execution) = query.execution {
        let statement = WaitsOfExecution {
            id: execution.uuid(),
        };
        let rows: Vec<StoredWait> = session.fetch(connection, statement).await?;
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
        macro_rules! fetch {
            ($statement:ident) => {{
                let statement = $statement {
                    kind: kind.code(),
                    name: query.name.clone(),
                    workflow: query.workflow.clone(),
                    from: from.0,
                    execution: execution.uuid(),
                    ordinal,
                    slot: slot.into(),
                    limit: i64::try_from(query.limit).unwrap_or(i64::MAX),
                };
                session.fetch(connection, statement).await?
            }};
        }
        let rows: Vec<StoredWait> = if query.descending {
            fetch!(ListWaitsBack)
        } else {
            fetch!(ListWaits)
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
