//! The maps that this runner knows: their counters as of the runner's last transaction, the items that it has claimed,
//! and their lists (semantics K).
//!
//! The generation of a map is the number of times that its list was read.

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::message::Message;
use crate::engine::MapElements;
use crate::store::{InboxMessage, ItemEnds, ItemWrite};
use crate::types::{
    Claim, Context, ExecutionId, InboxId, ItemRecord, MapRow, MapState, Ordinal, StepRecord,
    Timestamp,
};

/// Identifies a map.
pub(super) type MapKey = (ExecutionId, Ordinal);
/// Identifies an item.
pub(super) type ItemKey = (ExecutionId, Ordinal, u32);

/// Maximum number of maps whose split lists are cached.
const LISTS: usize = 8;
/// Number of known maps above which the counters of maps without claimed items are forgotten.
const MAX_IDLE: usize = 256;

/// A map's lists, split into items, and the context that all items receive.
#[derive(Clone)]
pub(super) struct MapView {
    pub(super) elements: Arc<MapElements>,
    pub(super) context: Arc<Context>,
}

/// The maps of a runner.
pub(super) struct Maps {
    rows: FxHashMap<MapKey, MapRow>,
    held: FxHashMap<ItemKey, (u32, ItemRecord)>,
    views: Vec<(MapKey, u32, MapView)>,
    /// Whether the database may have claimable items that this process does not know of.
    is_stale: bool,
    /// Whether the claim of this turn leaves out executors that currently have no room.
    is_partial: bool,
    /// Whether maps were added or removed after the last call of [`changed_keys`](Self::changed_keys).
    has_changed: bool,
    /// The due time of the next item that waits for another attempt.
    due: Option<Timestamp>,
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            rows: FxHashMap::default(),
            held: FxHashMap::default(),
            views: Vec::new(),
            is_stale: true,
            is_partial: false,
            has_changed: true,
            due: None,
        }
    }
}

impl Maps {
    /// Notes that there may be items to claim.
    pub(super) const fn set_stale(&mut self) {
        self.is_stale = true;
    }

    /// Whether a claim of items is likely to find any.
    pub(super) fn wants_claim(&self, now: Timestamp) -> bool {
        self.is_stale || self.due.is_some_and(|due| due <= now)
    }

    /// Notes whether the next claim leaves out executors that currently have no room. Items for these executors are claimed
    /// later.
    pub(super) const fn set_partial(&mut self, is_partial: bool) {
        self.is_partial = is_partial;
    }

    /// Notes the result of a claim.
    pub(super) const fn note_claimed(&mut self, more: bool, due: Option<Timestamp>) {
        self.is_stale = more || self.is_partial;
        self.due = due;
    }

    /// Whether this process holds no claims on items.
    pub(super) fn holds_none(&self) -> bool {
        self.held.is_empty()
    }

    /// Notes the counters of a map, or forgets them if the map has ended.
    pub(super) fn note_row(&mut self, row: MapRow) {
        let key = (row.execution, row.task);
        if row.state == MapState::Ended {
            self.has_changed |= self.rows.remove(&key).is_some();
            self.views.retain(|(known, ..)| *known != key);
        } else {
            self.has_changed |= self.rows.insert(key, row).is_none();
        }
    }

    /// The counters of a map, from the last transaction of this runner that concerned the map.
    pub(super) fn row(&self, key: MapKey) -> Option<&MapRow> {
        self.rows.get(&key)
    }

    /// Forgets the counters of a map, because they are out of date.
    pub(super) fn forget_row(&mut self, key: MapKey) {
        self.rows.remove(&key);
    }

    /// If many maps are known, forgets the counters of maps without claimed items. This is needed because the runner does not
    /// notice when such a map ends in another process.
    pub(super) fn forget_idle(&mut self) {
        if self.rows.len() > MAX_IDLE {
            let busy: FxHashSet<MapKey> =
                self.held.keys().map(|(id, task, _)| (*id, *task)).collect();
            self.rows.retain(|key, _| busy.contains(key));
            self.has_changed = true;
        }
    }

    /// The maps whose counters are known. `None` if they are the same as at the last call.
    pub(super) fn changed_keys(&mut self) -> Option<Vec<MapKey>> {
        std::mem::take(&mut self.has_changed).then(|| self.rows.keys().copied().collect())
    }

    /// Forgets a map that has ended.
    pub(super) fn forget(&mut self, key: MapKey) {
        self.has_changed |= self.rows.remove(&key).is_some();
        self.views.retain(|(known, ..)| *known != key);
        self.held.retain(|(id, task, _), _| (*id, *task) != key);
    }

    /// Forgets the maps of an execution that has ended in another process.
    pub(super) fn forget_execution(&mut self, id: ExecutionId) {
        let known = self.rows.len();
        self.rows.retain(|(of, _), _| *of != id);
        self.has_changed |= self.rows.len() < known;
        self.views.retain(|((of, _), ..)| *of != id);
        self.held.retain(|(of, ..), _| *of != id);
    }

    /// Notes an item that this process has claimed, with the generation of its map.
    pub(super) fn hold(&mut self, key: MapKey, generation: u32, item: ItemRecord) {
        self.held
            .insert((key.0, key.1, item.item), (generation, item));
    }

    /// The item that this process holds under a claim. Ignores items of earlier generations, because such an item can have the
    /// same claim as an item of the current generation.
    pub(super) fn held(&self, key: MapKey, claim: Claim) -> Option<&ItemRecord> {
        let (generation, item) = self.held.get(&(key.0, key.1, claim.item?))?;
        let is_current = self.rows.get(&key)?.generation == *generation;
        (is_current && item.claim() == Some(claim)).then_some(item)
    }

    /// Drops an item whose end is durable, or whose claim was lost.
    pub(super) fn drop_item(&mut self, key: ItemKey) {
        self.held.remove(&key);
    }

    /// The split lists of a map.
    pub(super) fn view(&self, key: MapKey, generation: u32) -> Option<MapView> {
        let mut known = self.views.iter();
        known
            .find(|(known, of, _)| *known == key && *of == generation)
            .map(|(.., view)| view.clone())
    }

    /// Caches the split lists of a map.
    pub(super) fn keep_view(&mut self, key: MapKey, generation: u32, view: MapView) {
        self.views.retain(|(known, ..)| *known != key);
        if self.views.len() == LISTS {
            self.views.remove(0);
        }
        self.views.push((key, generation, view));
    }

    /// Forgets all maps.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The changes of one map's items in a write batch: ended items and recorded steps.
#[derive(Default)]
pub(super) struct PendingItems {
    pub(super) generation: u32,
    pub(super) ends: Vec<ItemWrite>,
    pub(super) steps: Vec<(Claim, StepRecord)>,
    /// The messages that make children of items run again, each with the child.
    pub(super) posts: Vec<(ExecutionId, InboxMessage)>,
    /// The inbox messages that this batch applies and deletes, each with its item. Each message says that the child of the
    /// item has ended.
    pub(super) settled: Vec<(InboxId, u32)>,
    /// The numbers of the items that this batch writes.
    pub(super) written: FxHashSet<u32>,
    /// The messages to decide again if the batch is not written.
    pub(super) messages: Vec<Message>,
    /// Whether the batch also ends the map.
    pub(super) is_last: bool,
    /// The maps that are aligned with this map, directly or through another map, each with its source.
    pub(super) feeds: Vec<(Ordinal, Ordinal)>,
}

/// The changes of items in a write batch, by map.
pub(super) type PendingMaps = IndexMap<MapKey, PendingItems, FxBuildHasher>;

/// Returns the changes of items as parameters of the store.
pub(super) fn ends_of(maps: &PendingMaps) -> Vec<ItemEnds> {
    let ends = maps.iter().map(|((execution, task), pending)| ItemEnds {
        execution: *execution,
        task: *task,
        generation: pending.generation,
        is_last: pending.is_last,
        feeds: pending.feeds.clone(),
        items: pending.ends.clone(),
        steps: pending.steps.clone(),
        posts: pending.posts.clone(),
        settled: pending.settled.clone(),
    });
    ends.collect()
}
