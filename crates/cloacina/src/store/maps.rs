//! Parameters and answers of the requests about maps and their items (semantics K).

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::collections::HashSet;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use sha2::{Digest, Sha256};

use crate::types::{
    Claim, ExecutionId, InboxId, ItemRecord, MapChange, MapRow, Ordinal, StepRecord, TaskStatus,
};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::types::{Note, Timestamp};

use super::ClaimClass;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::inbox::InboxKind;
use super::inbox::InboxMessage;

/// The writes of a batch that concern maps.
#[derive(Clone, Debug, Default)]
pub struct MapWrites {
    /// The meaning of decisions about executions for their maps. Each is applied if the batch's change of its execution is.
    pub changes: Vec<(ExecutionId, MapChange)>,
    /// The ends of items, by map.
    pub ends: Vec<ItemEnds>,
    /// The items to claim, with one class per kind of worker.
    pub claim: Vec<ClaimClass>,
    /// By class, the maximum number of items to claim of maps with a bound on the items that run at once: that of the free
    /// workers, so that no item is counted that only waits for a worker. Empty: that of the class.
    pub free: Vec<usize>,
}

impl MapWrites {
    /// Whether there is nothing to write and nothing to claim.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.ends.is_empty() && self.claim.is_empty()
    }

    /// Whether only a live runner may write this.
    #[must_use]
    pub const fn needs_live_runner(&self) -> bool {
        !self.ends.is_empty() || !self.claim.is_empty()
    }
}

/// The ends of items of one map, and steps that its running items record. They are applied together or not at all.
#[derive(Clone, Debug)]
pub struct ItemEnds {
    /// The execution.
    pub execution: ExecutionId,
    /// The mapped task.
    pub task: Ordinal,
    /// The generation of the map. Nothing is applied to another one, or to a map that has ended.
    pub generation: u32,
    /// Whether the batch also ends the map, because these are its last items (K6). If the counters say otherwise, the whole batch
    /// is refused with [`StoreError::MapMoved`](super::StoreError::MapMoved).
    pub is_last: bool,
    /// The items.
    pub items: Vec<ItemWrite>,
    /// Steps of running items, each with the claim that the item must have.
    pub steps: Vec<(Claim, StepRecord)>,
    /// Messages to children that items start again. Each is added if the item's start was applied.
    pub posts: Vec<(ExecutionId, InboxMessage)>,
    /// The maps that are aligned with this one, each with its source: they get the items whose elements these ends are. A map
    /// that is aligned with such a one is among them, behind it.
    pub feeds: Vec<(Ordinal, Ordinal)>,
    /// Messages of the inbox that tell the ends of children. They are deleted also if the items do not expect those ends.
    pub settled: Vec<InboxId>,
}

/// The holder that an item must have for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFence {
    /// A runner, by the claim of an attempt.
    Claim(Claim),
    /// The child that the item has started.
    Child(ExecutionId),
}

impl ItemFence {
    /// The id of the holder.
    #[must_use]
    pub fn holder(&self) -> uuid::Uuid {
        match self {
            Self::Claim(claim) => claim.runner.uuid(),
            Self::Child(child) => child.uuid(),
        }
    }

    /// The attempt, if it matters: a child may run again for a later one.
    #[must_use]
    pub fn attempt(&self) -> Option<i64> {
        match self {
            Self::Claim(claim) => Some(claim.attempt.into()),
            Self::Child(_) => None,
        }
    }
}

/// The end of a claimed item's attempt, or the start of its child. An item with another holder is left as it is, and not
/// counted.
#[derive(Clone, Debug)]
pub struct ItemWrite {
    /// The holder of the item.
    pub fence: ItemFence,
    /// The item afterwards.
    pub record: ItemRecord,
    /// Of the start of a child: the item if the map does not let it start.
    pub otherwise: Option<ItemRecord>,
}

impl ItemWrite {
    /// The item to store: a child is not started while its map is paused or has failed.
    #[must_use]
    pub fn record_for(&self, row: &MapRow) -> &ItemRecord {
        (self.otherwise.as_ref())
            .filter(|_| !row.may_start())
            .unwrap_or(&self.record)
    }
}

/// The items that have ended in a transaction, by map, for the maps that are aligned with it.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) struct Fed(Vec<(Ordinal, Vec<u32>)>);

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Fed {
    /// The items that a map's own ends have ended.
    pub(super) fn of(ends: &ItemEnds) -> Self {
        let records = ends.items.iter().map(|write| &write.record);
        let ended = records.filter(|record| record.status.is_terminal());
        Self(vec![(ends.task, ended.map(|record| record.item).collect())])
    }

    /// Notes items that were skipped.
    pub(super) fn note(&mut self, task: Ordinal, skipped: Vec<u32>) {
        if !skipped.is_empty() {
            self.0.push((task, skipped));
        }
    }

    /// The ended items of a map.
    pub(super) fn items(&self, task: Ordinal) -> Vec<u32> {
        let of_task = self.0.iter().filter(|(of, _)| *of == task);
        let mut items: Vec<u32> = of_task
            .flat_map(|(_, items)| items.iter().copied())
            .collect();
        items.sort_unstable();
        items
    }

    /// The ended items of a map as ranges: the first one, and the one behind the last.
    #[cfg(feature = "sqlite")]
    pub(super) fn ranges(&self, task: Ordinal) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for item in self.items(task) {
            match ranges.last_mut() {
                Some((_, end)) if *end == item => *end += 1,
                _ => ranges.push((item, item + 1)),
            }
        }
        ranges
    }
}

/// The skipped ones of items that were added, each with its state.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn skipped_of(fed: &[(i64, i16)]) -> Vec<u32> {
    let skipped = TaskStatus::Skipped.code();
    let items = fed.iter().filter(|(_, state)| *state == skipped);
    items
        .filter_map(|(item, _)| u32::try_from(*item).ok())
        .collect()
}

/// A number of items.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The children whose items were started by writes that were applied.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn started(ends: &[ItemEnds], outcomes: &[MapOutcome]) -> HashSet<ExecutionId> {
    let applied = ends
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| outcome.applied);
    let children = applied.flat_map(|(ends, outcome)| {
        let starts = ends.items.iter().filter(|write| {
            write.otherwise.is_some() && !outcome.lost.contains(&write.record.item)
        });
        starts.filter_map(|write| write.record.child)
    });
    children.collect()
}

/// The message that tells the child of an item something that concerns all items of its map. `place`: that of the change in its
/// batch.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn message_to_child(
    parent: ExecutionId,
    task: Ordinal,
    child: ExecutionId,
    note: &Note,
    (now, place): (Timestamp, usize),
) -> Option<InboxMessage> {
    let kind = match note {
        Note::Cancel => InboxKind::Cancel,
        Note::Pause => InboxKind::Pause,
        Note::Resume => InboxKind::Resume,
        Note::Retry | Note::ChildEnded(_) | Note::AttemptEnded(_) => return None,
    };
    let digest = Sha256::new()
        .chain_update(parent.as_bytes())
        .chain_update(child.as_bytes())
        .chain_update(kind.name())
        .finalize();
    // The messages of one execution are applied in the order of its changes.
    let mut bits = [0; 10];
    let below_millisecond = u16::try_from(now.0.rem_euclid(1000)).unwrap_or_default();
    bits[..2].copy_from_slice(&below_millisecond.to_be_bytes());
    let place = u16::try_from(place).unwrap_or(u16::MAX).min(0x3fff);
    bits[2..4].copy_from_slice(&place.to_be_bytes());
    bits[4..].copy_from_slice(&digest[..6]);
    Some(InboxMessage {
        id: InboxId::from_parts(now, bits),
        kind: kind.name().to_owned(),
        target: Some(child.to_string()),
        body: Some(format!(r#"{{"parent":"{parent}","task":{task}}}"#)),
        created_at: now,
        note: None,
    })
}

/// The outcome of the ends of a map's items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapOutcome {
    /// Whether they were applied. If not, the map has ended, was read again, or its execution was changed meanwhile.
    pub applied: bool,
    /// The map after the batch, if there is one.
    pub row: Option<MapRow>,
    /// The items whose claim was lost. Their ends and steps were dropped.
    pub lost: Vec<u32>,
    /// The aligned maps that end now, because the rest of their items are skipped. The runner ends them.
    pub over: Vec<MapRow>,
}

/// Items of one map that were claimed for the batch's runner.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedItems {
    /// The map after the claim.
    pub row: MapRow,
    /// The items, in the order of the list.
    pub items: Vec<ItemRecord>,
}

/// A page of a map's items that have a row.
#[derive(Clone, Copy, Debug)]
pub struct ItemQuery {
    /// The execution.
    pub execution: ExecutionId,
    /// The mapped task.
    pub task: Ordinal,
    /// Only items in this state.
    pub status: Option<TaskStatus>,
    /// The index of the first item that may be returned; in [`ItemsBefore`](super::Request::ItemsBefore) the index before which
    /// the items end.
    pub from: u32,
    /// Maximum number of items.
    pub limit: usize,
}
