//! Stores signals, wakes the tasks that wait for them, and maintains the inbox. A transaction that sends a signal and a
//! transaction that registers a wait both hold the write lock, so the later one sees the rows of the earlier one.

use std::collections::BTreeSet;

use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::connection::Writer;
use super::error::Fault;
use super::row::{Decoded, Id};
use super::statement::{query, statement};
use crate::store::waits::{
    AdvanceBody, CLOCK_TOLERANCE, EXECUTION, TIMEOUT_MARGIN, WAKE_MARGIN, advance_message,
    cancel_message,
};
use crate::store::{InboxMessage, SEND_WAKES};
use crate::types::{Cursor, InboxId, Json, NewSignal, Sent, SignalRecord, Timestamp, Topic};
use crate::workflow::queue;

statement! {
    InsertSignal<'a> {
        topic: &'a str => Text,
        name: &'a str => Text,
        key: Option<&'a str> => Nullable<Text>,
        target: Option<&'a [u8]> => Nullable<Binary>,
        data: &'a str => Text,
        sent_at: i64 => BigInt,
        sender: Option<&'a str> => Nullable<Text>,
        id: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO cloacina_signals (topic, name, key, target, data, sent_at, sender, id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
}

statement! {
    /// Sets the due time of a waiting task far enough in the past (`WAKE_MARGIN`) that the task is due on every runner,
    /// even if a runner's clock is behind. Does not affect a paused task, which is checked when it is resumed.
    MakeDue<'a> { ready_at: i64 => BigInt, execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, queue: i64 => BigInt }
    "UPDATE cloacina_tasks SET ready_at = min(coalesce(ready_at, 0), ?) WHERE execution_id = ? AND ordinal = ? AND state = 1 AND queue = ?"
}

query! {
    /// Returns the latest time of submission among the 16 executions with the highest ids. One execution is not enough,
    /// because the order of the ids is not exactly the order of the submissions.
    LastSubmission {} -> BigInt;
    "SELECT coalesce(max(created_at), 0) FROM (SELECT created_at FROM cloacina_executions ORDER BY id DESC LIMIT 16)"
}

query! { LastSignal {} -> BigInt; "SELECT last_insert_rowid()" }

query! {
    SignalOfId<'a> { id: &'a str => Text } -> BigInt;
    "SELECT seq FROM cloacina_signals WHERE id = ?"
}

query! {
    Waiters<'a> {
        topic: &'a str => Text,
        execution: &'a [u8] => Binary,
        execution_again: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        limit: i64 => BigInt,
    } -> (Binary, BigInt, Text, Nullable<BigInt>);
    "SELECT execution_id, ordinal, name, since FROM cloacina_waits INDEXED BY cloacina_waits_topic \
     WHERE topic = ? AND (execution_id > ? OR (execution_id = ? AND ordinal > ?)) \
     ORDER BY execution_id, ordinal LIMIT ?"
}

query! {
    /// Returns the executions in which a task waits for this signal, has not been woken by it yet, and will soon reach
    /// the timeout of its wait (see [`TIMEOUT_MARGIN`]).
    WaitersNearTimeout<'a> {
        topic: &'a str => Text,
        execution: &'a [u8] => Binary,
        execution_again: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        until: i64 => BigInt,
    } -> Binary;
    "SELECT DISTINCT execution_id FROM cloacina_waits INDEXED BY cloacina_waits_topic \
     WHERE topic = ? AND (execution_id > ? OR (execution_id = ? AND ordinal > ?)) AND ordinal >= 0 AND deadline <= ?"
}

statement! {
    /// Raises the revision of an execution, so that the store refuses decisions that were made before the signal.
    Touch<'a> { id: &'a [u8] => Binary }
    "UPDATE cloacina_executions SET revision = revision + 1 WHERE id = ?"
}

query! {
    FirstBehind<'a> { topic: &'a str => Text, after: i64 => BigInt, since: i64 => BigInt }
    -> (BigInt, Text, Text, BigInt, Nullable<Text>);
    "SELECT seq, topic, data, sent_at, sender FROM cloacina_signals INDEXED BY cloacina_signals_topic \
     WHERE topic = ? AND seq > ? AND sent_at >= ? ORDER BY seq LIMIT 1"
}

query! {
    CountOthers<'a> { from: &'a str => Text, to: &'a str => Text, topics: &'a str => Text, limit: i64 => BigInt } -> BigInt;
    "SELECT count(*) FROM (SELECT 1 FROM cloacina_signals WHERE topic >= ? AND topic < ? \
     AND topic NOT IN (SELECT value FROM json_each(?)) LIMIT ?)"
}

statement! {
    InsertMessage<'a> {
        id: &'a [u8] => Binary,
        kind: &'a str => Text,
        target: Option<&'a str> => Nullable<Text>,
        body: Option<&'a str> => Nullable<Text>,
        created_at: i64 => BigInt,
        note: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO cloacina_inbox (id, kind, target, body, created_at, note) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
}

query! {
    HasMessage<'a> { id: &'a [u8] => Binary } -> BigInt;
    "SELECT EXISTS (SELECT 1 FROM cloacina_inbox WHERE id = ?)"
}

statement! { DeleteMessage<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_inbox WHERE id = ?" }

statement! {
    SetBody<'a> { body: Option<&'a str> => Nullable<Text>, id: &'a [u8] => Binary }
    "UPDATE cloacina_inbox SET body = ? WHERE id = ?"
}

statement! {
    SetNote<'a> { note: &'a str => Text, id: &'a [u8] => Binary }
    "UPDATE cloacina_inbox SET note = ? WHERE id = ?"
}

query! {
    OpenMessages { limit: i64 => BigInt } -> (Binary, Text, Nullable<Text>, Nullable<Text>, BigInt, Nullable<Text>);
    "SELECT id, kind, target, body, created_at, note FROM cloacina_inbox INDEXED BY cloacina_inbox_open \
     WHERE note IS NULL ORDER BY id LIMIT ?"
}

query! {
    HasOlder { before: i64 => BigInt } -> BigInt;
    "SELECT EXISTS (SELECT 1 FROM cloacina_signals WHERE sent_at < ?)"
}

statement! {
    /// Deletes old signals. Keeps each signal that comes after the cursor of an open wait, because the wait can still
    /// receive it.
    PruneOld { before: i64 => BigInt, limit: i64 => BigInt }
    "DELETE FROM cloacina_signals WHERE seq IN (SELECT s.seq FROM cloacina_signals AS s WHERE s.sent_at < ? \
     AND NOT EXISTS (SELECT 1 FROM cloacina_waits AS w WHERE w.topic = s.topic AND w.cursor < s.seq \
     AND (w.since IS NULL OR w.since <= s.sent_at)) ORDER BY s.sent_at LIMIT ?)"
}

#[derive(Queryable)]
struct MessageRow {
    id: Id,
    kind: String,
    target: Option<String>,
    body: Option<String>,
    created_at: i64,
    note: Option<String>,
}

pub(super) fn send(
    writer: &Writer,
    new: &[NewSignal],
    settled: &[InboxId],
    now: Timestamp,
) -> Result<Vec<Sent>, Fault> {
    let connection = &mut *writer.lock()?;
    writer.write(connection, |connection| {
        for id in settled {
            if delete(connection, *id)? == 0 {
                return Ok(Vec::new());
            }
        }
        let mut sent = Vec::with_capacity(new.len());
        for signal in new {
            sent.push(send_one(connection, signal, now)?);
        }
        Ok(sent)
    })
}

fn send_one(
    connection: &mut SqliteConnection,
    signal: &NewSignal,
    now: Timestamp,
) -> Result<Sent, Fault> {
    let earlier = match &signal.id {
        None => Vec::new(),
        Some(id) => SignalOfId { id }.load::<i64>(connection)?,
    };
    if let Some(seq) = earlier.first() {
        return Ok(Sent {
            seq: *seq,
            is_new: false,
            woken: 0,
        });
    }
    // A wait receives the signals that were sent since its execution was submitted (L4), but the sender's clock may be
    // behind the submitter's clock. The signal's time is therefore raised to the time of the last submission, but at
    // most by [`CLOCK_TOLERANCE`].
    let last = LastSubmission {}.load::<i64>(connection)?;
    let last = last.first().copied().unwrap_or_default();
    let sent_at = last.min((now + CLOCK_TOLERANCE).0).max(now.0);
    let topic = signal.topic();
    InsertSignal {
        topic: &topic.0,
        name: &signal.name,
        key: signal.key.as_deref(),
        target: signal.to.as_ref().map(|id| id.as_bytes().as_slice()),
        data: signal.data.as_str(),
        sent_at,
        sender: signal.sender.as_deref(),
        id: signal.id.as_deref(),
    }
    .execute(connection)?;
    let seq = LastSignal {}.load::<i64>(connection)?;
    let seq = seq.first().copied().unwrap_or_default();
    let body = AdvanceBody::first(topic.0, seq, Timestamp(sent_at));
    let (woken, remaining) = wake(connection, &body, now)?;
    if let Some(remaining) = remaining {
        insert_message(connection, &advance_message(&remaining, now))?;
    }
    Ok(Sent {
        seq: body.seq,
        is_new: true,
        woken,
    })
}

/// Applies a signal to the next waits for it: wakes waiting tasks, and adds a message for each execution that the
/// signal cancels. Returns the number of these waits, and the message body for the remaining waits, if there are any.
fn wake(
    connection: &mut SqliteConnection,
    body: &AdvanceBody,
    now: Timestamp,
) -> Result<(usize, Option<AdvanceBody>), Fault> {
    let (after, ordinal) = body.after;
    let limit = SEND_WAKES + 1;
    let mut waiters: Vec<(Id, i64, String, Option<i64>)> = Waiters {
        topic: &body.topic,
        execution: after.as_bytes(),
        execution_again: after.as_bytes(),
        ordinal,
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    }
    .load(connection)?;
    let more = waiters.len() == limit;
    waiters.truncate(SEND_WAKES);
    let mut touched = BTreeSet::new();
    for (execution, ordinal, name, since) in &waiters {
        if *ordinal == EXECUTION {
            // The time of the signal is checked here only for a cancellation, because a cancellation is final. For a
            // waiting task, the engine checks the time when it evaluates the wait.
            if since.is_none_or(|since| body.sent_at.0 >= since) {
                let message = cancel_message((*execution).into(), name, body.seq, now);
                insert_message(connection, &message)?;
            }
            continue;
        }
        if touched.insert(*execution) {
            Touch { id: &execution.0 }.execute(connection)?;
        }
        MakeDue {
            ready_at: (now - WAKE_MARGIN).0,
            execution_id: &execution.0,
            ordinal: *ordinal,
            queue: queue::WAITING,
        }
        .execute(connection)?;
    }
    let remaining = waiters.last().filter(|_| more).map(|last| AdvanceBody {
        after: (last.0.into(), last.1),
        ..body.clone()
    });
    if let Some(remaining) = remaining.as_ref().filter(|_| body.is_first()) {
        let (execution, ordinal) = (remaining.after.0.as_bytes().as_slice(), remaining.after.1);
        let near_timeout: Vec<Id> = WaitersNearTimeout {
            topic: &body.topic,
            execution,
            execution_again: execution,
            ordinal,
            until: (now + TIMEOUT_MARGIN).0,
        }
        .load(connection)?;
        for id in near_timeout {
            if touched.insert(id) {
                Touch { id: &id.0 }.execute(connection)?;
            }
        }
    }
    Ok((waiters.len(), remaining))
}

pub(super) fn advance(
    writer: &Writer,
    message: &InboxMessage,
    now: Timestamp,
) -> Result<usize, Fault> {
    let Some(body) = decoded(message) else {
        return Err(Fault::Corrupt(format!(
            "the message {} in the inbox cannot be read",
            message.id
        )));
    };
    let connection = &mut *writer.lock()?;
    writer.write(connection, |connection| {
        let (woken, remaining) = wake(connection, &body, now)?;
        match remaining {
            None => delete(connection, message.id)?,
            Some(remaining) => SetBody {
                body: serde_json::to_string(&remaining).ok().as_deref(),
                id: message.id.as_bytes(),
            }
            .execute(connection)?,
        };
        Ok(woken)
    })
}

fn decoded(message: &InboxMessage) -> Option<AdvanceBody> {
    serde_json::from_str(message.body.as_deref()?).ok()
}

pub(super) fn post(writer: &Writer, message: &InboxMessage) -> Result<(), Fault> {
    let connection = &mut *writer.lock()?;
    writer.write(connection, |connection| {
        insert_message(connection, message).map(drop)
    })
}

pub(super) fn note(writer: &Writer, id: InboxId, note: Option<&str>) -> Result<(), Fault> {
    let connection = &mut *writer.lock()?;
    writer.write(connection, |connection| {
        match note {
            None => delete(connection, id)?,
            Some(note) => SetNote {
                note,
                id: id.as_bytes(),
            }
            .execute(connection)?,
        };
        Ok(())
    })
}

pub(super) fn insert_message(
    connection: &mut SqliteConnection,
    message: &InboxMessage,
) -> Result<usize, Fault> {
    Ok(InsertMessage {
        id: message.id.as_bytes(),
        kind: &message.kind,
        target: message.target.as_deref(),
        body: message.body.as_deref(),
        created_at: message.created_at.0,
        note: message.note.as_deref(),
    }
    .execute(connection)?)
}

pub(super) fn delete(connection: &mut SqliteConnection, id: InboxId) -> Result<usize, Fault> {
    Ok(DeleteMessage { id: id.as_bytes() }.execute(connection)?)
}

/// Returns whether a message is still in the inbox, i.e. no other runner has applied it.
pub(super) fn has_message(connection: &mut SqliteConnection, id: InboxId) -> Result<bool, Fault> {
    let found = HasMessage { id: id.as_bytes() }.load::<i64>(connection)?;
    Ok(found == [1])
}

pub(super) fn open_messages(
    connection: &mut SqliteConnection,
    limit: usize,
) -> Result<Vec<InboxMessage>, Fault> {
    let rows: Vec<MessageRow> = OpenMessages {
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    }
    .load(connection)?;
    let messages = rows.into_iter().map(|row| InboxMessage {
        id: InboxId::from_bytes(row.id.0),
        kind: row.kind,
        target: row.target,
        body: row.body,
        created_at: Timestamp(row.created_at),
        note: row.note,
    });
    Ok(messages.collect())
}

/// A stored signal: its number, its topic, its data, when it was sent, and its sender.
type SignalRow = (i64, String, Decoded<Json>, i64, Option<String>);

/// Returns the first signal after a cursor.
pub(super) fn first_behind(
    connection: &mut SqliteConnection,
    cursor: &Cursor,
) -> Result<Option<SignalRecord>, Fault> {
    let rows: Vec<SignalRow> = FirstBehind {
        topic: &cursor.topic.0,
        after: cursor.after,
        since: cursor.since.map_or(i64::MIN, |since| since.0),
    }
    .load(connection)?;
    let first = rows.into_iter().next();
    Ok(
        first.map(|(seq, topic, data, sent_at, sender)| SignalRecord {
            seq,
            topic: Topic(topic),
            data: data.0,
            sent_at: Timestamp(sent_at),
            sender,
        }),
    )
}

pub(super) fn behind(
    connection: &mut SqliteConnection,
    cursors: &[Cursor],
) -> Result<Vec<SignalRecord>, Fault> {
    let mut signals: Vec<SignalRecord> = Vec::new();
    for cursor in cursors {
        signals.extend(first_behind(connection, cursor)?);
    }
    signals.sort_by_key(|signal| signal.seq);
    signals.dedup_by_key(|signal| signal.seq);
    Ok(signals)
}

pub(super) fn count_others(
    connection: &mut SqliteConnection,
    name: &str,
    topics: &[Topic],
    limit: usize,
) -> Result<usize, Fault> {
    let (from, to) = Topic::range(name);
    let counted: Vec<i64> = CountOthers {
        from: &from,
        to: &to,
        topics: &super::row::encode(&topics)?,
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    }
    .load(connection)?;
    Ok(usize::try_from(counted.first().copied().unwrap_or_default()).unwrap_or_default())
}

pub(super) fn prune(writer: &Writer, before: Timestamp, limit: usize) -> Result<usize, Fault> {
    let connection = &mut *writer.lock()?;
    let older: Vec<i64> = writer.peek(connection, |connection| {
        Ok(HasOlder { before: before.0 }.load(connection)?)
    })?;
    if older == [0] {
        return Ok(0);
    }
    writer.write(connection, |connection| {
        Ok(PruneOld {
            before: before.0,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        }
        .execute(connection)?)
    })
}
