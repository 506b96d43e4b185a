//! Final tasks and compensations (semantics Q).
//!
//! The transaction that ends an execution also submits an execution of the derived workflow. Its input is the final context of
//! the ordinary tasks, and `error`. Tasks that are not to run after this kind of end are skipped at once. No final task starts
//! while attempts of the first execution may still run.

use std::sync::Arc;

use super::view::final_context;
use super::{Changes, ControlError, Execution, NewExecution};
use crate::types::{
    Claim, Context, DefinitionId, ExecutionId, ExecutionStatus, Finale, HeldAttempt, HistoryEvent,
    HistoryKind, Json, NodeChild, Note, Ordinal, ParentLink, Post, Skip, SkipCause, TaskStatus,
    Timestamp,
};
use crate::workflow::{FinalRole, TaskDefinition, Workflow};

/// The input key under which final tasks find the error of the first execution, or `null`.
pub const ERROR_KEY: &str = "error";

/// A request to run the final tasks of an execution that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalDue {
    /// The attempts that may still run.
    pub held: Vec<HeldAttempt>,
}

/// An execution of final tasks to submit in the transaction that ends the first execution.
#[derive(Clone, Debug)]
pub struct FinalStart {
    /// The execution.
    pub new: NewExecution,
    /// Its link to the first execution.
    pub parent: Arc<ParentLink>,
    /// The tasks that do not run, with the reason.
    pub skipped: Vec<(Ordinal, String)>,
}

/// The state of the final tasks that a retry must know (Q5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinalState {
    /// Whether the execution of the final tasks has not ended.
    pub is_open: bool,
    /// The tasks of the first execution that count as not done.
    pub undone: Vec<Ordinal>,
    /// The tasks of the first execution whose compensation has completed.
    pub compensated: Vec<Ordinal>,
}

impl FinalState {
    /// Returns the state of the final tasks from their execution. `first`: the workflow of the first execution.
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

/// Maximum number of attempts of a task that are remembered because they have overrun their timeouts.
const MAX_OVERRAN: usize = 16;

impl Execution {
    /// Q1: requests the final tasks of an execution that has ended, if any of them is to run after this kind of end.
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
            items: false,
        });
        changes.flow.finale = Some(FinalDue {
            held: held.collect(),
        });
        self.final_state = Some(FinalState {
            is_open: true,
            ..FinalState::default()
        });
    }

    /// Q2: remembers an attempt that has overrun its timeout, because its function may still run when final tasks are to start.
    pub(super) fn note_overrun(&mut self, ordinal: Ordinal, claim: Claim, changes: &mut Changes) {
        if self.workflow.finals().is_none() {
            return;
        }
        let task = self.task_mut(ordinal);
        let overran = &mut Arc::make_mut(task.wait.get_or_insert_default()).overran;
        overran.push((claim.runner, claim.attempt));
        overran.drain(..overran.len().saturating_sub(MAX_OVERRAN));
        changes.flow.waits.insert(ordinal);
    }

    /// Whether a task of the derived workflow is to run after the end of this execution (Q1, Q3).
    fn is_eligible(&self, task: &TaskDefinition) -> bool {
        match &task.role {
            Some(FinalRole::Final { on, .. }) => on.matches(self.record.status),
            Some(FinalRole::Compensation { failed }) => {
                let Some(ordinal) = self.workflow.ordinal(&task.id) else {
                    return false;
                };
                let forward = self.task(ordinal);
                let has_partial_effects = match forward.status {
                    // Its items may have run, each under attempts of its own.
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
                        // The attempts before a retry of the execution do not count, but those lost with a runner do.
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

    /// Returns the execution of the final tasks to submit in the transaction that ends this one. `id` is fresh, `definition`
    /// the stored version of the derived workflow. `None`: the execution has no final tasks.
    pub fn start_finale(
        &mut self,
        due: FinalDue,
        id: ExecutionId,
        definition: DefinitionId,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Option<FinalStart> {
        let finals = Arc::clone(self.workflow.finals()?);
        let earlier = self.record.finale.as_deref();
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
            generation: earlier.map_or(0, |link| link.generation) + 1,
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
                // Q4: neither the deadline of the first execution nor a default timeout applies to the clean-up.
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

    /// Q2: the final context of the ordinary tasks, without the keys of missing results, and with the error.
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

    /// Returns the new execution of final tasks.
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

    /// Starts the tasks without open dependencies, unless an attempt of the first execution may still run.
    fn begin_finale(&mut self, now: Timestamp, changes: &mut Changes) {
        let mut all: Vec<Ordinal> = self.workflow.graph().order().to_vec();
        all.reverse();
        self.propagate(all, now, changes);
    }

    /// Q2: the attempts of the first execution that may still run. While there are any, no final task starts.
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

    /// Q2: an attempt of the first execution has ended, or is lost.
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

    /// Tells a retry the state of the final tasks. Without this call, a retry assumes that they are still open.
    pub fn learn_final_state(&mut self, state: FinalState) {
        self.final_state = Some(state);
    }

    /// Whether the final tasks of the execution are open, as far as is known.
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

    /// Q5: the tasks that count as not done because a compensation or a final task undid them. They include compensated tasks
    /// that failed, because the effects of their steps and children were undone too.
    pub(super) fn undone_by_finale(&self) -> Vec<Ordinal> {
        let undone = self.final_state.iter().flat_map(|state| &state.undone);
        let is_done = |task: &&Ordinal| {
            let known = self.record.tasks.get(**task as usize);
            known.is_some_and(|known| known.status == TaskStatus::Completed)
                || self.was_compensated(**task)
        };
        undone.filter(is_done).copied().collect()
    }

    /// The key that makes the effects of a task idempotent: the same in every attempt of a task, and in its compensation. It
    /// changes once the task was compensated.
    #[must_use]
    pub fn forward_key(&self, task: Ordinal) -> Option<String> {
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
        Some(key_of(self.record.id, id, self.times_compensated(task)))
    }

    /// How often the compensation of a task has completed before a retry of the execution.
    fn times_compensated(&self, task: Ordinal) -> u32 {
        let wait = self.task(task).wait.as_ref();
        wait.map_or(0, |wait| wait.compensated)
    }

    /// Whether the child of an incomplete node may have done part of its work in this run of the node.
    fn has_run_child(&self, node: Ordinal) -> bool {
        let failed = self.task(node).status == TaskStatus::Failed;
        // If the node did not fail, its failed child was to be retried, but has not run again.
        let has_run = |child: &NodeChild| failed || child.status != Some(ExecutionStatus::Failed);
        self.node_child(node).is_some_and(has_run)
    }

    /// Whether the function of a task has run in attempts that do not count.
    fn has_run(&self, task: Ordinal) -> bool {
        let wait = self.task(task).wait.as_ref();
        wait.is_some_and(|wait| wait.has_run)
    }

    /// Q3: notes that a task's function has run in an attempt that does not count, if its compensation also undoes failures.
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
