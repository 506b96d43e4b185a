//! Stores signals, wakes the tasks that wait for them, and maintains the inbox.
//!
//! A sender first locks its topics, and then the executions of the waiting tasks in the order of their ids. Each step
//! is a separate statement, because a statement sees only transactions that committed before the statement began.

use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::{self, Connection, Statement, Step};
use super::error::Fault;
use super::inbox;
use super::row::Decoded;
use super::session::Session;
use super::statement::{query, statement};
use super::wakes::{WaiterRow, Waiters, Wakes};
use crate::store::InboxMessage;
use crate::store::waits::{AdvanceBody, CLOCK_TOLERANCE, advance_message};
use crate::types::{Cursor, InboxId, Json, NewSignal, Sent, SignalRecord, Timestamp, Topic};

/// Number of advisory locks that all topics share. It is small because a transaction may need the locks of many topics
/// at once.
const LOCKS: u32 = 256;

query! {
    /// Takes the locks of topics, in the order of their numbers, before any other lock. Without these locks, a sender
    /// and a task that begins to wait on the same topic could miss each other's rows, and the task would never wake.
    LockTopics { keys: Vec<i32> => Array<Integer> } -> Integer;
    "SELECT n.key FROM unnest($1::integer[]) AS n (key)
     WHERE pg_advisory_xact_lock(hashtext('cloacina:topics:' || current_schema()), n.key) IS NOT NULL"
}

query! {
    /// Stores a signal. A wait receives the signals that were sent since its execution was submitted (L4), but the
    /// sender's clock may be behind the submitter's clock. The signal's time is therefore raised to the time of the
    /// last submission, but at most to `latest`. The 16 executions with the highest ids are read, because the order of
    /// the ids is not exactly the order of the submissions.
    InsertSignal<'a> {
        topic: &'a str => Text,
        name: &'a str => Text,
        key: Option<&'a str> => Nullable<Text>,
        target: Option<Uuid> => Nullable<SqlUuid>,
        data: &'a str => Text,
        sent_at: i64 => BigInt,
        latest: i64 => BigInt,
        sender: Option<&'a str> => Nullable<Text>,
        id: Option<&'a str> => Nullable<Text>,
    } -> (BigInt, BigInt);
    "INSERT INTO cloacina_signals (topic, name, key, target, data, sent_at, sender, id)
     VALUES ($1, $2, $3, $4, $5, greatest($6, least($7, coalesce((SELECT max(n.created_at) FROM
     (SELECT e.created_at FROM cloacina_executions AS e ORDER BY e.id DESC LIMIT 16) AS n), 0))), $8, $9) ON CONFLICT DO NOTHING RETURNING seq, sent_at"
}

query! {
    SignalOfId<'a> { id: &'a str => Text } -> BigInt;
    "SELECT seq FROM cloacina_signals WHERE id = $1"
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
    /// Deletes old signals. Keeps each signal that comes after the cursor of an open wait, because the wait can still
    /// receive it.
    PruneOld { before: i64 => BigInt, limit: i64 => BigInt }
    "DELETE FROM cloacina_signals WHERE seq IN (SELECT s.seq FROM cloacina_signals AS s WHERE s.sent_at < $1
     AND NOT EXISTS (SELECT 1 FROM cloacina_waits AS w WHERE w.topic = s.topic AND w.cursor < s.seq
     AND (w.since IS NULL OR w.since <= s.sent_at)) ORDER BY s.sent_at LIMIT $2)"
}

impl LockTopics {
    fn of<'a>(topics: impl Iterator<Item = &'a Topic>) -> Self {
        let mut keys: Vec<i32> = topics.map(lock_of).collect();
        keys.sort_unstable();
        keys.dedup();
        Self { keys }
    }
}

/// Opens a transaction and takes the locks of topics in it.
pub(super) async fn begin<'a>(
    connection: &Connection,
    session: &Session,
    topics: impl Iterator<Item = &'a Topic>,
) -> Result<(), Fault> {
    let locks = LockTopics::of(topics);
    if locks.keys.is_empty() {
        return connection.batch_execute(session.begin()).await;
    }
    let locks = connection.prepare(&locks).await?;
    let steps: Vec<Step<Vec<i32>>> = vec![
        driver::control(connection, session.begin()),
        Box::pin(locks.load()),
    ];
    driver::pipeline(steps).await?;
    Ok(())
}

/// Returns the number of a topic's lock. It is computed from the FNV-1a hash of the topic's text. All releases of this
/// program must compute the same number.
fn lock_of(topic: &Topic) -> i32 {
    let hash = topic.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    i32::try_from((hash ^ (hash >> 16)) % LOCKS).unwrap_or_default()
}

pub(super) async fn send(
    connection: &Connection,
    session: &Session,
    new: &[NewSignal],
    settled: &[InboxId],
    now: Timestamp,
) -> Result<Vec<Sent>, Fault> {
    let topics: Vec<Topic> = new.iter().map(NewSignal::topic).collect();
    let stored = if settled.is_empty() {
        store(connection, Some(session), new, &topics, now).await?
    } else {
        begin(connection, session, topics.iter()).await?;
        for id in settled {
            if inbox::delete(connection, [*id]).await? == 0 {
                connection.batch_execute("ROLLBACK").await?;
                return Ok(Vec::new());
            }
        }
        store(connection, None, new, &topics, now).await?
    };
    let mut sent = Vec::with_capacity(new.len());
    let mut wakes = Wakes::default();
    for ((signal, topic), (row, waiters)) in new.iter().zip(topics).zip(stored) {
        if let Some((seq, sent_at)) = row {
            let body = AdvanceBody::first(topic.0, seq, Timestamp(sent_at));
            let (woken, remaining) = wakes.add(connection, body, waiters, now).await?;
            if let Some(remaining) = remaining {
                inbox::insert(connection, [&advance_message(&remaining, now)]).await?;
            }
            sent.push(Sent {
                seq,
                is_new: true,
                woken,
            });
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
    wakes.commit(connection, now).await?;
    Ok(sent)
}

/// The number and the time of a signal (`None` if its id is already stored), and the first tasks that wait for it.
type StoredSignal = (Option<(i64, i64)>, Vec<WaiterRow>);

/// The answer to a request of [`store`].
#[derive(Default)]
enum StoreAnswer {
    #[default]
    Begun,
    Signal(Option<(i64, i64)>),
    Waiters(Vec<WaiterRow>),
}

/// Inserts signals and finds the tasks that wait for them, in one round trip. With `session`, first begins the
/// transaction and takes the locks of the topics.
async fn store(
    connection: &Connection,
    session: Option<&Session>,
    new: &[NewSignal],
    topics: &[Topic],
    now: Timestamp,
) -> Result<Vec<StoredSignal>, Fault> {
    // All statements are prepared before the first one is sent, so that nothing comes between the requests.
    let locks = match session {
        Some(_) => Some(connection.prepare(&LockTopics::of(topics.iter())).await?),
        None => None,
    };
    let mut requests = Vec::with_capacity(new.len());
    for (signal, topic) in new.iter().zip(topics) {
        let statement = InsertSignal {
            topic: &topic.0,
            name: &signal.name,
            key: signal.key.as_deref(),
            target: signal.to.map(|id| id.uuid()),
            data: signal.data.as_str(),
            sent_at: now.0,
            latest: (now + CLOCK_TOLERANCE).0,
            sender: signal.sender.as_deref(),
            id: signal.id.as_deref(),
        };
        let insert = connection.prepare(&statement).await?;
        let body = AdvanceBody::first(topic.0.clone(), 0, now);
        requests.push((insert, connection.prepare(&Waiters::of(&body)).await?));
    }
    let mut steps: Vec<Step<StoreAnswer>> = Vec::with_capacity(2 * new.len() + 2);
    if let (Some(session), Some(locks)) = (session, locks) {
        steps.push(driver::control(connection, session.begin()));
        steps.push(Box::pin(async {
            let _: Vec<i32> = locks.load().await?;
            Ok(StoreAnswer::Begun)
        }));
    }
    for (insert, waiters) in requests {
        steps.push(Box::pin(async {
            let rows = insert.load().await?;
            Ok(StoreAnswer::Signal(rows.into_iter().next()))
        }));
        steps.push(Box::pin(async {
            Ok(StoreAnswer::Waiters(waiters.load().await?))
        }));
    }
    let mut stored = Vec::with_capacity(new.len());
    let mut row = None;
    for answer in driver::pipeline(steps).await? {
        match answer {
            StoreAnswer::Begun => {}
            StoreAnswer::Signal(found) => row = found,
            StoreAnswer::Waiters(waiters) => stored.push((row.take(), waiters)),
        }
    }
    Ok(stored)
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
    let mut wakes = Wakes::default();
    let waiters = Waiters::of(&body).load(connection).await?;
    let (count, remaining) = wakes.add(connection, body, waiters, now).await?;
    match remaining {
        None => {
            inbox::delete(connection, [message.id]).await?;
        }
        Some(remaining) => {
            SetBody {
                body: serde_json::to_string(&remaining).ok(),
                id: message.id.uuid(),
            }
            .execute(connection)
            .await?;
        }
    }
    wakes.commit(connection, now).await?;
    Ok(count)
}

/// A stored signal: its number, its topic, its data, when it was sent, and its sender.
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
    let mut signals: Vec<SignalRecord> = (rows.into_iter())
        .map(|(seq, topic, data, sent_at, sender)| SignalRecord {
            seq,
            topic: Topic(topic),
            data: data.0,
            sent_at: Timestamp(sent_at),
            sender,
        })
        .collect();
    signals.sort_by_key(|signal| signal.seq);
    signals.dedup_by_key(|signal| signal.seq);
    Ok(signals)
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
