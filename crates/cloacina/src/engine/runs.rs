//! Children that a task's function starts: how they start and end, and which of their results a retry keeps (semantics T5, T10,
//! M).
//!
//! The function exits, as it does for every wait, and the task waits for the children. When a child ends, one transaction
//! records the end as a step and removes the child from the open children. When all children have been started and have ended,
//! the function runs again and finds the recorded ends.

use std::sync::Arc;

use super::waiting::record_of;
use super::{Changes, ChildFound, ChildStart, Execution, NEVER, NewExecution};
use crate::types::{
    ChildEnd, Context, ExecutionId, ExecutionStatus, FailedRuns, Failure, FailureKind, HistoryKind,
    Json, MAX_CHILD_DEPTH, Note, OpenWait, Ordinal, ParentLink, Park, ParkKind, Post, RootStart,
    RunInput, Runs, StepDrop, StepKind, StepRecord, TaskStatus, TaskWait, Timestamp, WaitKind,
    WaitRow,
};

/// Maximum number of children that one transaction starts for a call. The next turn starts further children.
const START_BATCH: usize = 1_000;

impl Execution {
    /// The children that the function of a task waits for.
    #[must_use]
    pub fn open_runs(&self, ordinal: Ordinal) -> Option<&Runs> {
        self.park_of(ordinal)?.runs.as_deref()
    }

    fn park_of(&self, ordinal: Ordinal) -> Option<&Park> {
        self.task(ordinal).open_wait()?.park.as_ref()
    }

    /// The workflow that a waiting task needs now: to start the child of a node or the children of the task's function, or
    /// to continue a function that called `start`.
    #[must_use]
    pub fn wanted_workflow(&self, ordinal: Ordinal) -> Option<&str> {
        if let Some(child) = &self.definition(ordinal).child {
            let wants = self.wants_child(ordinal);
            return wants.then_some(child.workflow.as_str());
        }
        if self.task(ordinal).status != TaskStatus::Ready {
            return None;
        }
        let park = self.park_of(ordinal)?;
        let is_start = park.kind == ParkKind::Start;
        calls_of(park)
            .find(|(_, _, runs)| is_start || runs.has_room())
            .map(|(_, _, runs)| runs.workflow.as_str())
    }

    /// T5: begins a wait for children after a task's function has exited. The children start in the same transaction,
    /// or later if their workflow is not known yet or the execution is paused.
    pub(super) fn begin_runs(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        if self.open_runs(ordinal).is_none() {
            return;
        }
        self.change_wait(
            ordinal,
            |wait| {
                let TaskWait {
                    open,
                    failed,
                    generation,
                    ..
                } = wait;
                let Some(park) = open.as_mut().and_then(|open| open.park.as_mut()) else {
                    return;
                };
                change_calls(park, |key, runs| {
                    let known = failed.remove(key).unwrap_or_default().children.into_iter();
                    *generation += 1;
                    runs.earlier = known.filter_map(|(index, id)| Some((index, id?))).collect();
                    runs.generation = *generation;
                });
            },
            changes,
        );
        // If this transaction does not start the children, a runner finds the task, because the task is due.
        let task = self.task_mut(ordinal);
        task.ready_at = Some(now);
        if task.status == TaskStatus::Ready {
            changes.flow.starts.insert(ordinal);
        }
    }

    /// M1, M6: starts children of a task's function, and retries its earlier children. If the function called `start`
    /// for a workflow that was not known, it runs again instead. `ids` returns a fresh id each time it is called.
    pub fn start_runs(
        &mut self,
        ordinal: Ordinal,
        found: &ChildFound,
        mut ids: impl FnMut() -> ExecutionId,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Vec<ChildStart> {
        if self.wanted_workflow(ordinal).is_none() {
            return Vec::new();
        }
        if (self.park_of(ordinal)).is_some_and(|park| park.kind == ParkKind::Start) {
            self.end_runs(ordinal, now, changes);
            return Vec::new();
        }
        let depth = self.record.parent.as_ref().map_or(0, |link| link.depth) + 1;
        if depth > MAX_CHILD_DEPTH {
            self.fail_too_deep(ordinal, found.workflow.name(), depth, now, changes);
            return Vec::new();
        }
        let (mut taken, mut earlier, mut call) = (Vec::new(), Vec::new(), None);
        self.change_wait(
            ordinal,
            |wait| {
                let Some(park) = wait.open.as_mut().and_then(|open| open.park.as_mut()) else {
                    return;
                };
                change_calls(park, |key, runs| {
                    if call.is_some() || !runs.has_room() {
                        return;
                    }
                    while taken.len() + earlier.len() < START_BATCH && runs.has_room() {
                        let Some(RunInput { index, input }) = runs.inputs.pop_front() else {
                            break;
                        };
                        if let Some(id) = runs.earlier.remove(&index) {
                            runs.open.insert(index, id);
                            earlier.push(id);
                        } else {
                            let id = ids();
                            runs.open.insert(index, id);
                            taken.push((index, id, input));
                        }
                    }
                    let item = runs.count.is_some();
                    call = Some((
                        key.to_owned(),
                        item,
                        runs.generation,
                        runs.timeout,
                        runs.priority,
                    ));
                });
            },
            changes,
        );
        let Some((key, item, generation, timeout, priority)) = call else {
            return Vec::new();
        };
        let more = self.wanted_workflow(ordinal).is_some();
        self.task_mut(ordinal).ready_at = Some(if more { now } else { NEVER });
        self.start_by_waiting(now, changes);
        changes
            .flow
            .posts
            .extend(earlier.into_iter().map(|target| Post {
                target,
                note: Note::Retry,
            }));
        // M4: a child without its own priority inherits the parent's priority. The earlier of the two deadlines
        // applies.
        let (timeout, own) = self.child_timeout(ordinal, timeout.or(found.default_timeout), now);
        let priority = priority.unwrap_or_else(|| self.priority(ordinal));
        let mut starts = Vec::with_capacity(taken.len());
        for (index, id, input) in taken {
            let number = item.then_some(index);
            let data = serde_json::json!({
                "child": id, "workflow": found.workflow.name(), "step": key, "item": number,
            });
            record_of(changes, now, HistoryKind::ChildStarted, ordinal, &data);
            starts.push(ChildStart {
                new: NewExecution {
                    id,
                    definition: found.definition,
                    input: Arc::new(Context::from_json(input.as_str()).unwrap_or_default()),
                    key: None,
                    priority,
                    start_at: None,
                    timeout,
                },
                parent: Arc::new(ParentLink {
                    execution: self.record.id,
                    task: ordinal,
                    generation,
                    key: Some(key.clone()),
                    item: number,
                    depth,
                    paused: false,
                    timeout: own,
                    finale: None,
                }),
            });
        }
        starts
    }

    /// M7: fails a task whose children would exceed the maximum depth of nested children.
    fn fail_too_deep(
        &mut self,
        ordinal: Ordinal,
        workflow: &str,
        depth: u32,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let problem = format!(
            "task '{}' cannot start workflow '{workflow}': its children would be nested {depth} levels deep, and the maximum is {MAX_CHILD_DEPTH}",
            self.definition(ordinal).id,
        );
        self.change_wait(ordinal, |wait| wait.open = None, changes);
        let failure = Failure::engine(FailureKind::Rule, problem);
        self.task_mut(ordinal).ready_at = None;
        self.fail_task(ordinal, failure, now, changes);
    }

    /// M3: applies the end of a child of a task's function. Returns `None` if the task does not wait for this child.
    pub(super) fn run_ended(&mut self, end: &ChildEnd, now: Timestamp) -> Option<Changes> {
        let ordinal = end.task;
        let open = self.task(ordinal).open_wait()?;
        let (key, position, runs, index) = calls_of(open.park.as_ref()?)
            .find_map(|(key, position, runs)| Some((key, position, runs, runs.number_of(end)?)))?;
        let item = runs.count.map(|_| index);
        let workflow = runs.workflow.clone();
        let (since, key) = (open.since, key.to_owned());
        let mut changes = Changes::default();
        let error = end.error.as_ref();
        let data = serde_json::json!({
            "child": end.child,
            "status": end.status.name(),
            "error": error.map(|error| serde_json::json!({ "type": error.kind, "message": error.message })),
            "step": key,
            "item": item,
        });
        record_of(&mut changes, now, HistoryKind::ChildEnded, ordinal, &data);
        let step = StepRecord {
            key: item.map_or_else(|| key.clone(), |index| item_key(&key, index)),
            position: item.map_or(position, |index| item_position(position, index)),
            kind: if item.is_some() {
                StepKind::Child
            } else {
                StepKind::Run
            },
            attempt: self.attempt_that_parked(ordinal),
            started_at: since,
            ended_at: now,
            value: value_of(end, &workflow),
        };
        changes.flow.steps.recorded.push((ordinal, step));
        // The task made progress, so earlier losses of its runner no longer count (E2).
        self.task_mut(ordinal).rescues = 0;
        self.change_wait(
            ordinal,
            |wait| {
                if let Some(park) = wait.open.as_mut().and_then(|open| open.park.as_mut()) {
                    change_calls(park, |call, runs| {
                        if call == key {
                            runs.open.remove(&index);
                        }
                    });
                }
                if end.status != ExecutionStatus::Completed {
                    // A cancelled child cannot run again, so a retry starts a new child.
                    let again = (end.status != ExecutionStatus::Cancelled).then_some(end.child);
                    let failed = wait.failed.entry(key).or_default();
                    failed.position = position;
                    failed.many = item.is_some();
                    failed.children.insert(index, again);
                }
            },
            &mut changes,
        );
        // In a paused execution, the task is checked when the execution is resumed.
        if self.task(ordinal).status == TaskStatus::Ready {
            self.check_runs(ordinal, now, &mut changes);
        }
        Some(changes)
    }

    /// Checks a task that waits for children: requests the start of more children, or lets the task's function run again if
    /// all children have ended.
    pub(super) fn check_runs(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        let Some(runs) = self.open_runs(ordinal) else {
            return;
        };
        let is_over = runs.is_over();
        changes.touch(ordinal);
        if self.wanted_workflow(ordinal).is_some() {
            changes.flow.starts.insert(ordinal);
            self.task_mut(ordinal).ready_at = Some(now);
        } else if is_over {
            self.end_runs(ordinal, now, changes);
        } else {
            self.task_mut(ordinal).ready_at = Some(NEVER);
        }
    }

    /// Ends the wait, so that the function runs again: after all children have ended or, if the function called `start`,
    /// once the workflow to start is known.
    fn end_runs(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        let Some(open) = self.task(ordinal).open_wait() else {
            return;
        };
        let since = open.since;
        let calls = open.park.iter().flat_map(calls_of);
        let many: Vec<(String, u32, u32)> = calls
            .filter_map(|(key, position, runs)| Some((key.to_owned(), position, runs.count?)))
            .collect();
        for (key, position, count) in many {
            let step = StepRecord {
                key,
                position,
                kind: StepKind::Run,
                attempt: self.attempt_that_parked(ordinal),
                started_at: since,
                ended_at: now,
                value: Json::from_encoder(format!(r#"{{"count":{count}}}"#)),
            };
            changes.flow.steps.recorded.push((ordinal, step));
        }
        self.change_wait(ordinal, |wait| wait.open = None, changes);
        let start_at = self.record.start_at.filter(|at| *at > now);
        self.task_mut(ordinal).ready_at = start_at;
        changes.ready.push(ordinal);
    }

    /// Sends a note to the open children that a task's function started.
    pub(super) fn post_to_runs(&self, ordinal: Ordinal, note: &Note, changes: &mut Changes) {
        // The end of the execution may already have ended the task, so `open_wait` cannot be used here.
        let wait = self.task(ordinal).wait.as_ref();
        let park = wait.and_then(|wait| wait.open.as_ref()?.park.as_ref());
        let runs = park.and_then(|park| park.runs.as_ref());
        let targets = runs.into_iter().flat_map(|runs| runs.all_open());
        changes.flow.posts.extend(targets.map(|target| Post {
            target,
            note: note.clone(),
        }));
    }

    /// D7, M4: resumes a task's wait for the children of its function, and these children, after a pause.
    pub(super) fn resume_runs(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        self.post_to_runs(ordinal, &Note::Resume, changes);
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Ready;
        task.ready_at = Some(now);
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
    }

    /// M6: the steps of calls with failed children. A retry deletes these steps, because the children run again.
    pub(super) fn failed_runs_to_drop(&self, ordinal: Ordinal) -> Vec<StepDrop> {
        let wait = self.task(ordinal).wait.as_deref();
        let calls = wait.into_iter().flat_map(|wait| wait.failed.values());
        calls
            .flat_map(|call| {
                let items = call.children.keys().filter(|_| call.many);
                let items = items.map(|index| item_position(call.position, *index));
                items.chain([call.position])
            })
            .map(|position| StepDrop::one(ordinal, position))
            .collect()
    }

    /// T6: the calls that precede a recorded step and have failed children. A retry from this step keeps the records of these
    /// calls.
    pub(super) fn failed_runs_before(
        &self,
        ordinal: Ordinal,
        position: u32,
    ) -> Vec<(String, FailedRuns)> {
        let wait = self.task(ordinal).wait.as_deref();
        let calls = wait.into_iter().flat_map(|wait| &wait.failed);
        calls
            .filter(|(_, call)| call.position < position)
            .map(|(key, call)| (key.clone(), call.clone()))
            .collect()
    }

    /// Returns the row in the list of waits for a task that waits for children of its function, or `None` for any other task.
    pub(super) fn run_row(&self, ordinal: Ordinal, open: &OpenWait) -> Option<WaitRow> {
        let runs = open.park.as_ref()?.runs.as_ref()?;
        Some(WaitRow {
            execution: self.record.id,
            task: Some(ordinal),
            slot: 0,
            kind: WaitKind::Child,
            workflow: self.workflow.name().to_owned(),
            task_id: self.definition(ordinal).id.clone(),
            name: runs.workflow.clone(),
            key: None,
            cursor: None,
            since: open.since,
            deadline: None,
            detail: None,
        })
    }
}

/// T10: records in the history that a task's completion started another execution.
pub fn record_start(
    ordinal: Ordinal,
    start: &RootStart,
    id: ExecutionId,
    now: Timestamp,
    changes: &mut Changes,
) {
    let data = serde_json::json!({
        "execution": id, "workflow": start.workflow, "step": start.key,
    });
    record_of(changes, now, HistoryKind::ExecutionStarted, ordinal, &data);
}

/// The text that messages use to name the workflow whose children a function waits for. `None` if the task does not wait for
/// children of its function.
pub(super) fn run_name(open: &OpenWait) -> Option<String> {
    let runs = open.park.as_ref()?.runs.as_ref()?;
    Some(format!("workflow '{}'", runs.workflow))
}

/// M7: the text that `explain` uses to say what a task's function waits for: a child, or a workflow that is not known.
/// `None` if the function does not wait for children or a workflow.
#[must_use]
pub fn runs_text(park: &Park) -> Option<String> {
    let runs = park.runs.as_ref()?;
    let workflow = &runs.workflow;
    if park.kind == ParkKind::Start {
        return Some(format!(
            "workflow '{workflow}', which handle.start('{}') starts: the workflow is not defined in this database, or no runner has checked for it since it was defined",
            park.key
        ));
    }
    let mut open = runs.open.values();
    match (open.next(), open.len()) {
        (None, _) => Some(format!(
            "workflow '{workflow}', but no child could be started yet: the workflow is not defined in this database, or no runner has checked for it since it was defined"
        )),
        (Some(id), 0) if runs.inputs.is_empty() => {
            Some(format!("child {id} of workflow '{workflow}'"))
        }
        (Some(id), more) => Some(format!(
            "{} children of workflow '{workflow}', such as {id}; {} more are not started",
            more + 1,
            runs.inputs.len()
        )),
    }
}

/// The key of the step that records the end of one child, for a call that starts several children. The separator keeps the key
/// distinct from the keys of other calls.
#[must_use]
pub fn item_key(key: &str, index: u32) -> String {
    format!("{key}\u{1f}{index}")
}

/// The position of the step that records the end of child number `index` of a call at `position`.
const fn item_position(position: u32, index: u32) -> u32 {
    position.saturating_add(index).saturating_add(1)
}

/// The calls of a function that wait for children at the same time, each with its key and its position.
fn calls_of(park: &Park) -> impl Iterator<Item = (&str, u32, &Runs)> {
    let runs = park.runs.as_deref();
    let beside = runs.into_iter().flat_map(|runs| &runs.beside);
    let beside = beside.map(|call| (call.key.as_str(), call.position, &call.runs));
    (runs.into_iter())
        .map(|runs| (park.key.as_str(), park.position, runs))
        .chain(beside)
}

/// Returns the names of the workflows whose children a function waits for.
pub fn called_workflows(park: &Park) -> impl Iterator<Item = &str> {
    calls_of(park).map(|(_, _, runs)| runs.workflow.as_str())
}

/// Applies `change` to each call that `calls_of` returns. `change` must not use `Runs::beside`, because this list of the
/// other calls is empty while `change` runs.
fn change_calls(park: &mut Park, mut change: impl FnMut(&str, &mut Runs)) {
    let Some(runs) = park.runs.as_deref_mut() else {
        return;
    };
    let mut beside = std::mem::take(&mut runs.beside);
    change(&park.key, runs);
    for call in &mut beside {
        change(&call.key, &mut call.runs);
    }
    runs.beside = beside;
}

/// The value of the step that records a child's end: the child's output, or the error that the function raises.
fn value_of(end: &ChildEnd, workflow: &str) -> Json {
    if end.status == ExecutionStatus::Completed {
        let output = end.output.as_ref().map_or("null", Json::as_str);
        return Json::from_encoder(format!(r#"{{"value":{output}}}"#));
    }
    let error = end.error.as_ref();
    let failed = serde_json::json!({ "failed": {
        "child": end.child,
        "status": end.status.name(),
        "error": error.map(|error| serde_json::json!({ "type": error.kind, "message": error.message })),
        "message": end.message(workflow),
    }});
    Json::from_encoder(failed.to_string())
}
