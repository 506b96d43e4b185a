//! Parameters and answers of the store requests about maps and their items (semantics K).

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
use super::StoreError;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::inbox::InboxKind;
use super::inbox::InboxMessage;

/// The writes of a batch that concern maps.
#[derive(Clone, Debug, Default)]
pub struct MapWrites {
    /// Changes of maps that follow from decisions about executions. A change of a map is applied only if the batch's
    /// change of the map's execution is applied.
    pub changes: Vec<(ExecutionId, MapChange)>,
    /// The ends of items, by map.
    pub ends: Vec<ItemEnds>,
    /// The items to claim, with one class for each kind of worker.
    pub claim: Vec<ClaimClass>,
    /// For each class, the number of free workers. If a map limits its running items (`parallel`), at most this many of
    /// its items are claimed, because an item that waits for a worker would count as running. If the list is empty,
    /// only the limit of the class applies.
    pub free: Vec<usize>,
}

impl MapWrites {
    /// Returns whether there is nothing to write and nothing to claim.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.ends.is_empty() && self.claim.is_empty()
    }

    /// Returns whether the writes are allowed only for a live runner.
    #[must_use]
    pub const fn needs_live_runner(&self) -> bool {
        !self.ends.is_empty() || !self.claim.is_empty()
    }
}

/// The ends of items of one map, and the steps that its running items record. The store does not write the ends and steps
/// of items whose holder has changed.
#[derive(Clone, Debug)]
pub struct ItemEnds {
    /// The execution.
    pub execution: ExecutionId,
    /// The mapped task.
    pub task: Ordinal,
    /// The generation of the map. If the map has another generation or has ended, nothing is applied.
    pub generation: u32,
    /// Whether these are the last items of the map, so that the batch also ends the map (K6). If the map's counters
    /// contradict this, the whole batch is refused with [`StoreError::MapMoved`](super::StoreError::MapMoved).
    pub is_last: bool,
    /// The items to write.
    pub items: Vec<ItemWrite>,
    /// Steps of running items. Each step is recorded only if its item still has the given claim.
    pub steps: Vec<(Claim, StepRecord)>,
    /// Messages that restart the child executions of items. A message is added only if its item's start was applied.
    pub posts: Vec<(ExecutionId, InboxMessage)>,
    /// Pairs of a source map and a map that is aligned with it. Each item of the aligned map processes the result of
    /// the source item with the same index, and is added when the source item ends. If the source map of a pair is
    /// itself aligned, the pair in which it is aligned comes first.
    pub feeds: Vec<(Ordinal, Ordinal)>,
    /// Messages of the inbox that report ends of children, each with its item. They are deleted even if the items do
    /// not expect these ends, but not if the map has another generation. If a message no longer exists, another
    /// runner has applied it, and the message's item is not written.
    pub settled: Vec<(InboxId, u32)>,
}

/// The holder of an item. A write is applied only if the item still has this holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFence {
    /// A runner, with the claim of an attempt.
    Claim(Claim),
    /// The child execution that the item has started.
    Child(ExecutionId),
}

impl ItemFence {
    /// Returns the id of the holder.
    #[must_use]
    pub fn holder(&self) -> uuid::Uuid {
        match self {
            Self::Claim(claim) => claim.runner.uuid(),
            Self::Child(child) => child.uuid(),
        }
    }

    /// Returns the attempt that the item must have. For a child, returns `None`: the child can run again for a later
    /// attempt, so any attempt is allowed.
    #[must_use]
    pub fn attempt(&self) -> Option<i64> {
        match self {
            Self::Claim(claim) => Some(claim.attempt.into()),
            Self::Child(_) => None,
        }
    }
}

/// A change of an item: the end of an attempt, the start of a child, or the end of the child. If the holder of the item
/// is not `fence`, the item stays unchanged and is not counted.
#[derive(Clone, Debug)]
pub struct ItemWrite {
    /// The holder of the item.
    pub fence: ItemFence,
    /// The item after the write.
    pub record: ItemRecord,
    /// For the start of a child: the item to store if the map does not allow the start.
    pub otherwise: Option<ItemRecord>,
}

impl ItemWrite {
    /// Returns the item to store. A child is not started while its map is paused or has failed.
    #[must_use]
    pub fn record_for(&self, row: &MapRow) -> &ItemRecord {
        (self.otherwise.as_ref())
            .filter(|_| !row.may_start())
            .unwrap_or(&self.record)
    }
}

/// The items that have ended in a transaction, by map. For each of these items, an item is added to each map that is
/// aligned with the ended item's map.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) struct EndedItems(Vec<(Ordinal, Vec<u32>)>);

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl EndedItems {
    /// Returns the items whose ends are in `ends`.
    pub(super) fn of(ends: &ItemEnds) -> Self {
        let records = ends.items.iter().map(|write| &write.record);
        let ended = records.filter(|record| record.status.is_terminal());
        Self(vec![(ends.task, ended.map(|record| record.item).collect())])
    }

    /// Adds items that were skipped.
    pub(super) fn note(&mut self, task: Ordinal, skipped: Vec<u32>) {
        if !skipped.is_empty() {
            self.0.push((task, skipped));
        }
    }

    /// Returns the ended items of a map, in order.
    pub(super) fn items(&self, task: Ordinal) -> Vec<u32> {
        let of_task = self.0.iter().filter(|(of, _)| *of == task);
        let mut items: Vec<u32> = of_task
            .flat_map(|(_, items)| items.iter().copied())
            .collect();
        items.sort_unstable();
        items
    }

    /// Returns the ended items of a map as ranges: the first item, and the item after the last one.
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

/// Returns the skipped items among the added items. `fed` contains each added item with its state.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn skipped_of(fed: &[(i64, i16)]) -> Vec<u32> {
    let skipped = TaskStatus::Skipped.code();
    let items = fed.iter().filter(|(_, state)| *state == skipped);
    items
        .filter_map(|(item, _)| u32::try_from(*item).ok())
        .collect()
}

/// Converts a count of items to `u32`. A larger count becomes `u32::MAX`.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn saturating_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Returns the children that were started by items whose writes were applied.
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

/// Returns the message that passes a change of a map on to the child of one of its items. Returns `None` for a note that
/// is not passed on. `position` is the position of the change in its batch.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn message_to_child(
    parent: ExecutionId,
    task: Ordinal,
    child: ExecutionId,
    note: &Note,
    (now, position): (Timestamp, usize),
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
    // Ids are chosen so that the messages to one execution have the same order as the changes that cause them.
    let mut bits = [0; 10];
    let below_millisecond = u16::try_from(now.0.rem_euclid(1000)).unwrap_or_default();
    bits[..2].copy_from_slice(&below_millisecond.to_be_bytes());
    let position = u16::try_from(position).unwrap_or(u16::MAX).min(0x3fff);
    bits[2..4].copy_from_slice(&position.to_be_bytes());
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

/// The outcome of writing the ends of a map's items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapOutcome {
    /// Whether the ends were applied. If not, the map has ended or has expanded again, or its execution has changed.
    pub applied: bool,
    /// The map after the batch, if it exists.
    pub row: Option<MapRow>,
    /// The items whose claims were lost: their ends and steps were dropped. Also contains the items whose children were
    /// not started, because the map is paused or has failed.
    pub lost: Vec<u32>,
    /// Aligned maps that have nothing left to run, because their remaining items were skipped. The runner must end
    /// these maps.
    pub over: Vec<MapRow>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl MapOutcome {
    /// Returns the outcome of ends that are not written, because the map has ended or has another generation. `row` is
    /// the stored map, and `is_last` tells whether the batch also ends the map.
    ///
    /// # Errors
    /// Returns `MapMoved` if the batch also ends the map, because the whole batch must then be refused.
    pub(super) fn not_written(row: Option<MapRow>, is_last: bool) -> Result<Self, StoreError> {
        if is_last {
            return Err(StoreError::MapMoved(Vec::new()));
        }
        Ok(Self {
            row,
            ..Self::default()
        })
    }
}

/// Items of one map that were claimed for the runner of the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedItems {
    /// The map after the claim.
    pub row: MapRow,
    /// The items, in the order of the list.
    pub items: Vec<ItemRecord>,
}

/// Selects a page of the items of a map. Items without a row are left out.
#[derive(Clone, Copy, Debug)]
pub struct ItemQuery {
    /// The execution.
    pub execution: ExecutionId,
    /// The mapped task.
    pub task: Ordinal,
    /// Only items in this state are returned.
    pub status: Option<TaskStatus>,
    /// The index of the first item that can be returned. For [`ItemsBefore`](super::Request::ItemsBefore), all returned
    /// items come before this index.
    pub from: u32,
    /// Maximum number of items.
    pub limit: usize,
}
