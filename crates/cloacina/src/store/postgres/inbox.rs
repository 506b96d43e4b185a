//! Stores the messages of the inbox. A runner applies and deletes a message in one transaction.

use std::collections::HashSet;

use diesel::Queryable;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::session::Session;
use super::statement::{query, statement};
use crate::store::InboxMessage;
use crate::types::{InboxId, Timestamp};

statement! {
    #[derive(Default)]
    InsertMessages {
        ids: Vec<Uuid> => Array<SqlUuid>,
        kinds: Vec<String> => Array<Text>,
        targets: Vec<Option<String>> => Array<Nullable<Text>>,
        bodies: Vec<Option<String>> => Array<Nullable<Text>>,
        created_at: Vec<i64> => Array<BigInt>,
        notes: Vec<Option<String>> => Array<Nullable<Text>>,
    }
    "INSERT INTO cloacina_inbox (id, kind, target, body, created_at, note)
     SELECT n.id, n.kind, n.target, n.body, n.created_at, n.note
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
         AS n (id, kind, target, body, created_at, note)
     ON CONFLICT DO NOTHING"
}

statement! {
    DeleteMessages { ids: Vec<Uuid> => Array<SqlUuid> }
    "DELETE FROM cloacina_inbox AS i USING unnest($1::uuid[]) AS n (id) WHERE i.id = n.id"
}

statement! {
    SetNote<'a> { note: &'a str => Text, id: Uuid => SqlUuid }
    "UPDATE cloacina_inbox SET note = $1 WHERE id = $2"
}

query! {
    /// Locks messages until the end of the transaction, and returns those that exist.
    LockMessages { ids: Vec<Uuid> => Array<SqlUuid> } -> SqlUuid;
    "SELECT i.id FROM cloacina_inbox AS i WHERE i.id = ANY ($1) ORDER BY i.id FOR UPDATE"
}

query! {
    OpenMessages { limit: i64 => BigInt } -> (SqlUuid, Text, Nullable<Text>, Nullable<Text>, BigInt, Nullable<Text>);
    "SELECT id, kind, target, body, created_at, note FROM cloacina_inbox WHERE note IS NULL ORDER BY id LIMIT $1"
}

#[derive(Queryable)]
struct MessageRow {
    id: Uuid,
    kind: String,
    target: Option<String>,
    body: Option<String>,
    created_at: i64,
    note: Option<String>,
}

pub(super) async fn post(
    connection: &Connection,
    session: &Session,
    message: &InboxMessage,
) -> Result<(), Fault> {
    connection.batch_execute(session.begin()).await?;
    insert(connection, [message]).await?;
    connection.batch_execute("COMMIT").await
}

pub(super) async fn note(
    connection: &Connection,
    session: &Session,
    id: InboxId,
    note: Option<&str>,
) -> Result<(), Fault> {
    connection.batch_execute(session.begin()).await?;
    match note {
        None => {
            delete(connection, [id]).await?;
        }
        Some(note) => {
            SetNote {
                note,
                id: id.uuid(),
            }
            .execute(connection)
            .await?;
        }
    }
    connection.batch_execute("COMMIT").await
}

/// Adds messages in one statement. Skips messages that are already stored. Returns the number of added messages.
pub(super) async fn insert(
    connection: &Connection,
    messages: impl IntoIterator<Item = &InboxMessage>,
) -> Result<u64, Fault> {
    let mut insert = InsertMessages::default();
    for message in messages {
        insert.ids.push(message.id.uuid());
        insert.kinds.push(message.kind.clone());
        insert.targets.push(message.target.clone());
        insert.bodies.push(message.body.clone());
        insert.created_at.push(message.created_at.0);
        insert.notes.push(message.note.clone());
    }
    if insert.ids.is_empty() {
        return Ok(0);
    }
    insert.execute(connection).await
}

/// Deletes messages in one statement. Returns the number of deleted messages.
pub(super) async fn delete(
    connection: &Connection,
    ids: impl IntoIterator<Item = InboxId>,
) -> Result<u64, Fault> {
    let ids: Vec<Uuid> = ids.into_iter().map(|id| id.uuid()).collect();
    if ids.is_empty() {
        return Ok(0);
    }
    DeleteMessages { ids }.execute(connection).await
}

/// Locks messages, and returns those that exist. A message that does not exist was applied by another runner.
pub(super) async fn lock(
    connection: &Connection,
    ids: impl IntoIterator<Item = InboxId>,
) -> Result<HashSet<InboxId>, Fault> {
    let ids: Vec<Uuid> = ids.into_iter().map(|id| id.uuid()).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<Uuid> = LockMessages { ids }.load(connection).await?;
    Ok(found.into_iter().map(Into::into).collect())
}

pub(super) async fn open_messages(
    connection: &Connection,
    session: &Session,
    limit: usize,
) -> Result<Vec<InboxMessage>, Fault> {
    let statement = OpenMessages {
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let rows: Vec<MessageRow> = session.fetch(connection, statement).await?;
    let messages = rows.into_iter().map(|row| InboxMessage {
        id: row.id.into(),
        kind: row.kind,
        target: row.target,
        body: row.body,
        created_at: Timestamp(row.created_at),
        note: row.note,
    });
    Ok(messages.collect())
}
