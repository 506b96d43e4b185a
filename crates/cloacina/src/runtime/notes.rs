//! Notes between executions, stored as messages of the inbox (semantics M).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::engine::Execution;
use crate::store::{InboxKind, InboxMessage};
use crate::types::{ExecutionId, InboxId, Json, Note, Ordinal, Post, Timestamp};

/// The execution and the task that send a note to a child.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Sender {
    pub(super) parent: ExecutionId,
    pub(super) task: Ordinal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<u32>,
}

/// Returns the note in a message that `Step::apply_note` handles. `None` for other kinds, and if the body cannot be read.
pub(super) fn note_of(kind: InboxKind, body: &str) -> Option<Note> {
    Some(match kind {
        InboxKind::Pause => Note::Pause,
        InboxKind::Resume => Note::Resume,
        InboxKind::Retry => Note::Retry,
        InboxKind::ChildEnded => Note::ChildEnded(serde_json::from_str(body).ok()?),
        InboxKind::AttemptEnded => Note::AttemptEnded(serde_json::from_str(body).ok()?),
        InboxKind::Signal | InboxKind::Cancel | InboxKind::Advance => return None,
    })
}

/// Returns the messages for the notes that a change causes. The id of each message is derived from the change. So if the same
/// change is written again, it adds no second message.
pub(super) fn messages_of(
    execution: &Execution,
    posts: &[Post],
    now: Timestamp,
) -> Vec<InboxMessage> {
    let record = execution.record();
    let mut earlier: BTreeMap<ExecutionId, u8> = BTreeMap::new();
    let messages = (0..).zip(posts).map(|(index, post)| {
        let count = earlier.entry(post.target).or_default();
        let order = *count;
        *count = count.saturating_add(1);
        // A retry names the task that sends it. If the child has been deleted, this task receives a note that the child cannot
        // be retried.
        let needs_sender = matches!(post.note, Note::Retry);
        let nodes = (0..).take(if needs_sender { record.tasks.len() } else { 0 });
        let sender = nodes.into_iter().find(|ordinal| {
            let child = execution.node_child(*ordinal);
            child.is_some_and(|child| child.id == post.target)
                || (execution.open_runs(*ordinal))
                    .is_some_and(|runs| runs.all_open().any(|id| id == post.target))
        });
        message_of(
            record.id,
            record.revision,
            (index, order),
            post,
            sender.map(|task| (task, None)),
            now,
        )
    });
    messages.collect()
}

/// Returns the message for a note. `index`: the number of the note among all notes of the change; `order`: its number among the
/// notes to the same target; `sender`: the task that sends the note, with its item.
pub(super) fn message_of(
    source: ExecutionId,
    revision: i64,
    (index, order): (u32, u8),
    post: &Post,
    sender: Option<(Ordinal, Option<u32>)>,
    now: Timestamp,
) -> InboxMessage {
    let (kind, body) = match &post.note {
        Note::Cancel => (InboxKind::Cancel, None),
        Note::Pause => (InboxKind::Pause, None),
        Note::Resume => (InboxKind::Resume, None),
        Note::Retry => (InboxKind::Retry, None),
        Note::AttemptEnded(held) => (InboxKind::AttemptEnded, Json::encode(held).ok()),
        Note::ChildEnded(end) => (InboxKind::ChildEnded, Json::encode(end).ok()),
    };
    let (task, item) = sender.unwrap_or_default();
    let sender = Sender {
        parent: source,
        task,
        item,
    };
    let body = body.or_else(|| Json::encode(&sender).ok());
    let digest = Sha256::new()
        .chain_update(source.as_bytes())
        .chain_update(post.target.as_bytes())
        .chain_update(kind.name())
        .chain_update(revision.to_be_bytes())
        .chain_update(index.to_be_bytes())
        .finalize();
    // Messages are applied in the order of their ids, and the messages of one execution must be applied in the order of its
    // changes. So an id contains the time in microseconds, the revision, and the position in the change. The digest fills the
    // remaining bits, because if two messages had the same id, one of them would be lost.
    let mut bits = [0; 10];
    let below_millisecond = u16::try_from(now.0.rem_euclid(1000)).unwrap_or_default();
    bits[..2].copy_from_slice(&below_millisecond.to_be_bytes());
    let [.., high, low] = revision.to_be_bytes();
    bits[2..4].copy_from_slice(&[high & 0x3f, low]);
    bits[4..].copy_from_slice(&digest[..6]);
    bits[4] = (order.min(15) << 4) | (bits[4] & 0x0f);
    InboxMessage {
        id: InboxId::from_parts(now, bits),
        kind: kind.name().to_owned(),
        target: Some(post.target.to_string()),
        body: body.map(|body| body.to_string()),
        created_at: now,
        note: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn id_of(source: u64, revision: i64, place: (u32, u8), note: Note) -> InboxId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&source.to_be_bytes());
        let post = Post {
            target: ExecutionId::from_bytes([7; 16]),
            note,
        };
        let source = ExecutionId::from_bytes(bytes);
        message_of(source, revision, place, &post, None, Timestamp(1_234_567)).id
    }

    #[test]
    fn m4_notes_of_one_change_are_applied_in_their_order() {
        for source in 0..100 {
            let pause = id_of(source, 5, (0, 0), Note::Pause);
            let resume = id_of(source, 5, (1, 1), Note::Resume);
            let later = id_of(source, 6, (0, 0), Note::Pause);
            assert!(pause < resume && resume < later, "source {source}");
        }
    }

    #[test]
    fn m3_notes_of_the_same_microsecond_get_different_ids() {
        // If the ids differed in only 32 bits of a digest, two would be equal with a probability of about 0.17.
        let ids = (0..40_000).map(|source| id_of(source, 3, (0, 0), Note::Resume));
        assert_eq!(ids.collect::<BTreeSet<_>>().len(), 40_000);
    }
}
