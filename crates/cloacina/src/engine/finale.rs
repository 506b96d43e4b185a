//! Final tasks and compensations (semantics Q).
//!
//! The transaction that ends an execution also submits a second execution, which runs the final tasks. Its workflow is derived
//! from the final tasks and compensations, and its input is the final context of the ordinary tasks together with `error`.
//! Final tasks that do not apply to the first execution's status are skipped. None starts while its attempts can still run.

use std::sync::Arc;

use super::view::final_context;
use super::{Changes, ControlError, Execution, NewExecution};
use crate::types::{
    Claim, Context, DefinitionId, ExecutionId, ExecutionStatus, Finale, HeldAttempt, HistoryEvent,
    HistoryKind, Json, NodeChild, Note, Ordinal, ParentLink, Post, Skip, SkipCause, TaskStatus,
    Timestamp,
};
use crate::workflow::{ERROR_KEY, FinalRole, TaskDefinition, Workflow};

/// A request to run the final tasks of an execution that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalDue {
    /// The attempts that can still be running.
    pub held: Vec<HeldAttempt>,
}

/// The execution of final tasks to submit in the transaction that ends the first execution.
#[derive(Clone, Debug)]
pub struct FinalStart {
    /// The execution.
    pub new: NewExecution,
    /// Its link to the first execution.
    pub parent: Arc<ParentLink>,
    /// The tasks that do not run, each with the reason.
    pub skipped: Vec<(Ordinal, String)>,
}

/// The state of an execution's final tasks, as far as a retry of the execution needs it (Q5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalState {
    /// Whether the execution of the final tasks has not ended.
    pub is_open: bool,
    /// The tasks of the first execution that count as not done, because a final task or a compensation undid them.
    pub undone: Vec<Ordinal>,
    /// The tasks of the first execution whose compensation has completed.
    pub compensated: Vec<Ordinal>,
}

impl FinalState {
    /// Returns the state of final tasks, from the execution that runs them. `first`: the workflow of the first execution.
    #[must_use]
    pub fn of(finale: &Execution, first: &Workflow) -> Self {
        let done = || {
            (0..)
                .zip(&finale.record().tasks)
                .filter(|(_, task)| task.status == TaskStatus::Completed)
                .map(|(ordinal, _)| finale.workflow().task(ordinal))
        };
        let compensated = done()
            .filter(|task| matches!(task.role, Some(FinalRole::Compensation { .. })))
            .filter_map(|task| first.ordinal(&task.id))
            .collect();
        let mut undone: Vec<Ordinal> = done()
            .flat_map(|task| match &task.role {
                Some(FinalRole::Compensation { .. }) => std::slice::from_ref(&task.id),
                Some(FinalRole::Final { undoes, .. }) => undoes.as_slice(),
                None => &[],
            })
            .filter_map(|id| first.ordinal(id))
            .collect();
        undone.sort_unstable();
        undone.dedup();
        Self {
            is_open: !finale.record().status.is_terminal(),
            undone,
            compensated,
        }
    }
}

/// For each task, the maximum number of remembered attempts that overran their timeouts. Final tasks ignore older attempts.
const MAX_OVERRAN: usize = 16;
/// The attempt number under which overrun attempts of a map's items are remembered. One remembered entry stands for all
/// attempts of items that one runner may still be running. Final tasks wait for all of these attempts.
const ITEMS: u32 = 0;

impl Execution {
    /// Q1: requests the final tasks of an execution that has ended, if at least one of them applies to its final status.
    pub(super) fn request_finale(&mut self, changes: &mut Changes) {
        let Some(finals) = self.workflow.finals() else {
            return;
        };
        let mut tasks = finals.definition().tasks.iter();
        if !tasks.any(|task| self.is_eligible(task)) {
            return;
        }
        let execution = self.record.id;
        let mut attempts = changes.interrupted.clone();
        for (task, record) in (0..).zip(&self.record.tasks) {
            let overran = record.wait.iter().flat_map(|wait| &wait.overran);
            let others = overran.map(|(runner, attempt)| (task, Claim::of_task(*runner, *attempt)));
            let others: Vec<_> = others.filter(|other| !attempts.contains(other)).collect();
            attempts.extend(others);
        }
        let held = attempts.into_iter().map(|(task, claim)| HeldAttempt {
            execution,
            task,
            runner: claim.runner,
            attempt: claim.attempt,
            items: claim.attempt == ITEMS,
        });
        changes.flow.finale = Some(FinalDue {
            held: held.collect(),
        });
        self.final_state = Some(FinalState {
            is_open: true,
            ..FinalState::default()
        });
    }

    /// Q2: remembers an attempt that overran its timeout. Its function may still be running when the execution ends, and final
    /// tasks must wait for it.
    pub(super) fn note_overrun(&mut self, ordinal: Ordinal, claim: Claim, changes: &mut Changes) {
        if self.workflow.finals().is_none() {
            return;
        }
        let attempt = claim.item.map_or(claim.attempt, |_| ITEMS);
        let task = self.task_mut(ordinal);
        let known = task.wait.as_deref().map(|wait| &wait.overran);
        if known.is_some_and(|known| known.contains(&(claim.runner, attempt))) {
            return;
        }
        let overran = &mut Arc::make_mut(task.wait.get_or_insert_default()).overran;
        overran.push((claim.runner, attempt));
        overran.drain(..overran.len().saturating_sub(MAX_OVERRAN));
        changes.flow.waits.insert(ordinal);
    }

    /// Q2: remembers that an item overran its timeout. Returns `None` if that changes nothing.
    #[must_use]
    pub fn note_item_overrun(&mut self, ordinal: Ordinal, claim: Claim) -> Option<Changes> {
        let mut changes = Changes::default();
        self.note_overrun(ordinal, claim, &mut changes);
        (!changes.flow.waits.is_empty()).then_some(changes)
    }

    /// Whether a task of the derived workflow runs after the end of this execution (Q1, Q3).
    fn is_eligible(&self, task: &TaskDefinition) -> bool {
        match &task.role {
            Some(FinalRole::Final { on, .. }) => on.matches(self.record.status),
            Some(FinalRole::Compensation { failed }) => {
                let Some(ordinal) = self.workflow.ordinal(&task.id) else {
                    return false;
                };
                let forward = self.task(ordinal);
                let has_partial_effects = match forward.status {
                    // Some items of the map may have run. The attempt number of the map does not count their attempts.
                    TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::Skipped
                        if self.has_items(ordinal) =>
                    {
                        true
                    }
                    TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::Skipped
                        if self.has_run(ordinal) || self.has_run_child(ordinal) =>
                    {
                        true
                    }
                    TaskStatus::Failed => forward.attempt > 0,
                    TaskStatus::Cancelled | TaskStatus::Skipped => {
                        // Attempts before a retry of the execution do not count. Attempts that were lost with a runner do.
                        forward.attempt > forward.uncounted
                            || forward.rescues > 0
                            || forward.error.is_some()
                    }
                    _ => false,
                };
                self.record.status != ExecutionStatus::Completed
                    && (forward.status == TaskStatus::Completed || (*failed && has_partial_effects))
            }
            None => false,
        }
    }

    /// Returns the execution of the final tasks, which is submitted in the transaction that ends this execution. `id`: a fresh
    /// id; `definition`: the stored version of the derived workflow. Returns `None` if the execution has no final tasks.
    pub fn start_finale(
        &mut self,
        due: FinalDue,
        id: ExecutionId,
        definition: DefinitionId,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Option<FinalStart> {
        let finals = Arc::clone(self.workflow.finals()?);
        let earlier = (self.record.finale.as_ref()).map_or(0, |link| link.generation);
        let mut compensated = Vec::new();
        let mut skipped = Vec::new();
        for (ordinal, task) in (0..).zip(&finals.definition().tasks) {
            if !self.is_eligible(task) {
                skipped.push((ordinal, self.reason_of_skip(task)));
                continue;
            }
            if matches!(task.role, Some(FinalRole::Compensation { .. }))
                && let Some(forward) = self.workflow.ordinal(&task.id)
            {
                let times = self.times_compensated(forward);
                compensated.extend((times > 0).then(|| (task.id.clone(), times)));
            }
        }
        let depth = self.record.parent.as_ref().map_or(0, |link| link.depth) + 1;
        let link = Arc::new(ParentLink {
            execution: self.record.id,
            task: 0,
            // If the previous final tasks were deleted, their link is gone, but `finals_before` still has its generation.
            generation: earlier.max(self.record.finals_before()) + 1,
            key: None,
            item: None,
            depth,
            paused: false,
            timeout: None,
            finale: Some(Box::new(Finale {
                id,
                compensated,
                held: due.held.clone(),
            })),
        });
        self.record.finale = Some(Arc::clone(&link));
        for attempt in due.held {
            changes.flow.posts.push(Post {
                target: id,
                note: Note::AttemptEnded(attempt),
            });
        }
        let data = serde_json::json!({ "execution": id, "workflow": finals.name() });
        changes.history.push(HistoryEvent {
            time: now,
            kind: HistoryKind::FinalStarted.name().to_owned(),
            task: None,
            attempt: None,
            runner: None,
            data: Json::encode(&data).ok(),
        });
        Some(FinalStart {
            new: NewExecution {
                id,
                definition,
                input: Arc::new(self.final_input(&finals)),
                key: None,
                priority: self.record.priority,
                start_at: None,
                // Q4: neither the deadline of the first execution nor a default timeout applies to the final tasks.
                timeout: None,
            },
            parent: link,
            skipped,
        })
    }

    fn reason_of_skip(&self, task: &TaskDefinition) -> String {
        let status = self.record.status;
        match &task.role {
            Some(FinalRole::Compensation { .. }) if status != ExecutionStatus::Completed => {
                format!(
                    "task '{}' did not complete, so there is nothing to undo",
                    task.id
                )
            }
            _ => format!("the execution ended as {status}"),
        }
    }

    /// Q2: returns the final context of the ordinary tasks, with the error added. If a final task reads the result of a
    /// task that did not complete, the key of this result is removed, unless a completed task wrote the key.
    fn final_input(&self, finals: &Workflow) -> Context {
        let mut input = final_context(&self.workflow, &self.record);
        let tasks = self.workflow.definition().tasks.iter();
        for (task, record) in tasks.zip(&self.record.tasks) {
            let key = task.result.as_deref().unwrap_or(&task.id);
            let is_read = |reader: &TaskDefinition| {
                (reader.parameters.iter()).any(|parameter| parameter.key() == key)
            };
            if record.status != TaskStatus::Completed
                && finals.definition().tasks.iter().any(is_read)
                && !self.is_written(key)
            {
                input.remove(key);
            }
        }
        let error = Json::encode(&self.error_of_end());
        input.set(
            ERROR_KEY,
            error.unwrap_or_else(|_| Json::from_encoder("null")),
        );
        input
    }

    /// Whether a completed task has written a key.
    fn is_written(&self, key: &str) -> bool {
        self.record.tasks.iter().any(|task| {
            let delta = task.delta.as_ref();
            task.status == TaskStatus::Completed
                && delta.is_some_and(|delta| delta.set.contains_key(key))
        })
    }

    fn error_of_end(&self) -> Option<serde_json::Value> {
        let name = self.workflow.name();
        match (&self.record.error, self.record.status) {
            (Some((task, failure)), _) => Some(serde_json::json!({
                "type": failure.kind,
                "message": failure.message,
                "task": task.map(|task| &self.definition(task).id),
                "traceback": failure.traceback,
            })),
            (None, ExecutionStatus::Cancelled) => Some(serde_json::json!({
                "type": "Cancelled",
                "message": format!("execution {} of workflow '{name}' was cancelled", self.record.id),
                "task": null,
                "traceback": null,
            })),
            (None, _) => None,
        }
    }

    /// Returns a new execution of final tasks.
    #[must_use]
    pub fn submit_finale(
        workflow: Arc<Workflow>,
        start: FinalStart,
        now: Timestamp,
    ) -> (Self, Changes) {
        let mut execution = Self::unstarted(workflow, start.new, Some(start.parent), now);
        let mut changes = Changes::default();
        for (ordinal, reason) in start.skipped {
            let task = execution.task_mut(ordinal);
            task.status = TaskStatus::Skipped;
            task.ended_at = Some(now);
            task.skip = Some(Skip {
                cause: SkipCause::Rule,
                reason,
            });
            changes.touch(ordinal);
        }
        execution.count_open();
        execution.begin_finale(now, &mut changes);
        (execution, changes)
    }

    /// Starts the final tasks that have no open dependencies, unless an attempt of the first execution can still be running.
    fn begin_finale(&mut self, now: Timestamp, changes: &mut Changes) {
        let mut all: Vec<Ordinal> = self.workflow.graph().order().to_vec();
        all.reverse();
        self.propagate(all, now, changes);
    }

    /// Q2: the attempts of the first execution that can still be running. While this list is not empty, no final task starts.
    #[must_use]
    pub fn held_attempts(&self) -> &[HeldAttempt] {
        let finale = self.finale();
        finale.map_or(&[], |finale| finale.held.as_slice())
    }

    /// For an execution of final tasks, the facts about the first execution; `None` for any other execution.
    #[must_use]
    pub fn finale(&self) -> Option<&Finale> {
        self.record.parent.as_ref()?.finale.as_deref()
    }

    /// Q2: notes that an attempt of the first execution has ended or is lost. After the last such attempt, the final tasks
    /// start.
    pub fn attempt_ended(&mut self, ended: HeldAttempt, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        if !self.held_attempts().contains(&ended) {
            return changes;
        }
        if let Some(link) = &mut self.record.parent
            && let Some(finale) = &mut Arc::make_mut(link).finale
        {
            finale.held.retain(|held| *held != ended);
            changes.flow.link = true;
        }
        if !self.record.status.is_terminal() {
            self.begin_finale(now, &mut changes);
        }
        changes
    }

    /// Sets the state of the final tasks before a retry. Without this call, a retry assumes that they are still open.
    pub fn learn_final_state(&mut self, state: FinalState) {
        self.final_state = Some(state);
    }

    /// Whether the final tasks of the execution are open, or may be open because their state is not known.
    #[must_use]
    pub fn has_open_finale(&self) -> bool {
        match &self.final_state {
            Some(state) => state.is_open,
            None => self.record.finale.is_some(),
        }
    }

    /// Q5: refuses a retry while the execution of the final tasks is open.
    pub(super) fn refuse_open_finale(&self) -> Result<(), ControlError> {
        if !self.has_open_finale() {
            return Ok(());
        }
        Err(self.control_error(
            "cannot be retried while its final tasks are open",
            Some("wait until they have ended, or cancel their execution"),
        ))
    }

    /// Q3: whether the compensation of a task has completed, according to [`learn_final_state`](Self::learn_final_state).
    pub(super) fn was_compensated(&self, task: Ordinal) -> bool {
        let state = self.final_state.as_ref();
        state.is_some_and(|state| state.compensated.contains(&task))
    }

    /// Q5: the tasks that count as not done, because a compensation or a final task undid them. Among them are compensated
    /// tasks that failed, because the compensation also undid the effects of their steps and children.
    pub(super) fn undone_by_finale(&self) -> Vec<Ordinal> {
        let undone = self.final_state.iter().flat_map(|state| &state.undone);
        let is_done = |task: &&Ordinal| {
            let known = self.record.tasks.get(**task as usize);
            known.is_some_and(|known| known.status == TaskStatus::Completed)
                || self.was_compensated(**task)
        };
        undone.filter(is_done).copied().collect()
    }

    /// The idempotency key for the effects of a task or item: the same in all attempts and in the compensation, and a
    /// new one once the compensation has completed. `None` in a final task, or if `finals` of the workflow is `None`.
    #[must_use]
    pub fn forward_key(&self, task: Ordinal, item: Option<u32>) -> Option<String> {
        let id = &self.definition(task).id;
        if let Some(finale) = self.finale() {
            let is_compensation = matches!(
                self.definition(task).role,
                Some(FinalRole::Compensation { .. })
            );
            let first = self.record.parent.as_ref()?.execution;
            return is_compensation.then(|| key_of(first, id, finale.times(id)));
        }
        self.workflow.finals()?;
        let id = item.map_or_else(|| id.clone(), |item| format!("{id}[{item}]"));
        Some(key_of(self.record.id, &id, self.times_compensated(task)))
    }

    /// Q5: records, at a retry, the generation of the last final tasks, because they do not belong to the execution's next end.
    pub(super) fn leave_final_tasks(&mut self, changes: &mut Changes) {
        if let Some(generation) = self.record.finale.as_ref().map(|link| link.generation) {
            let wait = self.task_mut(0).wait.get_or_insert_default();
            Arc::make_mut(wait).finals_before = generation;
            changes.touch(0);
            changes.flow.waits.insert(0);
        }
    }

    /// The number of times that a compensation of the task completed and the execution was then retried.
    fn times_compensated(&self, task: Ordinal) -> u32 {
        let wait = self.task(task).wait.as_ref();
        wait.map_or(0, |wait| wait.compensated)
    }

    /// Whether the child of an incomplete node may have done part of its work since the node was last reset.
    fn has_run_child(&self, node: Ordinal) -> bool {
        let failed = self.task(node).status == TaskStatus::Failed;
        // If only the child failed, a retry has reset the node. The child has run since then if it has a new end.
        let failed_before = |child: &NodeChild| child.status == Some(ExecutionStatus::Failed);
        let has_run = |child| failed || !failed_before(child) || child.end.is_some();
        self.node_child(node).is_some_and(has_run)
    }

    /// Whether the function of a task has run in attempts that are not counted.
    fn has_run(&self, task: Ordinal) -> bool {
        let wait = self.task(task).wait.as_ref();
        wait.is_some_and(|wait| wait.has_run)
    }

    /// Q3: notes that a task's function has run in an attempt that is not counted. This is only needed if the task's
    /// compensation also undoes failed attempts.
    pub(super) fn note_ran(&mut self, ordinal: Ordinal, changes: &mut Changes) {
        let id = &self.definition(ordinal).id;
        let asks = |task: &TaskDefinition| {
            task.id == *id && task.role == Some(FinalRole::Compensation { failed: true })
        };
        let finals = self.workflow.finals();
        if finals.is_some_and(|finals| finals.definition().tasks.iter().any(asks)) {
            let wait = self.task_mut(ordinal).wait.get_or_insert_default();
            Arc::make_mut(wait).has_run = true;
            changes.touch(ordinal);
            changes.flow.waits.insert(ordinal);
        }
    }
}

fn key_of(execution: ExecutionId, task: &str, times: u32) -> String {
    match times {
        0 => format!("{execution}/{task}"),
        times => format!("{execution}/{task}/{}", times + 1),
    }
}
