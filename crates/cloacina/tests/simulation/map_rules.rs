//! Checks the rules of maps and their items (semantics K) against a mirror, which applies the rules independently of the engine.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cloacina::store::{Batch, Committed, ItemFence, ItemWrite};
use cloacina::types::{
    Claim, ExecutionRecord, ExecutionStatus, ItemRecord, Json, MapChange, MapRow, MapSpec,
    MapState, RunnerId, TaskRecord, TaskStatus, Timestamp,
};
use cloacina::workflow::Workflow;

use super::maps;
use super::oracle::{Coverage, Oracle, TaskKey};

/// The expected state of a map after the last transaction that changed it.
#[derive(Clone, Default)]
pub struct MapMirror {
    /// Whether the map has expanded or was reopened, and has not ended.
    pub is_open: bool,
    width: u32,
    max_failed: Option<u32>,
    /// The task of the source: the map whose results are the elements of this aligned map.
    source: Option<u32>,
    /// The number of items without an element, because the source ended without a result for them.
    missing: u32,
    /// Whether all elements are known, because the source has ended.
    has_all: bool,
    pub items: BTreeMap<u32, ItemRecord>,
    /// The item claims of this map that were committed. If an attempt is snoozed, or if its runner returns the claim
    /// while the map has expanded only once, the claim is removed, because the next attempt can have the same claim.
    pub claims: HashSet<Claim>,
    /// The number of failed attempts of each item since the map was expanded or reopened.
    failures: HashMap<u32, u32>,
}

impl MapMirror {
    fn count(&self, status: TaskStatus) -> u32 {
        let of_status = self.items.values().filter(|item| item.status == status);
        u32::try_from(of_status.count()).expect("the number of items fits in u32")
    }

    fn is_exceeded(&self) -> bool {
        self.max_failed
            .is_some_and(|most| self.count(TaskStatus::Failed) > most)
    }

    /// K6, K8: returns whether no item runs and no item will start.
    fn is_over(&self) -> bool {
        let ended = self.count(TaskStatus::Completed) + self.count(TaskStatus::Failed);
        let ended = ended + self.skipped();
        let has_all = self.source.is_none() || self.has_all;
        self.count(TaskStatus::Running) == 0
            && (self.is_exceeded() || (has_all && ended >= self.width))
    }

    /// Ends the map and cancels its ready items.
    pub fn end(&mut self) {
        self.is_open = false;
        let open = self.items.values_mut();
        for item in open.filter(|item| item.status == TaskStatus::Ready) {
            item.status = TaskStatus::Cancelled;
        }
    }

    /// Returns the number of items that were skipped or have no element.
    fn skipped(&self) -> u32 {
        self.count(TaskStatus::Skipped) + self.missing
    }

    /// Applies a change of a map to its expected state.
    pub fn apply(&mut self, change: &MapChange) {
        match change {
            MapChange::Expand(row) => {
                *self = Self {
                    is_open: row.width > 0,
                    width: row.width,
                    max_failed: row.max_failed,
                    source: row.source,
                    ..Self::default()
                };
            }
            MapChange::Close(_) => {
                self.is_open = false;
                let open = self.items.values_mut();
                for item in open.filter(|item| !item.status.is_terminal()) {
                    item.status = TaskStatus::Cancelled;
                    item.runner = None;
                }
            }
            MapChange::Reopen(_) => {
                self.is_open = true;
                self.failures.clear();
                self.missing = 0;
                self.has_all = false;
                self.items
                    .retain(|_, item| item.status != TaskStatus::Skipped);
                let again = self.items.values_mut();
                for item in again.filter(|item| item.status != TaskStatus::Completed) {
                    item.status = TaskStatus::Ready;
                    item.runner = None;
                    item.uncounted = item.attempt;
                    item.rescues = 0;
                }
            }
            MapChange::Pause(_) | MapChange::Resume(..) | MapChange::Tell(..) => {}
        }
    }
}

/// The execution of a map, and its workflow.
pub struct KnownMap {
    pub record: ExecutionRecord,
    pub workflow: Arc<Workflow>,
}

/// Returns those fields of an item that must change only according to the rules of maps.
pub fn facts(item: &ItemRecord) -> (TaskStatus, u32, u32, u32, Option<RunnerId>, Option<&str>) {
    let result = item.result.as_ref().map(Json::as_str);
    (
        item.status,
        item.attempt,
        item.uncounted,
        item.rescues,
        item.runner,
        result,
    )
}

/// Returns whether a task is a map that has expanded and not ended. Its execution may be paused.
fn has_open_map(task: &TaskRecord) -> bool {
    let map = task.wait.as_ref().and_then(|wait| wait.map);
    task.is_waiting() && map.is_some_and(|map| map.width.is_some())
}

impl Oracle {
    pub fn known_map(&self, (id, _): TaskKey) -> Option<KnownMap> {
        let record = self.mirror.get(&id)?.clone();
        let workflow = Arc::clone(self.workflows.get(&record.definition)?);
        Some(KnownMap { record, workflow })
    }

    /// For each source item that completed, failed or was skipped and has no item yet, adds an item to an aligned map.
    /// The new item is ready if the source item completed, and skipped if the source item failed or was skipped.
    pub fn feed_map(&mut self, workflow: &Workflow, (id, task): TaskKey) {
        let Some(source) = workflow.source_of(task) else {
            return;
        };
        let Some(of_source) = self.maps.get(&(id, source)).cloned() else {
            return;
        };
        let Some(mut map) = self.maps.remove(&(id, task)) else {
            return;
        };
        if map.is_open && map.source == Some(source) {
            for item in of_source.items.values() {
                let status = match item.status {
                    TaskStatus::Completed => TaskStatus::Ready,
                    TaskStatus::Failed | TaskStatus::Skipped => TaskStatus::Skipped,
                    _ => continue,
                };
                if map.items.contains_key(&item.item) {
                    continue;
                }
                self.cover(match status {
                    TaskStatus::Ready => Coverage::ElementCame,
                    _ => Coverage::ItemSkipped,
                });
                let fed = ItemRecord {
                    status,
                    ..ItemRecord::unstarted(item.item)
                };
                map.items.insert(item.item, fed);
            }
            if !of_source.is_open {
                map.has_all = true;
                map.missing = map.width
                    - u32::try_from(map.items.len()).expect("the number of items fits in u32");
            }
        }
        self.maps.insert((id, task), map);
    }

    /// K6: checks that a transaction does not write a map that has ended, unless the transaction retries the execution.
    /// Must be called before the mirror applies the transaction.
    pub fn check_rewrites(&mut self, batch: &Batch, committed: &Committed) {
        let applied = batch.advances.iter().zip(&committed.advances);
        for (advance, _) in applied.filter(|(_, applied)| **applied) {
            let id = advance.record.id;
            let Some(before) = self.mirror.get(&id) else {
                continue;
            };
            let workflow = self.workflows.get(&before.definition).map(Arc::clone);
            let is_retried = advance.history.iter().any(|event| event.kind == "retried");
            let again = advance.tasks.iter().find(|write| {
                let is_map = workflow
                    .as_ref()
                    .is_some_and(|workflow| workflow.task(write.ordinal).over.is_some());
                let old = before.tasks[write.ordinal as usize].status;
                is_map && !is_retried && old.is_terminal()
            });
            let again = again.map(|write| write.ordinal);
            self.check(again.is_none(), || {
                format!(
                    "the end of map {} of {id} was recorded twice",
                    again.unwrap_or_default()
                )
            });
        }
    }

    /// K1: logs a change of a map. If the map expands, checks its source and its number of items.
    pub fn change_map(
        &mut self,
        workflow: &Workflow,
        record: &ExecutionRecord,
        (id, task): TaskKey,
        change: &MapChange,
    ) {
        self.note(|| format!("    map {task} of {id}: {change:?}"));
        self.cover(match change {
            MapChange::Expand(_) => Coverage::MapExpanded,
            MapChange::Close(_) => Coverage::MapClosed,
            MapChange::Pause(_) => Coverage::MapPaused,
            MapChange::Resume(..) => Coverage::MapResumed,
            MapChange::Reopen(_) => Coverage::MapReopened,
            MapChange::Tell(..) => return,
        });
        if let MapChange::Expand(row) = change {
            self.begin_generation((id, task));
            let spec = workflow.task(task).over.as_ref();
            // A source that was skipped by its rule has not expanded and gives no elements.
            let aligned = workflow.source_of(task);
            let source = aligned.filter(|source| has_expanded(record, *source));
            self.check(row.source == source, || {
                format!(
                    "map {task} of {id} is aligned with {:?} instead of {source:?}",
                    row.source
                )
            });
            let expected = match source {
                None if aligned.is_some() => Some(0),
                None => spec.and_then(|spec| expected_width(record, spec)),
                Some(source) => {
                    Some((self.maps.get(&(id, source))).map_or(0, |source| source.width as usize))
                }
            };
            self.check(expected == Some(row.width as usize), || {
                format!(
                    "map {task} of {id} has {} items instead of {expected:?}",
                    row.width
                )
            });
        }
    }

    /// K3, K6: checks the end of an item's attempt, and records it in the mirror.
    #[expect(
        clippy::too_many_lines,
        reason = "each state of an item has its own rule"
    )]
    pub fn change_item(
        &mut self,
        workflow: &Workflow,
        (id, task): TaskKey,
        writer: RunnerId,
        map: &mut MapMirror,
        write: &ItemWrite,
        now: Timestamp,
    ) {
        let record = &write.record;
        let item = record.item;
        let ItemFence::Claim(claim) = write.fence else {
            return self.check(false, || {
                format!("item {item} of task {task} of {id} ended like a child, without a claim")
            });
        };
        let name = || format!("item {item} of task {task} of {id}");
        let old = map.items.get(&item).cloned();
        let held = old.as_ref().and_then(ItemRecord::claim);
        self.check(held == Some(claim), || {
            format!(
                "{} ended under {claim:?}, but its claim is {held:?}",
                name()
            )
        });
        let limit = workflow.task(task).retry.max_attempts;
        let (uncounted, rescues) = old
            .as_ref()
            .map_or((0, 0), |old| (old.uncounted, old.rescues));
        let is_uncounted = record.uncounted > uncounted;
        let is_rescue = is_uncounted && writer != claim.runner;
        let failures = map.failures.entry(item).or_default();
        let is_snoozed = record.status == TaskStatus::Ready && record.attempt < claim.attempt;
        match record.status {
            _ if is_rescue => {
                self.cover(Coverage::ItemRescued);
                let most = self.max_rescues;
                let is_right = match record.status {
                    TaskStatus::Failed => record.rescues > most,
                    status => status == TaskStatus::Ready && record.rescues <= most,
                };
                self.check(is_right, || {
                    format!(
                        "{} is {} after {} lost runners, and at most {most} are allowed",
                        name(),
                        record.status,
                        record.rescues
                    )
                });
            }
            // The runner returns its claim. The map has expanded more than once, so the number of this attempt is not
            // used again.
            TaskStatus::Ready if is_uncounted => {}
            TaskStatus::Running => {
                // An item that may have crashed its process runs alone. The runner counts this start as a lost runner in
                // advance.
                let is_probe = record.claim() == Some(claim)
                    && record.rescues == rescues + 1
                    && record.rescues <= self.max_rescues + 1;
                self.check(is_probe, || {
                    format!(
                        "{} stays running after {} lost runners",
                        name(),
                        record.rescues
                    )
                });
            }
            TaskStatus::Completed => {
                self.cover(Coverage::ItemCompleted);
                let mark = self.returned.remove(&(id, task, claim));
                let result = record
                    .result
                    .as_ref()
                    .map(|value| value.as_str().to_owned());
                self.check(mark.is_some() && mark == result, || {
                    format!("{} was recorded with {result:?} under {claim:?}; the function had returned {mark:?}", name())
                });
            }
            TaskStatus::Ready if is_snoozed => {
                // The next attempt has the same number.
                self.started.remove(&(id, task, claim));
                self.claims.remove(&(id, task, claim));
                map.claims.remove(&claim);
            }
            TaskStatus::Ready | TaskStatus::Failed => {
                *failures += 1;
                let is_within = match record.status {
                    TaskStatus::Ready => *failures < limit,
                    _ => *failures <= limit,
                };
                let failures = *failures;
                self.check_item_error(workflow, (id, task), claim, record, now);
                self.cover(match record.status {
                    TaskStatus::Ready => Coverage::ItemRetried,
                    _ => Coverage::ItemFailed,
                });
                self.check(is_within, || {
                    format!(
                        "{} is {} after {failures} failures, but max_attempts is {limit}",
                        name(),
                        record.status
                    )
                });
            }
            status => self.check(false, || format!("{} is {status} after an attempt", name())),
        }
        self.check(is_rescue || writer == claim.runner, || {
            format!(
                "{} ran under {claim:?} but was recorded by {writer}",
                name()
            )
        });
        self.note(|| {
            format!(
                "    {writer} ends {} under {claim:?} as {} {}/{}",
                name(),
                record.status,
                record.attempt,
                record.rescues
            )
        });
        map.items.insert(item, record.clone());
    }

    /// Checks the error of an item's failed attempt.
    fn check_item_error(
        &mut self,
        workflow: &Workflow,
        (id, task): TaskKey,
        claim: Claim,
        record: &ItemRecord,
        now: Timestamp,
    ) {
        let item = record.item;
        let Some(error) = &record.error else {
            return;
        };
        if error.kind == "ContextError" {
            self.cover(Coverage::RefusedResult);
            let expected = self.unstorable.as_ref() == Some(&(workflow.name().to_owned(), task));
            self.check(expected, || {
                format!("item {item} of task {task} of {id} failed because of the result of another task")
            });
        }
        let timeout = workflow.task(task).timeout.or(self.task_timeout);
        let started = self.started.get(&(id, task, claim));
        if error.kind == "TaskTimeoutError"
            && let (Some(timeout), Some(started)) = (timeout, started)
        {
            let ran = now.since(*started);
            self.check(ran >= timeout, || {
                format!("item {item} of task {task} of {id} timed out after {ran} us, but its timeout is {timeout} us")
            });
        }
    }

    /// K5, K9: checks the claim of an item, and records it in the mirror.
    pub fn claim_item(
        &mut self,
        (id, task): TaskKey,
        writer: RunnerId,
        map: &mut MapMirror,
        item: &ItemRecord,
        now: Timestamp,
    ) {
        self.cover(Coverage::ItemClaimed);
        let number = item.item;
        let name = || format!("item {number} of task {task} of {id}");
        let Some(claim) = item.claim().filter(|claim| claim.runner == writer) else {
            return self.check(false, || {
                format!("{} was claimed as {:?} by {writer}", name(), item.claim())
            });
        };
        self.claims.insert((id, task, claim));
        let fresh = map.claims.insert(claim);
        self.check(fresh, || {
            format!("{} was claimed twice as {claim:?}", name())
        });
        let skew = self.skew;
        match map.items.get(&number) {
            None => {
                let next = u32::try_from(map.items.len()).expect("the number of items fits in u32");
                let is_next = number == next && map.source.is_none();
                self.check(is_next, || {
                    format!(
                        "{} was claimed out of order (item {next} is next), or before its source item ended",
                        name()
                    )
                });
            }
            Some(old) => {
                let is_due = old.ready_at.is_none_or(|at| at <= now + skew);
                self.check(old.status == TaskStatus::Ready && is_due, || {
                    format!(
                        "{} was claimed while it was {} and due at {:?}",
                        name(),
                        old.status,
                        old.ready_at
                    )
                });
            }
        }
        self.note(|| format!("    {writer} claims {} as {}", name(), item.attempt));
        map.items.insert(number, item.clone());
    }

    /// Checks a map after a transaction: its row must match the mirror, and its limits must hold.
    pub fn check_map(
        &mut self,
        (id, task): TaskKey,
        row: &MapRow,
        map: &MapMirror,
        has_claimed: bool,
    ) {
        let name = || format!("map {task} of {id}");
        let counted = (
            map.count(TaskStatus::Running),
            map.count(TaskStatus::Completed),
            map.count(TaskStatus::Failed),
            u32::try_from(map.items.len()).expect("the number of items fits in u32")
                - map.count(TaskStatus::Skipped),
            map.skipped(),
        );
        let stored = (row.running, row.done, row.failed, row.admitted, row.skipped);
        self.check(counted == stored, || {
            format!(
                "{} has the counts {stored:?}, but its items give {counted:?}",
                name()
            )
        });
        let is_open = row.state != MapState::Ended;
        self.check(is_open == map.is_open && row.width == map.width, || {
            format!(
                "{} is {:?} with {} items, but must be {} with {} items",
                name(),
                row.state,
                row.width,
                if map.is_open { "open" } else { "ended" },
                map.width
            )
        });
        // K6: a map ends in the transaction of its last item. An aligned map whose last items are skipped ends in a later
        // transaction.
        let is_late = map.source.is_some() && map.skipped() > 0;
        self.check(is_late || !(is_open && map.is_over()), || {
            format!(
                "the last item of {} has ended, but the map is {:?}",
                name(),
                row.state
            )
        });
        let status = self
            .mirror
            .get(&id)
            .map(|record| (record.status, record.tasks[task as usize].clone()));
        let Some((status, record)) = status else {
            return self.check(false, || format!("{} has no execution", name()));
        };
        self.check(has_open_map(&record) == is_open, || {
            format!(
                "{} is {:?}, but its task is {}",
                name(),
                row.state,
                record.status
            )
        });
        if has_claimed {
            // K5, K7, K8
            let running = row.running;
            let is_within = row.parallel.is_none_or(|parallel| running <= parallel);
            self.check(is_within, || {
                format!(
                    "{running} items of {} run, but parallel is {:?}",
                    name(),
                    row.parallel
                )
            });
            self.check(
                status == ExecutionStatus::Running && row.state == MapState::Open,
                || {
                    format!(
                        "items of {} were claimed while its execution is {status} and the map is {:?}",
                        name(),
                        row.state
                    )
                },
            );
            self.check(!map.is_exceeded(), || {
                format!(
                    "items of {} were claimed after {} failures",
                    name(),
                    row.failed
                )
            });
        }
    }

    /// K8: checks the status of a map that ended with its last item, not by a cancel or a timeout.
    pub fn check_map_end(&mut self, workflow: &Workflow, (id, task): TaskKey, map: &MapMirror) {
        self.cover(Coverage::MapEnded);
        let source = workflow.source_of(task);
        let of_source = source.and_then(|source| {
            let record = self.mirror.get(&id)?;
            Some(record.tasks[source as usize].status)
        });
        let failed = map.count(TaskStatus::Failed);
        let is_tolerated = failed == 0 || map.max_failed.is_some_and(|most| failed <= most);
        let expected = if is_tolerated && of_source.is_some_and(|of| of != TaskStatus::Completed) {
            TaskStatus::Skipped
        } else if is_tolerated {
            TaskStatus::Completed
        } else {
            TaskStatus::Failed
        };
        let status = self
            .mirror
            .get(&id)
            .map(|record| record.tasks[task as usize].status);
        self.check(status == Some(expected), || {
            format!(
                "map {task} of {id} ended as {status:?} instead of {expected:?}: {failed} items failed, and max_failed \
                 is {:?}",
                map.max_failed
            )
        });
        self.check(map.is_open && map.is_over(), || {
            format!("map {task} of {id} ended twice, or before its last item")
        });
    }

    /// Checks at the end of the simulation that no map is open and no item runs.
    pub fn check_maps_at_rest(&mut self) {
        let open: Vec<TaskKey> = self
            .maps
            .iter()
            .filter(|(_, map)| map.is_open || map.count(TaskStatus::Running) > 0)
            .map(|(key, _)| *key)
            .collect();
        self.check(open.is_empty(), || {
            format!("these maps have not ended: {open:?}")
        });
    }
}

/// Returns whether a map has read its list.
fn has_expanded(record: &ExecutionRecord, map: u32) -> bool {
    let wait = record.tasks[map as usize].wait.as_ref();
    wait.is_some_and(|wait| wait.map.is_some_and(|map| map.width.is_some()))
}

/// K1: returns the number of items of a map over the list in the input of its execution.
fn expected_width(record: &ExecutionRecord, spec: &MapSpec) -> Option<usize> {
    let rows: Vec<serde_json::Value> = record.input.get(maps::ROWS)?.decode().ok()?;
    let batch = spec.batch.unwrap_or(1) as usize;
    Some(rows.len().div_ceil(batch))
}
