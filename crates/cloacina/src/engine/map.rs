//! Maps: how a map expands into items, and how its items and the map itself end (semantics K).
//!
//! A mapped task is one row of the queue. While its items run, the task waits like a node without a function. A separate
//! row counts the items, so that the execution's own rows change only when the map expands and when it ends.

use std::sync::Arc;

use super::control::seconds_text;
use super::map_elements::MapElements;
use super::path::lookup;
use super::recovery::{is_suspect, without_probe};
use super::{Changes, Execution, Finish, NEVER, Outcome, TaskLimits, retry_delay, should_retry};
use crate::types::{
    Claim, Delta, Failure, FailureKind, ItemRecord, Json, MapChange, MapRow, MapState, Micros,
    Note, OpenWait, Ordinal, Pause, TaskMap, TaskStatus, TaskWait, Timestamp,
};
use crate::workflow::queue;

impl Execution {
    /// Whether the items of a task are running: the task is a map that has expanded and has not ended.
    #[must_use]
    pub fn has_open_map(&self, ordinal: Ordinal) -> bool {
        let task = self.task(ordinal);
        task.is_waiting()
            && self
                .task_map(ordinal)
                .is_some_and(|map| map.width.is_some())
    }

    /// Whether the items of a task are running and belong to this generation of the map's list. The generation is the
    /// number of times that the list was read.
    #[must_use]
    pub fn has_open_generation(&self, ordinal: Ordinal, generation: u32) -> bool {
        let map = self.task_map(ordinal);
        self.has_open_map(ordinal) && map.is_some_and(|map| map.generation == generation)
    }

    /// The generation of a map's list, and the map's number of items. `None`: the task has not become ready as a map.
    #[must_use]
    pub fn task_map(&self, ordinal: Ordinal) -> Option<TaskMap> {
        self.task(ordinal).wait.as_ref()?.map
    }

    /// Whether a map has read a list with at least one element.
    pub(super) fn has_items(&self, ordinal: Ordinal) -> bool {
        let map = self.task_map(ordinal);
        map.and_then(|map| map.width).is_some_and(|width| width > 0)
    }

    /// K1: makes a mapped task ready. The map expands in the same transaction, or later if the execution has a start time
    /// or the map reads results of another map without being aligned with it. A map that keeps its list opens again (K10).
    pub(super) fn register_map(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        let start_at = self.record.start_at.filter(|at| *at > now);
        let task = self.task_mut(ordinal);
        let mut wait = task
            .wait
            .take()
            .map_or_else(TaskWait::default, Arc::unwrap_or_clone);
        wait.open = Some(OpenWait {
            since: now,
            deadline: None,
            leaves: Vec::new(),
            park: None,
            title: None,
        });
        let expanded = wait.map.filter(|map| map.width.is_some());
        wait.map.get_or_insert(TaskMap {
            generation: 0,
            width: None,
        });
        task.wait = Some(Arc::new(wait));
        task.status = TaskStatus::Ready;
        task.ready_at = Some(start_at.unwrap_or(NEVER));
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
        if expanded.is_some() {
            // K10: completed items keep their results. The other items run again.
            task.ready_at = Some(NEVER);
            task.attempt += 1;
            task.started_at = Some(now);
            changes.flow.maps.push(MapChange::Reopen(ordinal));
            self.start_by_waiting(now, changes);
        } else if self.workflow.source_of(ordinal).is_none()
            && !self.maps_it_reads(ordinal).is_empty()
        {
            // This map runs over the results of another map, whose last items are not durable yet. So this map expands
            // in a later turn.
            self.task_mut(ordinal).ready_at = Some(start_at.unwrap_or(now));
        } else if start_at.is_none() {
            changes.flow.expands.insert(ordinal);
        }
    }

    /// Postpones the expansion of a map to the time `at`, because the results that the map runs over cannot be read now.
    pub fn postpone_map(&mut self, ordinal: Ordinal, at: Timestamp, changes: &mut Changes) {
        self.task_mut(ordinal).ready_at = Some(at);
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
    }

    /// K1, K2: expands a ready map. A list that cannot be used fails the task, and an empty list completes it.
    /// `results`: the results of other maps that this map runs over; `max_items`: the maximum number of items.
    pub fn expand_map(
        &mut self,
        ordinal: Ordinal,
        results: &[(String, Json)],
        max_items: u32,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let Some(map) = self.task_map(ordinal) else {
            return;
        };
        let is_due = self.task(ordinal).status == TaskStatus::Ready
            && self.task(ordinal).is_waiting()
            && map.width.is_none();
        if !is_due {
            return;
        }
        self.start_by_waiting(now, changes);
        let split = match (self.depth_problem(ordinal), self.width_of_source(ordinal)) {
            (Some(problem), _) => Err(problem),
            (None, Some(width)) => Ok(width as usize),
            (None, None) => (self.split_lists(ordinal, results)).map(|lists| lists.width()),
        };
        let id = &self.definition(ordinal).id;
        let width = match split {
            Err(problem) => Err(problem),
            Ok(width) if width > max_items as usize => Err(format!(
                "task '{id}' runs over a list of {width} items, more than max_map_items {max_items}; \
                 set batch= on the task, or raise max_map_items"
            )),
            Ok(width) => Ok(u32::try_from(width).unwrap_or(u32::MAX)),
        };
        let task = self.task_mut(ordinal);
        task.ready_at = Some(NEVER);
        task.attempt += 1;
        task.started_at = Some(now);
        let generation = map.generation + 1;
        let width = match width {
            Ok(width) => width,
            Err(problem) => {
                self.close_map_wait(ordinal, None, generation, changes);
                let failure = Failure::engine(FailureKind::Rule, problem);
                return self.fail_task(ordinal, failure, now, changes);
            }
        };
        let row = self.new_row(ordinal, generation, width);
        if width == 0 {
            changes.flow.maps.push(MapChange::Expand(Box::new(MapRow {
                state: MapState::Ended,
                ..row
            })));
            self.close_map_wait(ordinal, Some(0), generation, changes);
            return self.complete(ordinal, Arc::new(Delta::default()), now, changes);
        }
        changes.flow.maps.push(MapChange::Expand(Box::new(row)));
        let expanded = TaskMap {
            generation,
            width: Some(width),
        };
        self.change_wait(ordinal, |wait| wait.map = Some(expanded), changes);
        self.begin_followers(ordinal, now, changes);
    }

    fn new_row(&self, ordinal: Ordinal, generation: u32, width: u32) -> MapRow {
        let spec = self.definition(ordinal).over.clone().unwrap_or_default();
        MapRow {
            execution: self.record.id,
            task: ordinal,
            definition: self.record.definition,
            generation,
            state: MapState::Open,
            width,
            source: (self.width_of_source(ordinal)).and_then(|_| self.workflow.source_of(ordinal)),
            has_all: false,
            admitted: 0,
            skipped: 0,
            running: 0,
            done: 0,
            failed: 0,
            parallel: spec.parallel,
            max_failed: spec.tolerate.map(|tolerate| tolerate.of(width)),
            queue: if self.starts_children(ordinal) {
                queue::CHILDREN
            } else {
                self.workflow.queue(ordinal)
            },
            priority: self.priority(ordinal),
            first_failure: None,
        }
    }

    /// Returns the lists of a mapped task, split into items.
    ///
    /// # Errors
    /// Returns the error text of [`MapElements::split`].
    pub fn split_lists(
        &mut self,
        ordinal: Ordinal,
        results: &[(String, Json)],
    ) -> Result<MapElements, String> {
        let mut view = self.view(ordinal);
        if !results.is_empty() {
            let mut with_results = (*view).clone();
            for (key, list) in results {
                with_results.set(key.as_str(), list.clone());
            }
            view = Arc::new(with_results);
        }
        let definition = self.definition(ordinal);
        let spec = definition.over.clone().unwrap_or_default();
        MapElements::split(&definition.id, &spec, &view).map_err(|problem| {
            let mut paths = (spec.lists.values()).filter(|path| lookup(&view, path).is_none());
            let absent = paths.find_map(|path| Some((path, self.absent_result(ordinal, path)?)));
            absent.map_or(problem, |(path, absent)| {
                format!(
                    "task '{}' runs over the list '{path}', but {absent}",
                    definition.id
                )
            })
        })
    }

    fn close_map_wait(
        &mut self,
        ordinal: Ordinal,
        width: Option<u32>,
        generation: u32,
        changes: &mut Changes,
    ) {
        self.change_wait(
            ordinal,
            |wait| {
                wait.open = None;
                wait.map = Some(TaskMap { generation, width });
            },
            changes,
        );
        self.task_mut(ordinal).ready_at = None;
    }

    /// K3: returns an item's state after the end of its attempt. `random` in 0..1 selects the delay of a retry within its
    /// jitter.
    #[must_use]
    pub fn finish_item(
        &self,
        item: &ItemRecord,
        finish: &Finish,
        limits: TaskLimits,
        now: Timestamp,
        random: f64,
    ) -> ItemRecord {
        let ordinal = finish.task;
        let definition = self.definition(ordinal);
        let counted = item.attempt.saturating_sub(item.uncounted);
        let is_released = matches!(finish.outcome, Outcome::Released);
        let mut next = ItemRecord {
            runner: None,
            ready_at: None,
            started_at: finish.started_at.or(item.started_at),
            rescues: without_probe(item.rescues, is_released, limits),
            ..item.clone()
        };
        let (failure, delay) = match &finish.outcome {
            Outcome::Completed(delta) => {
                let value = delta.set.get(definition.result_key()).cloned();
                let value = value.unwrap_or_else(|| Json::from_encoder("null"));
                let limit = (definition.max_context_bytes).unwrap_or(limits.max_context_bytes);
                let size = value.as_str().len();
                if size as u64 <= limit {
                    next.status = TaskStatus::Completed;
                    next.ended_at = Some(now);
                    next.result = Some(value);
                    next.error = None;
                    return next;
                }
                let text = format!(
                    "item '{}[{}]' returned {size} bytes, more than max_context_bytes {limit}; \
                     store large data in a file or a table, and return its name",
                    definition.id, item.item
                );
                (Failure::engine(FailureKind::ContextTooLarge, text), None)
            }
            Outcome::Failed(failure) => {
                let delay = should_retry(&definition.retry, failure, counted)
                    .then(|| retry_delay(&definition.retry, counted, random));
                (failure.clone(), delay)
            }
            Outcome::Retry { after, failure } => {
                let delay = (counted < definition.retry.max_attempts).then(|| {
                    after.unwrap_or_else(|| retry_delay(&definition.retry, counted, random))
                });
                (failure.clone(), delay)
            }
            Outcome::Snooze { after } => {
                next.status = TaskStatus::Ready;
                next.attempt -= 1;
                next.ready_at = Some(self.timers_at(now) + *after);
                return next;
            }
            Outcome::Released => {
                next.status = TaskStatus::Ready;
                // An attempt for an item of an earlier list may still run under this claim, so the next claim must have
                // another attempt number.
                if (self.task_map(ordinal)).is_some_and(|map| map.generation > 1) {
                    next.uncounted += 1;
                } else {
                    next.attempt -= 1;
                }
                next.ready_at = Some(self.timers_at(now));
                return next;
            }
            Outcome::Starting { .. } => (self.not_in_items(ordinal, item, "start"), None),
            Outcome::Park(park) => (self.not_in_items(ordinal, item, &park.key), None),
        };
        let mut failure = failure;
        failure.lineage = Vec::new();
        next.error = Some(failure);
        if let Some(delay) = delay {
            next.status = TaskStatus::Ready;
            next.ready_at = Some(self.timers_at(now) + delay);
        } else {
            next.status = TaskStatus::Failed;
            next.ended_at = Some(now);
        }
        next
    }

    /// The failure of an item that waits or starts executions. Only whole tasks can wait or start executions.
    fn not_in_items(&self, ordinal: Ordinal, item: &ItemRecord, what: &str) -> Failure {
        let text = format!(
            "item '{}[{}]' failed at call '{what}': an item of a map cannot wait, and cannot start other executions; \
             start a child execution for each element, because the tasks of a child can do both",
            self.definition(ordinal).id,
            item.item
        );
        Failure::engine(FailureKind::Rule, text)
    }

    /// The failure of an item whose attempt overran its timeout, for [`finish_item`](Self::finish_item).
    #[must_use]
    pub fn item_timeout(&self, ordinal: Ordinal, claim: Claim, timeout: Micros) -> Failure {
        let seconds = seconds_text(timeout);
        let item = claim.item.unwrap_or_default();
        let id = &self.definition(ordinal).id;
        let text = format!("item '{id}[{item}]' did not end within its timeout of {seconds}");
        Failure::engine(FailureKind::TaskTimeout, text)
    }

    /// K3, E2: returns the state of an item after its runner died.
    #[must_use]
    pub fn rescue_item(
        &self,
        ordinal: Ordinal,
        item: &ItemRecord,
        limits: TaskLimits,
        now: Timestamp,
    ) -> ItemRecord {
        let mut next = ItemRecord {
            status: TaskStatus::Ready,
            uncounted: item.uncounted + 1,
            // The loss of a suspect (see `recovery`) is not counted here. If the suspect was started, its start has already
            // been counted. If it was not started, it did not crash the runner.
            rescues: item.rescues + u32::from(!is_suspect(item.rescues, limits)),
            runner: None,
            ready_at: Some(self.timers_at(now)),
            ..item.clone()
        };
        if next.rescues > limits.max_rescues {
            let id = &self.definition(ordinal).id;
            let text = format!(
                "item '{id}[{}]' lost its runner {} times, more than max_rescues {}; it may be crashing the process",
                item.item, next.rescues, limits.max_rescues
            );
            next.status = TaskStatus::Failed;
            next.ready_at = None;
            next.ended_at = Some(now);
            next.error = Some(Failure::engine(FailureKind::RunnerLost, text));
        }
        next
    }

    /// K6, K8: ends a map. `row`: the map's counters; [`MapRow::is_over`] must be true for them. Returns `false` if the
    /// task is not an open map of the row's generation. Also returns `false` if the map's source is still open and the map
    /// tolerates the failures of its items.
    pub fn end_map(
        &mut self,
        ordinal: Ordinal,
        row: &MapRow,
        now: Timestamp,
        changes: &mut Changes,
    ) -> bool {
        let map = self.task_map(ordinal);
        if !self.has_open_map(ordinal) || map.is_none_or(|map| map.generation != row.generation) {
            return false;
        }
        let tolerates = row.failed == 0 || row.max_failed.is_some_and(|max| row.failed <= max);
        if tolerates && self.has_open_source(row) {
            // `row` says that the source has ended, so another runner ended it and this execution is out of date.
            return false;
        }
        changes.touch(ordinal);
        self.close_map_wait(ordinal, Some(row.width), row.generation, changes);
        if tolerates && self.lacks_source(row) {
            self.skip_map(ordinal, now, changes);
        } else if tolerates {
            self.complete(ordinal, Arc::new(Delta::default()), now, changes);
        } else {
            let failure = self.map_failure(ordinal, row);
            self.fail_task(ordinal, failure, now, changes);
        }
        true
    }

    /// The failure of a map: the error of the first failed item, with the number of failed items.
    fn map_failure(&self, ordinal: Ordinal, row: &MapRow) -> Failure {
        let id = &self.definition(ordinal).id;
        let counts = format!("{} of {} items of '{id}' failed", row.failed, row.width);
        let limit = match row.max_failed {
            Some(max) => format!(", more than the {max} that it tolerates"),
            None => String::new(),
        };
        match &row.first_failure {
            Some((item, failure)) => Failure {
                message: format!(
                    "{counts}{limit}; the first is item {item}: {}",
                    failure.message
                ),
                ..failure.clone()
            },
            None => Failure::engine(FailureKind::Rule, format!("{counts}{limit}")),
        }
    }

    /// K7: closes the open map of a task that ends before its items do.
    pub(super) fn close_map(&mut self, ordinal: Ordinal, changes: &mut Changes) {
        if self
            .task_map(ordinal)
            .is_some_and(|map| map.width.is_some())
        {
            if let Some(note) = self.note_of_close(ordinal) {
                changes.flow.maps.push(MapChange::Tell(ordinal, note));
            }
            changes.flow.maps.push(MapChange::Close(ordinal));
        }
    }

    /// K7: pauses the items of a map together with the execution.
    pub(super) fn pause_map(&mut self, ordinal: Ordinal, changes: &mut Changes) {
        if self.has_open_map(ordinal) {
            if self.starts_children(ordinal) {
                changes
                    .flow
                    .maps
                    .push(MapChange::Tell(ordinal, Note::Pause));
            }
            changes.flow.maps.push(MapChange::Pause(ordinal));
        }
    }

    /// K7: resumes a map after a pause.
    pub(super) fn resume_map(
        &mut self,
        ordinal: Ordinal,
        pause: Pause,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let is_expanded = self.has_open_map(ordinal);
        let start_at = self.record.start_at.filter(|at| *at > now);
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Ready;
        task.ready_at = Some(start_at.unwrap_or(NEVER));
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
        if is_expanded {
            task.ready_at = Some(NEVER);
            (changes.flow.maps).push(MapChange::Resume(ordinal, pause));
            if self.starts_children(ordinal) {
                changes
                    .flow
                    .maps
                    .push(MapChange::Tell(ordinal, Note::Resume));
            }
        } else if !self.maps_it_reads(ordinal).is_empty() {
            self.task_mut(ordinal).ready_at = Some(start_at.unwrap_or(now));
        } else if start_at.is_none() {
            changes.flow.expands.insert(ordinal);
        }
    }
}
