//! Maps: their expansion, the ends of their items, and their own end (semantics K).
//!
//! A mapped task is one row of the queue. It waits like a node without a function while its items run. Its items are counted in
//! a row of their own, so that the execution changes only when the map expands and when it ends.

use std::sync::Arc;

use super::control::seconds_text;
use super::map_elements::MapElements;
use super::recovery::{is_suspect, without_probe};
use super::{Changes, Execution, Finish, NEVER, Outcome, TaskLimits, retry_delay, should_retry};
use crate::types::{
    Claim, Delta, Failure, FailureKind, ItemRecord, Json, MapChange, MapRow, MapState, Micros,
    Note, OpenWait, Ordinal, TaskMap, TaskStatus, TaskWait, Timestamp,
};
use crate::workflow::queue;

impl Execution {
    /// Whether the items of a task run: it is a map that has expanded and has not ended.
    #[must_use]
    pub fn has_open_map(&self, ordinal: Ordinal) -> bool {
        let task = self.task(ordinal);
        task.is_waiting()
            && self
                .task_map(ordinal)
                .is_some_and(|map| map.width.is_some())
    }

    /// Whether the items of a task run over the list that was read for the `generation`th time.
    #[must_use]
    pub fn has_open_generation(&self, ordinal: Ordinal, generation: u32) -> bool {
        let map = self.task_map(ordinal);
        self.has_open_map(ordinal) && map.is_some_and(|map| map.generation == generation)
    }

    /// The list that the map of a task has read, or reads next.
    #[must_use]
    pub fn task_map(&self, ordinal: Ordinal) -> Option<TaskMap> {
        self.task(ordinal).wait.as_ref()?.map
    }

    /// Whether a map has read its list, and found elements.
    pub(super) fn has_items(&self, ordinal: Ordinal) -> bool {
        let map = self.task_map(ordinal);
        map.and_then(|map| map.width).is_some_and(|width| width > 0)
    }

    /// K1: a mapped task becomes ready. It expands in the same transaction, or later if its execution has a start time.
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
            // K10: completed items keep their results, and the others run again.
            task.ready_at = Some(NEVER);
            task.attempt += 1;
            task.started_at = Some(now);
            changes.flow.maps.push(MapChange::Reopen(ordinal));
            self.start_by_waiting(now);
        } else if self.workflow.source_of(ordinal).is_none()
            && !self.maps_it_reads(ordinal).is_empty()
        {
            // The results of the other map's last items are not durable yet.
            self.task_mut(ordinal).ready_at = Some(start_at.unwrap_or(now));
        } else if start_at.is_none() {
            changes.flow.expands.insert(ordinal);
        }
    }

    /// The maps whose results a mapped task runs over, each with the key of its list.
    #[must_use]
    pub fn maps_it_reads(&self, ordinal: Ordinal) -> Vec<(String, Ordinal)> {
        let lists = self
            .definition(ordinal)
            .over
            .iter()
            .flat_map(|spec| spec.lists.values());
        let tasks = &self.workflow.definition().tasks;
        let found = lists.filter_map(|path| {
            let map = (0..)
                .zip(tasks)
                .find(|(_, task)| task.over.is_some() && task.result_key() == path);
            map.map(|(ordinal, _)| (path.clone(), ordinal))
        });
        found.collect()
    }

    /// Has a map expanded later, because the results that it runs over cannot be read now.
    pub fn postpone_map(&mut self, ordinal: Ordinal, at: Timestamp, changes: &mut Changes) {
        self.task_mut(ordinal).ready_at = Some(at);
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
    }

    /// K1, K2: expands a map that is ready, in the transaction of the change that made it ready. A list that cannot be used fails
    /// the task, and an empty one completes it. `results`: the results of other maps that it runs over; `max_items`: the
    /// maximum width.
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
        self.start_by_waiting(now);
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
                 give it batch=, or raise the setting"
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

    /// The lists of a mapped task, split into items.
    ///
    /// # Errors
    /// When the map cannot expand over them.
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
        MapElements::split(&definition.id, &spec, &view)
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

    /// K3: the state of an item after the end of its attempt. `random` in 0..1 selects the delay of a retry within its jitter.
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
                next.ready_at = Some(now + *after);
                return next;
            }
            Outcome::Released => {
                next.status = TaskStatus::Ready;
                // A function of an earlier list may still run under the same claim. The next claim must differ from it.
                if (self.task_map(ordinal)).is_some_and(|map| map.generation > 1) {
                    next.uncounted += 1;
                } else {
                    next.attempt -= 1;
                }
                next.ready_at = Some(now);
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
            next.ready_at = Some(now + delay);
        } else {
            next.status = TaskStatus::Failed;
            next.ended_at = Some(now);
        }
        next
    }

    /// The failure of an item that waits or starts executions, which only whole tasks can.
    fn not_in_items(&self, ordinal: Ordinal, item: &ItemRecord, what: &str) -> Failure {
        let text = format!(
            "item '{}[{}]' stops at '{what}': an item of a map cannot wait for or start other executions; \
             start a child for each element, whose tasks can",
            self.definition(ordinal).id,
            item.item
        );
        Failure::engine(FailureKind::Rule, text)
    }

    /// The failure of an item that overran the timeout of its attempt, as [`finish_item`](Self::finish_item).
    #[must_use]
    pub fn item_timeout(&self, ordinal: Ordinal, claim: Claim, timeout: Micros) -> Failure {
        let seconds = seconds_text(timeout);
        let item = claim.item.unwrap_or_default();
        let id = &self.definition(ordinal).id;
        let text = format!("item '{id}[{item}]' did not end within its timeout of {seconds}");
        Failure::engine(FailureKind::TaskTimeout, text)
    }

    /// K3, E2: the state of an item whose runner died.
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
            // The start of a suspect is counted before it starts. One that was claimed but not started is not the cause.
            rescues: item.rescues + u32::from(!is_suspect(item.rescues, limits)),
            runner: None,
            ready_at: Some(now),
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

    /// K6, K8: ends a map whose last item has ended. `row`: its counters after that end. Returns `false` if the task is not an
    /// open map of that generation.
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
            // Another runner has ended the source.
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

    /// The failure of a map: the error of its first failed item, with the counts.
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

    /// K7: closes the map of a task that ends otherwise.
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

    /// K7: the items of a map follow the pause of the execution.
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
    pub(super) fn resume_map(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        let is_expanded = self.has_open_map(ordinal);
        let start_at = self.record.start_at.filter(|at| *at > now);
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Ready;
        task.ready_at = Some(start_at.unwrap_or(NEVER));
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
        if is_expanded {
            task.ready_at = Some(NEVER);
            changes.flow.maps.push(MapChange::Resume(ordinal));
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
