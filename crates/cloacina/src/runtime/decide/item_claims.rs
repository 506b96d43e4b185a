//! Claims on map items: which items to claim, how to dispatch them, and how to rescue the items of dead runners (semantics K,
//! E2).

use std::sync::Arc;

use super::item_children::starts_of;
use super::items::end_of;
use crate::engine::{MapElements, is_suspect};
use crate::runtime::assignment::Executor;
use crate::runtime::dispatch::Dispatch;
use crate::runtime::maps::{MapKey, MapView, PendingItems};
use crate::runtime::message::TURN_ITEMS_WITH_OTHERS;
use crate::runtime::quarantine::Suspect;
use crate::runtime::step::{Signal, Step};
use crate::store::{ClaimClass, ClaimedItems, Committed, MapOutcome, QueueId, StoreError};
use crate::types::{Claim, ExecutionId, MapChange, MapRow, Ordinal, RunnerId};

/// Maximum number of items that one transaction claims for one executor, unless more workers are free. Larger transactions delay
/// other executions.
const LARGEST_CLAIM: usize = 256;
/// Maximum number of items that one transaction claims for one executor.
const LARGEST_CLAIM_FOR_WORKERS: usize = 512;
/// Maximum number of claimed items that wait for a worker of one executor. More of them would delay other executions, because many
/// items would then end in one transaction.
const ITEM_WINDOW: usize = 320;
/// Maximum number of items that one transaction claims in order to start their children.
const LARGEST_START: usize = 256;

impl Step {
    /// The claim of items for the next commit: the classes, each with the number of free workers.
    pub(in crate::runtime) fn item_claim(&mut self) -> (Vec<ClaimClass>, Vec<usize>) {
        if !self.registry.has_maps() {
            return Default::default();
        }
        let opens =
            |change: &MapChange| !matches!(change, MapChange::Close(_) | MapChange::Pause(_));
        let changes = self.batch.executions.values();
        let mut changes = changes.flat_map(|change| &change.changes.flow.maps);
        if changes.any(opens) || !self.batch.items.is_empty() {
            self.maps.set_stale();
        }
        if !self.maps.wants_claim(self.now) {
            return Default::default();
        }
        // A runner without items claims at least one, even if it is busy, so that other tasks do not starve maps.
        let least = usize::from(self.maps.holds_none());
        let rooms = Executor::ALL.map(|executor| Some(self.item_room(executor)?.max(least)));
        if rooms.iter().all(Option::is_none) {
            return Default::default();
        }
        let free = Executor::ALL.map(|executor| self.capacity.free_workers(executor).max(least));
        let classes = self.registry.classes();
        let mut wanted = (Vec::new(), Vec::new());
        let mut is_partial = false;
        for ((class, room), free) in classes.iter().zip(rooms).zip(free) {
            if class.queues.is_empty() {
                continue;
            }
            match room.filter(|room| *room > 0) {
                Some(limit) => {
                    wanted.0.push(ClaimClass {
                        limit,
                        ..class.clone()
                    });
                    wanted.1.push(free);
                }
                None => is_partial = true,
            }
        }
        self.maps.set_partial(is_partial);
        if let Some(starts) = self.registry.children_class(LARGEST_START) {
            wanted.0.push(starts);
            wanted.1.push(usize::MAX);
        }
        wanted
    }

    /// The number of items to claim for an executor. 0 if there is too little room for the query to be worth it.
    fn item_room(&self, executor: Executor) -> Option<usize> {
        let room = self.capacity.item_room(executor)?;
        let free = self.capacity.free_workers(executor);
        let waiting = self.capacity.queues().of(executor).waiting_items();
        let window = ITEM_WINDOW.saturating_sub(waiting);
        let window = if window < ITEM_WINDOW / 4 { 0 } else { window };
        let least = if self.batch.executions.is_empty() {
            LARGEST_CLAIM
        } else {
            TURN_ITEMS_WITH_OTHERS
        };
        let largest = free.clamp(least, LARGEST_CLAIM_FOR_WORKERS);
        Some(room.min(window.max(free)).min(largest))
    }

    /// Dispatches the items that the store claimed in the commit.
    pub(in crate::runtime) fn take_items(
        &mut self,
        committed: &Committed,
        dispatch: &mut Dispatch,
    ) {
        self.maps
            .note_claimed(committed.more_items, committed.items_due);
        if let Some(due) = committed.items_due {
            self.capacity.note_due(due);
        }
        if let Err(error) = self.adopt_items(&committed.items, dispatch) {
            // The claims are durable. The reconciler takes these items over once the database answers.
            tracing::warn!(%error, "cannot read executions whose items were claimed; they are read when the database answers again");
            self.signals.raise(Signal::Reconcile);
        }
    }

    /// Takes over items that this runner has claimed according to the database.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. In this case no item was taken over.
    fn adopt_items(
        &mut self,
        claimed: &[ClaimedItems],
        dispatch: &mut Dispatch,
    ) -> Result<(), StoreError> {
        self.load_open_maps(claimed)?;
        let limits = self.limits();
        for map in claimed {
            let row = &map.row;
            let (id, task) = (row.execution, row.task);
            self.maps.note_row(row.clone());
            if row.is_over() {
                self.retry.push(end_of(row));
                continue;
            }
            if row.queue == QueueId::CHILDREN.0 {
                self.retry.extend(starts_of(map));
                continue;
            }
            let handler = (self.registry.handler(row.definition, task))
                .filter(|_| !self.is_stopping && self.ledger.contains(id));
            let numbers = || map.items.iter().map(|item| item.item);
            let view = handler.and_then(|_| self.view_of_map((id, task), row, numbers()));
            for item in &map.items {
                let Some(claim) = item.claim() else {
                    continue;
                };
                let held = self.ledger.held(id, task, claim.item);
                if held.is_some_and(|held| held.claim == claim) {
                    // An attempt of an earlier generation is still running under an equal claim. When it ends, the reconciler
                    // takes this item over.
                    self.maps.drop_item((id, task, item.item));
                    continue;
                }
                self.maps.hold((id, task), row.generation, item.clone());
                if row.generation > 1 && self.is_occupied((id, task, claim)) {
                    // An item of an earlier generation has overrun its timeout, and its function is still running under an
                    // equal claim. It could record steps for this item, so this claim is returned. The next claim will be
                    // different.
                    self.release(id, task, claim, Executor::Threads);
                    continue;
                }
                let (Some(handler), Some(view)) = (handler, &view) else {
                    self.release(id, task, claim, Executor::Threads);
                    continue;
                };
                self.note_claim(id, task, claim, handler.executor);
                if is_suspect(item.rescues, limits) {
                    self.isolate(Suspect {
                        execution: id,
                        task,
                        claim,
                        executor: handler.executor,
                        rescues: None,
                    });
                } else {
                    self.assign_item((id, task), claim, view, dispatch);
                }
            }
        }
        Ok(())
    }

    /// Whether a worker of this runner is still running a function under a claim.
    fn is_occupied(&self, key: (ExecutionId, Ordinal, Claim)) -> bool {
        let queues = self.capacity.queues();
        Executor::ALL
            .iter()
            .any(|executor| queues.of(*executor).occupies(key))
    }

    /// Reads the executions of claimed items that are not in the cache, or that were cached before their map was expanded.
    /// Nothing else updates such a cached execution, because a claim of an item does not change the execution.
    fn load_open_maps(&mut self, claimed: &[ClaimedItems]) -> Result<(), StoreError> {
        let is_known = |map: &&ClaimedItems| {
            let row = &map.row;
            let known = self.ledger.get(row.execution);
            self.batch.executions.contains_key(&row.execution)
                || known.is_some_and(|known| known.has_open_generation(row.task, row.generation))
        };
        let stale = claimed.iter().filter(|map| !is_known(map));
        let mut stale: Vec<ExecutionId> = stale.map(|map| map.row.execution).collect();
        stale.dedup();
        for id in &stale {
            self.ledger.remove(*id);
        }
        self.load(&stale)
    }

    /// Prepares a claimed item for its executor's queue, with the context that the item receives.
    fn assign_item(
        &mut self,
        (id, task): MapKey,
        claim: Claim,
        view: &MapView,
        dispatch: &mut Dispatch,
    ) {
        let mut context = (*view.context).clone();
        for (name, value) in view.elements.item(claim.item.unwrap_or_default()) {
            context.set(name, value);
        }
        self.assign_with(id, task, claim, Arc::new(context), dispatch);
    }

    /// E2: dispatches a suspect, that is, an item that may have crashed its process. Called after the commit of the
    /// batch that counts the item's start. If the count was not stored, the item's claim is dropped.
    pub(super) fn start_suspect(
        &mut self,
        key: MapKey,
        pending: &PendingItems,
        outcome: &MapOutcome,
    ) {
        let Some(suspect) =
            (self.quarantine).take_started_item(key, |item| pending.written.contains(&item))
        else {
            return;
        };
        let is_lost = |item| outcome.lost.contains(&item);
        if !outcome.applied || suspect.claim.item.is_some_and(is_lost) {
            self.drop_claim(key.0, key.1, suspect.claim);
            self.quarantine.current = None;
            self.signals.raise(Signal::Reconcile);
            return;
        }
        self.dispatch_suspect(suspect);
    }

    /// E2: dispatches a suspect item, which must run alone. If the map's list cannot be read, or the execution is no longer in
    /// the cache, tries again in the next turn.
    pub(in crate::runtime) fn dispatch_suspect(&mut self, suspect: Suspect) {
        let key = (suspect.execution, suspect.task);
        let is_cached = self.ledger.contains(suspect.execution);
        let row = self.maps.row(key).filter(|_| is_cached).cloned();
        let view = row.and_then(|row| self.view_of_map(key, &row, suspect.claim.item));
        if let Some(view) = view {
            self.quarantine.current = Some(suspect);
            let mut dispatch = Dispatch::default();
            self.assign_item(key, suspect.claim, &view, &mut dispatch);
            self.dispatch(dispatch);
        } else {
            self.quarantine.current = None;
            self.quarantine.waiting.push_front(suspect);
            self.signals.raise(Signal::Reconcile);
        }
    }

    /// Returns the context of a map and its lists, split into items. For an aligned map, the result has only the elements of
    /// the given items. `None` if the lists cannot be read.
    pub(super) fn view_of_map(
        &mut self,
        key: MapKey,
        row: &MapRow,
        items: impl IntoIterator<Item = u32>,
    ) -> Option<MapView> {
        let known = self.maps.view(key, row.generation);
        if let Some(source) = row.source {
            let results = self.results_of_items(key.0, source, items).ok()?;
            let execution = self.ledger.get_mut(key.0)?;
            let spec = execution.workflow().task(key.1).over.clone()?;
            let context = if let Some(view) = known {
                view.context
            } else {
                let context = execution.view(key.1);
                self.with_map_results(key.0, key.1, context).ok()?
            };
            let view = MapView {
                elements: Arc::new(MapElements::of_results(&spec, results)),
                context,
            };
            // Later calls reuse only the context of this view.
            self.maps.keep_view(key, row.generation, view.clone());
            return Some(view);
        }
        if known.is_some() {
            return known;
        }
        let results = self.results_for_map(key.0, key.1).ok()?;
        let execution = self.ledger.get_mut(key.0)?;
        let elements = execution.split_lists(key.1, &results).ok()?;
        let context = execution.view(key.1);
        let view = MapView {
            elements: Arc::new(elements),
            context: self.with_map_results(key.0, key.1, context).ok()?,
        };
        self.maps.keep_view(key, row.generation, view.clone());
        Some(view)
    }

    /// Takes over the items that this runner has claimed according to the database, but that this process does not hold.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub(in crate::runtime) fn reconcile_items(&mut self) -> Result<(), StoreError> {
        if !self.registry.has_maps() {
            return Ok(());
        }
        let mut claimed = self.store.items_of(self.runner, usize::MAX)?;
        for map in &mut claimed {
            let (id, task) = (map.row.execution, map.row.task);
            map.items.retain(|item| {
                item.claim().is_some_and(|claim| {
                    let held = self.ledger.held(id, task, claim.item);
                    let is_held = held.is_some_and(|held| held.claim == claim);
                    !is_held && !self.ended.contains(&(id, task, claim))
                })
            });
        }
        let mut dispatch = Dispatch::default();
        let adopted = self.adopt_items(&claimed, &mut dispatch);
        self.dispatch(dispatch);
        adopted?;
        self.maps.set_stale();
        Ok(())
    }

    /// E2: takes back the items that a dead runner has claimed. Returns their number, and whether the items of a map were
    /// left for the next turn, because this turn already changes items of the map.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub(in crate::runtime) fn rescue_items(
        &mut self,
        dead: RunnerId,
        limit: usize,
    ) -> Result<(u32, bool), StoreError> {
        let claimed = self.store.items_of(dead, limit)?;
        self.load_open_maps(&claimed)?;
        let limits = self.limits();
        let (mut rescued, mut has_skipped) = (0, false);
        for map in claimed {
            let key = (map.row.execution, map.row.task);
            if self.batch.items.contains_key(&key) {
                // Items of this map change in this turn, so the next turn rescues the items of the dead runner.
                has_skipped = true;
                continue;
            }
            let Some(execution) = self.ledger.get(key.0) else {
                continue;
            };
            let records: Vec<_> = (map.items.iter())
                .filter_map(|item| {
                    let record = execution.rescue_item(key.1, item, limits, self.now);
                    Some((item.claim()?, record))
                })
                .collect();
            self.maps.note_row(map.row);
            for (fence, record) in records {
                rescued += 1;
                self.end_item(key, fence, record, None);
            }
        }
        Ok((rescued, has_skipped))
    }
}
