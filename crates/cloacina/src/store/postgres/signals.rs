//! Stores signals, wakes the tasks that wait for them, and keeps the inbox.
//!
//! A sender locks its topics before anything else, and then the executions of the waiters in the order of their ids. Each
//! step is a separate statement, because only a later statement sees what another transaction committed meanwhile.

use std::collections::BTreeSet;

use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::{self, Connection, Statement, Step};
use super::error::Fault;
use super::inbox;
use super::row::Decoded;
use super::session::Session;
use super::statement::{query, statement};
use crate::store::waits::{
    AdvanceBody, EXECUTION, TIMEOUT_MARGIN, advance_message, cancel_message,
};
use crate::store::{InboxMessage, SEND_WAKES};
use crate::types::{Cursor, InboxId, Json, NewSignal, Sent, SignalRecord, Timestamp, Topic};
use crate::workflow::queue;

/// Number of locks that topics share. Few, because a transaction may need the locks of many topics at once.
const LOCKS: u32 = 256;

query! {
    /// Takes the locks of topics, in the order of their numbers, before any other lock. Otherwise a sender and a waiter
    /// of one topic would not see each other's rows, and the waiter would sleep for ever.
    LockTopics { keys: Vec<i32> => Array<Integer> } -> Integer;
    "SELECT n.key FROM unnest($1::integer[]) AS n (key)
     WHERE pg_advisory_xact_lock(hashtext('cloacina:topics:' || current_schema()), n.key) IS NOT NULL"
}

statement! {
    /// Makes waiting tasks due. Paused tasks are checked when they are resumed.
    MakeDue {
        ready_at: i64 => BigInt,
        queue: i64 => BigInt,
        ids: Vec<Uuid> => Array<SqlUuid>,
        ordinals: Vec<i64> => Array<BigInt>,
    }
    "UPDATE cloacina_tasks AS t SET ready_at = $1 FROM unnest($3::uuid[], $4::bigint[]) AS n (id, ordinal)
     WHERE t.execution_id = n.id AND t.ordinal = n.ordinal AND t.state = 1 AND t.queue = $2"
}

query! {
    InsertSignal<'a> {
        topic: &'a str => Text,
        name: &'a str => Text,
        key: Option<&'a str> => Nullable<Text>,
        target: Option<Uuid> => Nullable<SqlUuid>,
        data: &'a str => Text,
        sent_at: i64 => BigInt,
        sender: Option<&'a str> => Nullable<Text>,
        id: Option<&'a str> => Nullable<Text>,
    } -> BigInt;
    "INSERT INTO cloacina_signals (topic, name, key, target, data, sent_at, sender, id)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING seq"
}

query! {
    SignalOfId<'a> { id: &'a str => Text } -> BigInt;
    "SELECT seq FROM cloacina_signals WHERE id = $1"
}

query! {
    Waiters {
        topic: String => Text,
        execution: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        limit: i64 => BigInt,
    } -> (SqlUuid, BigInt, Text, Nullable<BigInt>);
    "SELECT execution_id, ordinal, name, since FROM cloacina_waits
     WHERE topic = $1 COLLATE \"C\" AND (execution_id, ordinal) > ($2::uuid, $3::bigint)
     ORDER BY execution_id, ordinal LIMIT $4"
}

query! {
    /// The executions of waiters that were not woken yet and whose timeout is near: see [`TIMEOUT_MARGIN`].
    WaitersInTime {
        topic: String => Text,
        execution: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        until: i64 => BigInt,
    } -> SqlUuid;
    "SELECT DISTINCT execution_id FROM cloacina_waits
     WHERE topic = $1 COLLATE \"C\" AND (execution_id, ordinal) > ($2::uuid, $3::bigint)
     AND ordinal >= 0 AND deadline <= $4"
}

query! {
    LockExecutions { ids: Vec<Uuid> => Array<SqlUuid> } -> SqlUuid;
    "SELECT e.id FROM unnest($1::uuid[]) AS n (id) CROSS JOIN LATERAL (
         SELECT x.id FROM cloacina_executions AS x WHERE x.id = n.id FOR UPDATE
     ) AS e"
}

statement! {
    Touch { ids: Vec<Uuid> => Array<SqlUuid> }
    "UPDATE cloacina_executions AS e SET revision = e.revision + 1 FROM unnest($1::uuid[]) AS n (id) WHERE e.id = n.id"
}

query! {
    FirstBehind { topics: Vec<String> => Array<Text>, cursors: Vec<i64> => Array<BigInt>, sinces: Vec<i64> => Array<BigInt> }
    -> (BigInt, Text, Text, BigInt, Nullable<Text>);
    "SELECT s.seq, s.topic, s.data, s.sent_at, s.sender
     FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n (topic, cursor, since)
     CROSS JOIN LATERAL (
         SELECT x.* FROM cloacina_signals AS x
         WHERE x.topic = n.topic COLLATE \"C\" AND x.seq > n.cursor AND x.sent_at >= n.since ORDER BY x.seq LIMIT 1
     ) AS s"
}

query! {
    CountOthers { from: String => Text, to: String => Text, topics: Vec<String> => Array<Text>, limit: i64 => BigInt } -> BigInt;
    "SELECT count(*) FROM (SELECT 1 FROM cloacina_signals WHERE topic >= $1 COLLATE \"C\" AND topic < $2 COLLATE \"C\"
     AND topic <> ALL ($3::text[]) LIMIT $4) AS found"
}

statement! {
    SetBody { body: Option<String> => Nullable<Text>, id: Uuid => SqlUuid }
    "UPDATE cloacina_inbox SET body = $1 WHERE id = $2"
}

statement! {
    /// Keeps the signals that an open wait may still take: those after the wait's cursor.
    PruneOld { before: i64 => BigInt, limit: i64 => BigInt }
    "DELETE FROM cloacina_signals WHERE seq IN (SELECT s.seq FROM cloacina_signals AS s WHERE s.sent_at < $1
     AND NOT EXISTS (SELECT 1 FROM cloacina_waits AS w WHERE w.topic = s.topic AND w.cursor < s.seq
     AND (w.since IS NULL OR w.since <= s.sent_at)) ORDER BY s.sent_at LIMIT $2)"
}

/// Takes the locks of topics in the open transaction.
pub(super) async fn lock<'a>(
    connection: &Connection,
    topics: impl Iterator<Item = &'a Topic>,
) -> Result<(), Fault> {
    let mut keys: Vec<i32> = topics.map(lock_of).collect();
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_unstable();
    keys.dedup();
    let _: Vec<i32> = LockTopics { keys }.load(connection).await?;
    Ok(())
}

/// The lock of a topic: FNV-1a over its text. Every release must compute the same number.
fn lock_of(topic: &Topic) -> i32 {
    let hash = topic.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    i32::try_from((hash ^ (hash >> 16)) % LOCKS).unwrap_or_default()
}

pub(super) async fn make_due(
    connection: &Connection,
    mut tasks: Vec<(Uuid, i64)>,
    now: Timestamp,
) -> Result<(), Fault> {
    if tasks.is_empty() {
        return Ok(());
    }
    tasks.sort_unstable();
    tasks.dedup();
    let (ids, ordinals) = tasks.into_iter().unzip();
    MakeDue {
        ready_at: now.0,
        queue: queue::WAITING,
        ids,
        ordinals,
    }
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn send(
    connection: &Connection,
    session: &Session,
    new: &[NewSignal],
    settled: &[InboxId],
    now: Timestamp,
) -> Result<Vec<Sent>, Fault> {
    let topics: Vec<Topic> = new.iter().map(NewSignal::topic).collect();
    connection.batch_execute(session.begin()).await?;
    lock(connection, topics.iter()).await?;
    for id in settled {
        if inbox::delete(connection, [*id]).await? == 0 {
            connection.batch_execute("ROLLBACK").await?;
            return Ok(Vec::new());
        }
    }
    let inserted = insert(connection, new, &topics, now).await?;
    let mut sent = Vec::with_capacity(new.len());
    let mut bodies = Vec::new();
    for ((signal, topic), seq) in new.iter().zip(topics).zip(inserted) {
        if let Some(seq) = seq {
            sent.push(Sent {
                seq,
                is_new: true,
                woken: 0,
            });
            bodies.push(AdvanceBody::first(topic.0, seq, now));
        } else {
            let id = signal.id.as_deref().unwrap_or_default();
            let earlier: Vec<i64> = SignalOfId { id }.load(connection).await?;
            sent.push(Sent {
                seq: earlier.first().copied().unwrap_or_default(),
                is_new: false,
                woken: 0,
            });
        }
    }
    let woken = wake(connection, &bodies, now).await?;
    let mut news = sent.iter_mut().filter(|sent| sent.is_new);
    for (count, rest) in woken {
        if let Some(sent) = news.next() {
            sent.woken = count;
        }
        if let Some(rest) = rest {
            inbox::insert(connection, [&advance_message(&rest, now)]).await?;
        }
    }
    connection.batch_execute("COMMIT").await?;
    Ok(sent)
}

/// Inserts signals in one round trip. Returns their numbers; `None` for a signal whose id is stored already.
async fn insert(
    connection: &Connection,
    new: &[NewSignal],
    topics: &[Topic],
    now: Timestamp,
) -> Result<Vec<Option<i64>>, Fault> {
    let mut steps: Vec<Step<Vec<i64>>> = Vec::with_capacity(new.len());
    for (signal, topic) in new.iter().zip(topics) {
        let statement = InsertSignal {
            topic: &topic.0,
            name: &signal.name,
            key: signal.key.as_deref(),
            target: signal.to.map(|id| id.uuid()),
            data: signal.data.as_str(),
            sent_at: now.0,
            sender: signal.sender.as_deref(),
            id: signal.id.as_deref(),
        };
        let request = connection.prepare(&statement).await?;
        steps.push(Box::pin(request.load()));
    }
    let inserted = driver::pipeline(steps).await?;
    Ok(inserted
        .into_iter()
        .map(|rows| rows.first().copied())
        .collect())
}

/// A waiting task: its execution, its ordinal, the signal's name, and the time from which signals count.
type WaiterRow = (Uuid, i64, String, Option<i64>);

/// Wakes the next tasks that wait for each signal. Returns their number, and the body of the message for the rest.
async fn wake(
    connection: &Connection,
    bodies: &[AdvanceBody],
    now: Timestamp,
) -> Result<Vec<(usize, Option<AdvanceBody>)>, Fault> {
    let limit = SEND_WAKES + 1;
    let mut steps: Vec<Step<Vec<WaiterRow>>> = Vec::new();
    for body in bodies {
        let (after, ordinal) = body.after;
        let statement = Waiters {
            topic: body.topic.clone(),
            execution: after.uuid(),
            ordinal,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        };
        let request = connection.prepare(&statement).await?;
        steps.push(Box::pin(request.load()));
    }
    let found = driver::pipeline(steps).await?;
    let (mut tasks, mut touched) = (Vec::new(), BTreeSet::new());
    let mut woken = Vec::with_capacity(bodies.len());
    for (body, mut waiters) in bodies.iter().zip(found) {
        let more = waiters.len() == limit;
        waiters.truncate(SEND_WAKES);
        let rest = waiters.last().filter(|_| more).map(|last| AdvanceBody {
            after: (last.0.into(), last.1),
            ..body.clone()
        });
        if let Some(rest) = rest.as_ref().filter(|_| body.is_first()) {
            let statement = WaitersInTime {
                topic: body.topic.clone(),
                execution: rest.after.0.uuid(),
                ordinal: rest.after.1,
                until: (now + TIMEOUT_MARGIN).0,
            };
            let in_time: Vec<Uuid> = statement.load(connection).await?;
            touched.extend(in_time);
        }
        woken.push((waiters.len(), rest));
        for (execution, ordinal, name, since) in waiters {
            if ordinal != EXECUTION {
                touched.insert(execution);
                tasks.push((execution, ordinal));
            } else if since.is_none_or(|since| body.sent_at.0 >= since) {
                let message = cancel_message(execution.into(), &name, body.seq, now);
                inbox::insert(connection, [&message]).await?;
            }
        }
    }
    if !touched.is_empty() {
        // A runner that decides about one of these executions at this moment has not seen the signal: its write must be
        // refused.
        let ids: Vec<Uuid> = touched.into_iter().collect();
        let _: Vec<Uuid> = LockExecutions { ids: ids.clone() }.load(connection).await?;
        Touch { ids }.execute(connection).await?;
        make_due(connection, tasks, now).await?;
    }
    Ok(woken)
}

pub(super) async fn advance(
    connection: &Connection,
    session: &Session,
    message: &InboxMessage,
    now: Timestamp,
) -> Result<usize, Fault> {
    let body = message.body.as_deref().unwrap_or_default();
    let Ok(body) = serde_json::from_str::<AdvanceBody>(body) else {
        return Err(Fault::Corrupt(format!(
            "the message {} in the inbox cannot be read",
            message.id
        )));
    };
    connection.batch_execute(session.begin()).await?;
    let woken = wake(connection, std::slice::from_ref(&body), now).await?;
    let (count, rest) = woken.into_iter().next().unwrap_or_default();
    match rest {
        None => {
            inbox::delete(connection, [message.id]).await?;
        }
        Some(rest) => {
            SetBody {
                body: serde_json::to_string(&rest).ok(),
                id: message.id.uuid(),
            }
            .execute(connection)
            .await?;
        }
    }
    connection.batch_execute("COMMIT").await?;
    Ok(count)
}

/// A stored signal: its number, topic, data, time and sender.
type SignalRow = (i64, String, Decoded<Json>, i64, Option<String>);

pub(super) async fn behind(
    connection: &Connection,
    session: &Session,
    cursors: &[Cursor],
) -> Result<Vec<SignalRecord>, Fault> {
    if cursors.is_empty() {
        return Ok(Vec::new());
    }
    let statement = FirstBehind {
        topics: cursors
            .iter()
            .map(|cursor| cursor.topic.0.clone())
            .collect(),
        cursors: cursors.iter().map(|cursor| cursor.after).collect(),
        sinces: (cursors.iter())
            .map(|cursor| cursor.since.map_or(i64::MIN, |since| since.0))
            .collect(),
    };
    let rows: Vec<SignalRow> = session.fetch(connection, statement).await?;
    let mut found: Vec<SignalRecord> = (rows.into_iter())
        .map(|(seq, topic, data, sent_at, sender)| SignalRecord {
            seq,
            topic: Topic(topic),
            data: data.0,
            sent_at: Timestamp(sent_at),
            sender,
        })
        .collect();
    found.sort_by_key(|signal| signal.seq);
    found.dedup_by_key(|signal| signal.seq);
    Ok(found)
}

pub(super) async fn count_others(
    connection: &Connection,
    session: &Session,
    name: &str,
    topics: &[Topic],
    limit: usize,
) -> Result<usize, Fault> {
    let (from, to) = Topic::range(name);
    let statement = CountOthers {
        from,
        to,
        topics: topics.iter().map(|topic| topic.0.clone()).collect(),
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let counted: Vec<i64> = session.fetch(connection, statement).await?;
    Ok(usize::try_from(counted.first().copied().unwrap_or_default()).unwrap_or_default())
}

pub(super) async fn prune(
    connection: &Connection,
    session: &Session,
    before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    connection.batch_execute(session.begin()).await?;
    let deleted = PruneOld {
        before: before.0,
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    }
    .execute(connection)
    .await?;
    connection.batch_execute("COMMIT").await?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}
