//! The beginning of a wait: the parts of its condition, their positions in topics, and their due times (L1, L3–L5, T5).

use std::sync::Arc;

use super::paths::{filled, key_at, time_at};
use super::{NEVER, next_check};
use crate::engine::{Changes, Execution};
use crate::types::{
    Claim, Condition, Context, Cursor, ExecutionStatus, Failure, FailureKind, HistoryKind, Json,
    Leaf, OpenWait, Ordinal, Park, Since, TaskStatus, TaskWait, Timestamp, Topic,
};
use crate::workflow::condition_problem;

impl Execution {
    /// L5: begins the wait, child or map that a task's definition declares, when the task becomes ready. Returns `false` if
    /// the task can run, because its definition declares none of these or because the wait is over.
    pub(in crate::engine) fn register_declared(
        &mut self,
        ordinal: Ordinal,
        now: Timestamp,
        changes: &mut Changes,
    ) -> bool {
        let definition = self.definition(ordinal);
        if definition.child.is_some() && definition.over.is_none() {
            self.register_child(ordinal, now, changes);
            return true;
        }
        if definition.over.is_some() {
            self.register_map(ordinal, now, changes);
            return true;
        }
        if definition.approval.is_none() && definition.wait_for.is_none() {
            return false;
        }
        let wait = self.task(ordinal).wait.as_ref();
        if wait.is_some_and(|wait| wait.passed) {
            let only_waits = self.only_waits_at(ordinal);
            if only_waits {
                // Q5: the wait ended before a retry, and its result was kept.
                let task = self.task_mut(ordinal);
                task.status = TaskStatus::Completed;
                task.ended_at = Some(now);
                changes.ended_tasks.push(ordinal);
            }
            return only_waits;
        }
        let (condition, timeout) = (definition.wait_for.clone(), definition.wait_timeout);
        let view = self.view(ordinal);
        let base = self.record.start_at.map_or(now, |at| at.max(now));
        let leaves = match &condition {
            None => Ok(Vec::new()),
            Some(condition) => self.leaves_of(ordinal, condition, &view, base),
        };
        match leaves {
            Err(problem) => {
                let failure = Failure::engine(FailureKind::Rule, problem);
                let task = self.task_mut(ordinal);
                task.status = TaskStatus::Failed;
                task.ended_at = Some(now);
                task.error = Some(failure);
                changes.ended_tasks.push(ordinal);
            }
            Ok(leaves) => {
                let title = self.approval_title(ordinal, &view);
                let open = OpenWait {
                    since: now,
                    deadline: timeout.map(|timeout| base + timeout),
                    leaves,
                    park: None,
                    title,
                };
                self.task_mut(ordinal).status = TaskStatus::Ready;
                self.open_wait(ordinal, open, None, now, changes);
                self.start_by_waiting(now, changes);
            }
        }
        true
    }

    /// T5: makes a task wait after its function has exited in order to wait. The attempt is not counted.
    pub(in crate::engine) fn park(
        &mut self,
        ordinal: Ordinal,
        claim: Claim,
        park: Park,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let view = self.view(ordinal);
        // A call that starts children has no condition to check.
        let condition = Some(&park.condition).filter(|_| park.runs.is_none());
        let leaves = match condition.and_then(condition_problem) {
            Some(problem) => {
                let id = &self.definition(ordinal).id;
                Err(format!("wait '{}' of task '{id}' has {problem}", park.key))
            }
            None => self.leaves_of(ordinal, &park.condition, &view, now),
        };
        let leaves = match leaves {
            Ok(leaves) => leaves,
            Err(problem) => {
                let failure = Failure::engine(FailureKind::Rule, problem);
                return self.fail_task(ordinal, failure, now, changes);
            }
        };
        let open = OpenWait {
            since: now,
            deadline: park.timeout.map(|timeout| now + timeout),
            leaves,
            park: Some(park),
            title: None,
        };
        let is_paused = self.record.status == ExecutionStatus::Paused;
        self.note_ran(ordinal, changes);
        let task = self.task_mut(ordinal);
        let start = task.unrecorded_start();
        if let Some(start) = start {
            let wait = task.wait.get_or_insert_default();
            Arc::make_mut(wait).begun = Some((task.attempt, start));
        }
        task.attempt -= 1;
        task.runner = None;
        task.started_at = None;
        task.status = if is_paused {
            TaskStatus::Pending
        } else {
            TaskStatus::Ready
        };
        self.open_wait(ordinal, open, Some((claim, start)), now, changes);
        self.begin_runs(ordinal, now, changes);
    }

    /// T5: returns the parts of the condition for which a running function waits, or `None` if the condition is not
    /// valid.
    #[must_use]
    pub fn leaves_now(&self, ordinal: Ordinal, park: &Park, now: Timestamp) -> Option<Vec<Leaf>> {
        if condition_problem(&park.condition).is_some() {
            return None;
        }
        // Conditions in code contain literal keys, so no context is needed.
        (self.leaves_of(ordinal, &park.condition, &Context::new(), now)).ok()
    }

    /// Opens a wait. `attempt`: the claim of the attempt whose function waits, and the attempt's start, if no earlier event
    /// contains this start.
    pub(in crate::engine) fn open_wait(
        &mut self,
        ordinal: Ordinal,
        open: OpenWait,
        attempt: Option<(Claim, Option<Timestamp>)>,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let mut data = serde_json::json!({
            "for": self.names_of(ordinal, &open),
            "deadline": open.deadline.map(Timestamp::to_rfc3339),
            "step": open.park.as_ref().map(|park| &park.key),
        });
        if let Some((_, Some(start))) = attempt {
            data["started_at"] = serde_json::json!(start);
        }
        changes.record(
            now,
            HistoryKind::Waiting,
            attempt.map(|(claim, _)| (ordinal, claim)),
            Json::encode(&data).ok(),
        );
        if attempt.is_none()
            && let Some(event) = changes.history.last_mut()
        {
            event.task = Some(ordinal);
        }
        let next = next_check(&open);
        let task = self.task_mut(ordinal);
        task.ready_at = Some(next);
        let mut wait = task
            .wait
            .take()
            .map_or_else(TaskWait::default, Arc::unwrap_or_clone);
        wait.open = Some(open);
        wait.decision = None;
        task.wait = Some(Arc::new(wait));
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
    }

    /// Starts the execution when a task begins to wait. The execution's timeout counts from this start.
    pub(in crate::engine) fn start_by_waiting(&mut self, now: Timestamp, changes: &mut Changes) {
        let status = self.record.status;
        if self.record.start_at.is_some_and(|at| at > now)
            || !matches!(status, ExecutionStatus::Pending | ExecutionStatus::Running)
        {
            return;
        }
        self.record.status = ExecutionStatus::Running;
        if self.record.started_at.is_none() {
            self.record.started_at = Some(now);
            changes.flow.started = true;
        }
        if let Some(timeout) = self.record.timeout {
            self.record.deadline.get_or_insert(now + timeout);
        }
    }

    /// L1, L3, L4: the parts of a condition, with their positions in topics and the due times of their timers.
    fn leaves_of(
        &self,
        ordinal: Ordinal,
        condition: &Condition,
        view: &Context,
        base: Timestamp,
    ) -> Result<Vec<Leaf>, String> {
        let id = &self.definition(ordinal).id;
        let leaves = condition.leaves().into_iter().map(|leaf| match leaf {
            Condition::Signal {
                name,
                key,
                key_value,
                since,
            } => {
                let key = match key {
                    None => key_value.clone(),
                    Some(path) => Some(key_at(view, path).map_err(|problem| {
                        format!("task '{id}' waits for signal '{name}' with a key at '{path}', but {problem}")
                    })?),
                };
                let cursors = self.cursors_of(ordinal, name, key.as_deref(), *since);
                Ok(Leaf::Signal {
                    name: name.clone(),
                    key,
                    cursors,
                    taken: None,
                })
            }
            Condition::Delay { duration } => Ok(Leaf::Timer {
                at: base + *duration,
                shifts: true,
                fired: false,
            }),
            Condition::Until { at, path } => {
                let at = match (at, path) {
                    (Some(at), _) => *at,
                    (None, path) => {
                        let path = path.as_deref().unwrap_or_default();
                        time_at(view, path).map_err(|problem| {
                            format!("task '{id}' waits until the time at '{path}', but {problem}")
                        })?
                    }
                };
                Ok(Leaf::Timer {
                    at,
                    shifts: false,
                    fired: false,
                })
            }
            // Not reached, because a leaf contains no other conditions.
            Condition::AnyOf { .. } | Condition::AllOf { .. } => Ok(Leaf::Timer {
                at: NEVER,
                shifts: false,
                fired: false,
            }),
        });
        leaves.collect()
    }

    /// L3, L4: the positions in a signal's topics after which the wait takes signals. The position is the last signal that
    /// an ancestor, or an earlier run of this task, took. If none of them took a signal, the wait takes any signal sent
    /// since the submission of the execution. From the mailbox, or with `since="ever"`, the wait also takes earlier
    /// signals.
    fn cursors_of(
        &self,
        ordinal: Ordinal,
        name: &str,
        key: Option<&str>,
        since: Since,
    ) -> Vec<Cursor> {
        let mut topics = vec![(Topic::keyed(name, key), since == Since::Ever)];
        if key.is_none() {
            topics.push((Topic::mailbox(name, self.record.id), true));
        }
        let ancestors = self.workflow.graph().ancestors(ordinal);
        let earlier = ancestors.iter().copied().chain([ordinal]);
        let waits: Vec<&TaskWait> = earlier
            .filter_map(|task| self.task(task).wait.as_deref())
            .collect();
        topics
            .into_iter()
            .map(|(topic, from_first)| {
                let taken = waits.iter().filter_map(|wait| wait.taken.get(&topic)).max();
                Cursor {
                    after: taken.copied().unwrap_or(0),
                    since: (taken.is_none() && !from_first).then_some(self.record.created_at),
                    topic,
                }
            })
            .collect()
    }

    fn approval_title(&self, ordinal: Ordinal, view: &Context) -> Option<String> {
        let title = self.definition(ordinal).approval.as_ref()?.title.as_ref()?;
        Some(filled(title, view))
    }
}
