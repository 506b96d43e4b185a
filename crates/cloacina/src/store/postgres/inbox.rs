//! The inbox: messages that a runner applies and deletes in one transaction.

use diesel::Queryable;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::session::Session;
use super::statement::{query, statement};
use crate::store::InboxMessage;
use crate::types::{InboxId, Timestamp};

statement! {
    InsertMessage<'a> {
        id: Uuid => SqlUuid,
        kind: &'a str => Text,
        target: Option<&'a str> => Nullable<Text>,
        body: Option<&'a str> => Nullable<Text>,
        created_at: i64 => BigInt,
        note: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO cloacina_inbox (id, kind, target, body, created_at, note) VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT DO NOTHING"
}

statement! { DeleteMessage { id: Uuid => SqlUuid } "DELETE FROM cloacina_inbox WHERE id = $1" }

statement! {
    SetNote<'a> { note: &'a str => Text, id: Uuid => SqlUuid }
    "UPDATE cloacina_inbox SET note = $1 WHERE id = $2"
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
    insert_message(connection, message).await?;
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
            delete(connection, id).await?;
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

pub(super) async fn insert_message(
    connection: &Connection,
    message: &InboxMessage,
) -> Result<u64, Fault> {
    InsertMessage {
        id: message.id.uuid(),
        kind: &message.kind,
        target: message.target.as_deref(),
        body: message.body.as_deref(),
        created_at: message.created_at.0,
        note: message.note.as_deref(),
    }
    .execute(connection)
    .await
}

pub(super) async fn delete(connection: &Connection, id: InboxId) -> Result<u64, Fault> {
    DeleteMessage { id: id.uuid() }.execute(connection).await
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
